"""`--cfg`, and what mistakes and audits wait for."""

import json
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
import json, sys
from bonepipe.cli import main
codes = set()
for words in json.loads(sys.argv[1]):
    codes.add(main(words))
    unused = {"torch", "pytorch_lightning", "scipy", "sklearn", "albumentations", "matplotlib", "wandb"}
    assert not unused & sys.modules.keys(), (words, unused & sys.modules.keys())
(code,) = codes
sys.exit(code)
"""


def light(*commands, folder):
    """Run commands in one process, where none imports anything heavy; their exit code and what they printed."""
    command = [sys.executable, "-c", PROGRAM, json.dumps(commands)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert "Error" not in done.stderr, done.stderr
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
    done = light(["train", "--cfg"], folder=tmp_path)
    assert done.returncode == 0
    assert yaml.safe_load(done.stdout)["name"] == "demo"


MISSPELT = [
    *([name, "trainer.epoch=3"] for name in TAKING_OVERRIDES if name != "predict"),
    ["ensemble", "a", "b", "-o", "c", "threshold.margin=1"],
    ["cascade", "a", "b", "threshold.margin=1"],
]


def test_a_misspelt_setting_waits_for_no_pytorch(tmp_path):
    done = light(*MISSPELT, folder=tmp_path)
    assert done.returncode == 2
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == [f"bonepipe {name}" for name, *_ in MISSPELT]
    assert done.stderr.count("did you mean") == len(MISSPELT)


def test_an_audit_waits_for_no_pytorch(phantom_root, tmp_path):
    words = [f"data.root={phantom_root}", "data.size=64", "folds.file=folds.csv"]
    done = light(["doctor", *words], folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ready for training" in done.stdout


def test_an_audit_still_refuses_a_value_of_the_wrong_type_that_is_named(capsys):
    assert cli.main(["doctor", "trainer.epochs=many"]) == 2
    assert "trainer.epochs='many'" in capsys.readouterr().err


def test_a_value_of_the_wrong_type_is_one_line_though_the_check_comes_late(capsys):
    assert cli.main(["train", "fold=0", "data.size=abc"]) == 2
    assert capsys.readouterr().err.startswith("bonepipe train: data.size='abc': ")
