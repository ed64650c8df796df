"""`--cfg`, and what mistakes and audits wait for."""

import subprocess
import sys

import pytest
import yaml

from bonepipe import cli
from bonepipe.config import compose

TAKING_OVERRIDES = (
    "doctor", "split", "train", "train-all", "autoaugment", "weak-labels", "speed", "submit", "predict", "label-errors",
    "pseudo", "clean",
)  # fmt: skip
PROGRAM = """
import sys
from bonepipe.cli import main
code = main(sys.argv[1:])
heavy = {"torch", "pytorch_lightning", "scipy", "sklearn", "albumentations", "matplotlib", "wandb"} & sys.modules.keys()
assert not heavy, heavy
sys.exit(code)
"""


def light(*words, folder):
    """Run a command that imports nothing heavy; its exit code and what it printed."""
    command = [sys.executable, "-c", PROGRAM, *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert "AssertionError" not in done.stderr, done.stderr
    return done


@pytest.mark.parametrize("command", TAKING_OVERRIDES)
def test_cfg_prints_the_resolved_settings_and_does_nothing(command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["experiment=debug", "trainer.epochs=7", "loss=bce"]
    assert cli.main([command, "--cfg", *words]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == compose(words, checked=False)
    assert not list(tmp_path.iterdir())
    assert cli.main([command, "--cfg", "trainer.epoch=7"]) == 2
    assert "did you mean 'trainer.epochs'?" in capsys.readouterr().err


def test_cfg_waits_for_no_pytorch(tmp_path):
    done = light("train", "--cfg", folder=tmp_path)
    assert done.returncode == 0
    assert yaml.safe_load(done.stdout)["name"] == "demo"


@pytest.mark.parametrize(
    "words",
    [
        *([name, "trainer.epoch=3"] for name in TAKING_OVERRIDES if name != "predict"),
        ["ensemble", "a", "b", "-o", "c", "threshold.margin=1"],
        ["cascade", "a", "b", "threshold.margin=1"],
    ],
    ids=lambda words: words[0],
)
def test_a_misspelt_setting_waits_for_no_pytorch(words, tmp_path):
    done = light(*words, folder=tmp_path)
    assert done.returncode == 2
    assert "did you mean" in done.stderr


def test_an_audit_waits_for_no_pytorch(phantom_root, tmp_path):
    words = (f"data.root={phantom_root}", "data.size=64", "folds.file=folds.csv")
    done = light("doctor", *words, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ready for training" in done.stdout
    assert light("split", *words, folder=tmp_path).returncode == 0


def test_an_audit_still_refuses_a_value_of_the_wrong_type_that_is_named(capsys):
    assert cli.main(["doctor", "trainer.epochs=many"]) == 2
    assert "trainer.epochs='many'" in capsys.readouterr().err


def test_a_value_of_the_wrong_type_is_one_line_though_the_check_comes_late(capsys):
    assert cli.main(["train", "fold=0", "data.size=abc"]) == 2
    assert capsys.readouterr().err.startswith("bonepipe train: data.size='abc': ")
