import importlib.util
import subprocess
import sys
import types

import pytest

from bonepipe import __version__, cli
from bonepipe.errors import BonepipeError, UsageError


@pytest.fixture
def command(monkeypatch):
    """Make `bonepipe score` run a function of the test."""

    def replace(function):
        monkeypatch.setitem(sys.modules, "bonepipe.cli.score", types.SimpleNamespace(main=function))

    monkeypatch.delenv("BONEPIPE_TRACEBACK", raising=False)
    return replace


def raising(error):
    def main(arguments):
        raise error

    return main


def test_help_lists_every_command(capsys):
    for word in ("-h", "--help", "help"):
        assert cli.main([word]) == 0
        printed = capsys.readouterr().out
        assert all(f"\n  {name} " in printed for name in cli.COMMANDS)
    assert cli.main([]) == 2


def test_every_command_has_a_module():
    names = [f"bonepipe.commands.{name.replace('-', '_')}" for name in ("phantom", "doctor", "split", "train", "score")]
    assert all(importlib.util.find_spec(name) for name in names)


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


def test_a_misspelt_command_is_wrong_usage(capsys):
    assert cli.main(["docter"]) == 2
    assert "no such command: 'docter'; did you mean 'doctor'?" in capsys.readouterr().err


def test_arguments_and_exit_code_are_handed_on(command):
    seen = []
    command(lambda arguments: seen.append(arguments) or 5)
    assert cli.main(["score", "a", "--json", "--traceback"]) == 5
    assert seen == [["a", "--json"]]
    command(lambda arguments: None)
    assert cli.main(["score"]) == 0


@pytest.mark.parametrize(("error", "code"), [(BonepipeError("x.png: bad"), 1), (UsageError("fold=9"), 2)])
def test_a_users_mistake_is_one_message(command, capsys, error, code):
    command(raising(error))
    assert cli.main(["score"]) == code
    assert capsys.readouterr().err == f"bonepipe score: {error}\n"


def test_the_traceback_where_it_is_asked_for(command, monkeypatch):
    command(raising(BonepipeError("x")))
    with pytest.raises(BonepipeError):
        cli.main(["score", "--traceback"])
    monkeypatch.setenv("BONEPIPE_TRACEBACK", "1")
    with pytest.raises(BonepipeError):
        cli.main(["score"])


def test_a_bug_is_not_hidden(command):
    command(raising(KeyError("bug")))
    with pytest.raises(KeyError):
        cli.main(["score"])


def test_interruption(command, capsys):
    command(raising(KeyboardInterrupt()))
    assert cli.main(["score"]) == 130
    assert "run the same command again" in capsys.readouterr().err


def test_help_and_file_tools_do_not_wait_for_torch():
    program = "import sys; from bonepipe.cli import main; main(['--help']); print('torch' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[-1] == "False"
