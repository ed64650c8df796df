import os
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


def test_help_of_a_command_in_both_ways(capsys):
    for name in cli.COMMANDS:
        assert cli.main([name, "--help"]) == 0
        shown = capsys.readouterr().out
        assert shown.startswith(f"usage: bonepipe {name} ")
        assert cli.main(["help", name]) == 0
        assert capsys.readouterr().out == shown
    assert cli.main(["help", "docter"]) == 2
    assert "did you mean 'doctor'?" in capsys.readouterr().err


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
    assert "bonepipe score: stopped by SIGINT; the same command goes on" in capsys.readouterr().err


def test_a_file_that_cannot_be_read_is_one_line(command, capsys, tmp_path):
    command(lambda _: tmp_path.read_text())
    assert cli.main(["score"]) == 1
    way_out = "a folder, where a file is needed: name a file, or move the folder away"
    assert capsys.readouterr().err == f"bonepipe score: {tmp_path}: Is a directory; {way_out}\n"
    command(raising(OSError("no file's fault")))
    with pytest.raises(OSError, match="no file's fault"):
        cli.main(["score"])


HELP = """
import sys
from bonepipe.cli import COMMANDS, main
for words in (["--help"], *([name, "--help"] for name in COMMANDS)):
    assert main(words) == 0
    heavy = {"torch", "pytorch_lightning", "hydra", "pandas", "numpy"} & sys.modules.keys()
    assert not heavy, (words, heavy)
"""


def test_no_help_waits_for_torch_or_its_like():
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_away_leaves_no_traceback(phantom_root, tmp_path, unbuffered):
    (tmp_path / "empty.csv").write_text("image_name,class,rle\n")
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    for words in (f"check empty.csv --data '{phantom_root}'", "--help", "options loss", "help options"):
        script = f"'{sys.executable}' -m bonepipe {words} | true; exit ${{PIPESTATUS[0]}}"
        done = subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.stderr == ""
        assert done.returncode in (0, 1, 141)  # 1: all was written before the reader left
    script = f"'{sys.executable}' -m bonepipe check empty.csv --data '{phantom_root}' | head -1"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stderr, done.stdout.count("\n")) == ("", 1)


def test_an_output_that_takes_nothing_is_told_in_one_line(phantom_root, tmp_path):
    """Standard output that is full, or that the shell closed; what is to be done is done."""
    (tmp_path / "empty.csv").write_text("image_name,class,rle\n" + 999 * "more faults than the buffer holds,x,\n")
    command = f"'{sys.executable}' -m bonepipe check empty.csv --data '{phantom_root}'"
    full, closed = (
        subprocess.run(["bash", "-c", f"{command} {where}"], cwd=tmp_path, capture_output=True, text=True, check=False)
        for where in (">/dev/full", ">&-")
    )
    assert (full.returncode, full.stderr.count("\n")) == (1, 1)
    assert full.stderr.startswith("bonepipe check: No space left on device")
    assert (closed.returncode, closed.stderr) == (1, "")


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("device=gpu", ("device='gpu'", "did you mean 'cuda'?")),
        ("device=tpu", ("device='tpu'", "auto, cpu, cuda, mps")),
        ("device=cuda:1", ("device='cuda:1'", "did you mean 'cuda'?")),
        ("seed=-1", ("seed=-1", "from 0 to 4294967295")),
        ("seed=4294967296", ("seed=4294967296",)),
        ("seed=1.5", ("seed=1.5", "int")),
        ("experiment=", ("experiment=", "no option ''", "demo")),
        ("name=", ("name=''",)),
        ("name=a/b", ("name='a/b'", "without slashes")),
        ("name=..", ("name='..'",)),
        ("name=.", ("name='.'",)),
        ("name=/tmp/x", ("name='/tmp/x'",)),
        ("name=.store", ("name='.store'",)),
        ("name=null", ("name=None",)),
        ("runs=", ("runs=''",)),
        ("data.patient='('", ("data.patient='('", "no regular expression")),
        ("data.patient='[a-z]+'", ("data.patient=", "needs a group")),
        ("model.encoder", ("'model.encoder'", "key=value")),
        ("--device=cpu", ("no flag '--device'",)),
    ],
)
def test_wrong_values_are_refused_in_one_line(word, parts, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BONEPIPE_TRACEBACK", raising=False)
    assert cli.main(["split", word]) == 2
    message = capsys.readouterr().err
    assert message.startswith("bonepipe split: ")
    assert message.count("\n") == 1
    for part in parts:
        assert part in message
    assert list(tmp_path.iterdir()) == []
