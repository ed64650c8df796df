"""TAB, in a real bash."""

import subprocess
import sys

import pytest

from bonepipe import cli
from bonepipe.cli import COMMANDS
from bonepipe.cli.completion import SCRIPTS

TRY = """
compopt() { :; }
source <("$0" completion bash)
while IFS= read -r line; do
    COMP_LINE="$line" COMP_POINT=${#line} COMPREPLY=()
    _bonepipe "$0"
    printf '%s\\n' "${COMPREPLY[*]}"
done
"""


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    """What bash would offer for each of some lines."""
    program = tmp_path_factory.mktemp("bin") / "bonepipe"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m bonepipe "$@"\n')
    program.chmod(0o755)

    def offered(*lines):
        told = "".join(f"{line}\n" for line in lines)
        done = subprocess.run(["bash", "-c", TRY, program], input=told, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return [row.split() for row in done.stdout.splitlines()]

    return offered


def test_bash_completes_commands_flags_settings_and_choices(tab):
    offers = {
        "bonepipe tr": ["train", "train-all"],
        "bonepipe help do": ["doctor"],
        "bonepipe train --c": ["--cfg"],
        "bonepipe train trainer.ep": ["trainer.epochs="],
        "bonepipe train trai": ["trainer=", "trainer."],
        "bonepipe train fold=0 loss=b": ["bce", "bce_dice"],  # what stands before `=` is a word of its own in bash
        "bonepipe train experiment=de": ["demo", "debug"],
        "bonepipe train trainer.compile=": ["true", "false"],
        "bonepipe train device=c": ["cpu", "cuda"],
        "bonepipe ensemble a b --mean ": ["arithmetic", "geometric"],
        "bonepipe completion z": ["zsh"],
        # None: bash goes on with files.
        "bonepipe score ": [],
        "bonepipe predict ": [],
        "bonepipe submit --run ": [],
        "bonepipe train data.root=": [],
        "bonepipe nonsense x": [],
    }
    for (line, expected), offered in zip(offers.items(), tab(*offers), strict=True):
        assert sorted(offered) == sorted(expected), line


def test_every_command_can_be_asked(capsys):
    for name in COMMANDS:
        assert cli.main(["completion", "--line", f"bonepipe {name} --h"]) == 0
        assert capsys.readouterr().out == "--help\n"


HEAVY = """
import sys
from bonepipe.cli import main
assert main(["completion", "--line", "bonepipe train trainer."]) == 0
heavy = {"numpy", "yaml", "hydra", "omegaconf", "torch"} & sys.modules.keys()
assert not heavy, heavy
"""


def test_tab_waits_for_no_heavy_import():
    done = subprocess.run([sys.executable, "-c", HEAVY], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "trainer.epochs=" in done.stdout.split()


@pytest.mark.parametrize("shell", SCRIPTS)
def test_each_shell_has_a_script(shell, capsys):
    assert cli.main(["completion", shell]) == 0
    assert "completion --line" in capsys.readouterr().out
    assert cli.main(["completion"]) == 2
    assert "bash, zsh, fish" in capsys.readouterr().err
