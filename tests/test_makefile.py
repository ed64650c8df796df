"""The Makefile, for real: the words that reach bonepipe, and commands that run with them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bonepipe import config as configs

MAKEFILE = Path(__file__).parents[1] / "Makefile"
PRINTED = "BONEPIPE=printf '%s\\n'"  # each word on a line of its own, as the shell hands it over


@pytest.fixture
def make(tmp_path):
    """Run make in an empty folder, as if the environment were there."""

    def run(*words):
        command = ["make", "-s", "-f", MAKEFILE, "-o", ".venv/.ready", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    return run


@pytest.mark.parametrize(
    "path", ["my data", "a,b", "a, \"b\" = 'c'", "[1,2]", "{a,b}", "hands (2)", "*", "x=y", "k: v #3", "한글"]
)
def test_any_path_of_data_arrives_as_it_is(make, path):
    printed = make("fold-2", f"DATA={path}", PRINTED).stdout.splitlines()
    assert printed[:2] == ["train", "fold=2"]
    assert configs.compose(printed[1:])["data"]["root"] == path


def test_further_overrides_come_last_and_arrive_as_they_are(make):
    words = "name=other data.size=[96,64] prediction.folds=[0,1] 'strata.test_mix={rotated: 0.5, straight: 0.5}'"
    for target in ("doctor", "folds", "fold-0", "all-folds", "submit", "clean"):
        printed = make(target, "DATA=x", f"ARGS={words}", PRINTED).stdout.splitlines()
        config = configs.compose([word for word in printed if "=" in word])
        assert config["name"] == "other"
        assert config["data"]["size"] == [96, 64]
        assert config["prediction"]["folds"] == [0, 1]
        assert config["strata"]["test_mix"] == {"rotated": 0.5, "straight": 0.5}


@pytest.mark.parametrize("word", ["EXPERIMNT=effunet_512", "trainer.epochs=3", "ARG=loss=bce", "data=chest"])
@pytest.mark.parametrize("target", ["clean", "submit", "fold-0", "help"])
def test_a_variable_that_make_would_pass_over_is_refused(make, word, target):
    refused = make(target, word, PRINTED)
    assert refused.returncode == 2
    assert f"{word.partition('=')[0]}: no variable of this Makefile" in refused.stderr
    assert "make submit ARGS='key=value'" in refused.stderr
    assert refused.stdout == ""


@pytest.mark.parametrize("variable", ["EXPERIMENT", "DATA", "EXECUTOR"])
@pytest.mark.parametrize("target", ["clean", "submit", "fold-0"])
def test_an_empty_variable_is_refused_and_nothing_is_deleted(make, tmp_path, variable, target):
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    refused = make(target, f"{variable}=", PRINTED)
    assert refused.returncode == 2
    assert "is empty" in refused.stderr
    assert refused.stdout == ""
    assert (tmp_path / "runs" / "demo").is_dir()


@pytest.mark.parametrize(
    ("path", "made"),
    [("data/phantom", True), ("./data/phantom", True), ("{cwd}/data/phantom", True), ("data/phantom/", True),
     ("data/phantom2", False), ("data/phantom x", False), ("phantom", False), ("/data/phantom", False)],
)  # fmt: skip
def test_the_phantom_alone_is_made_on_demand_and_once(make, tmp_path, path, made):
    words = ("submit", f"DATA={path.format(cwd=tmp_path)}", PRINTED)
    assert [line for line in make(*words).stdout.splitlines() if line in ("phantom", "submit")] == (
        ["phantom", "submit"] if made else ["submit"]
    )
    (tmp_path / "data" / "phantom").mkdir(parents=True)
    assert make(*words).stdout.splitlines()[0] == "submit"


def test_files_named_like_targets_and_finished_results_keep_nothing_from_running(make, tmp_path):
    run = tmp_path / "runs" / "demo"
    run.mkdir(parents=True)
    targets = {"fold-1": "train", "all-folds": "train-all", "submit": "submit", "doctor": "doctor", "folds": "split"}
    for name in (*targets, "data"):
        (tmp_path / name).mkdir()
    for name in ("submission.csv", "thresholds.json", "scores.json"):
        (run / name).touch()
    for target, command in targets.items():
        assert make(target, "DATA=x", PRINTED).stdout.splitlines()[0] == command


def test_a_dataset_with_spaces_and_commas_is_audited_split_and_explained(make, tmp_path, phantom_root):
    shutil.copytree(phantom_root, tmp_path / 'my hands, 2 = "new"')
    words = ('DATA=my hands, 2 = "new"', f"BONEPIPE={sys.executable} -m bonepipe", "ARGS=name=mine data.size=64")
    audited = make("doctor", *words)
    assert audited.returncode == 0, audited.stderr
    assert 'my hands, 2 = "new": 0 errors' in audited.stdout
    split = make("folds", *words)
    assert split.returncode == 0, split.stderr
    assert "fold 0: 2 patients" in split.stdout
    refused = make("fold-7", *words)
    assert refused.returncode == 2
    assert "fold=7: there are folds 0 to 4" in refused.stderr
    assert not (tmp_path / "runs").exists()


def test_commands_may_keep_their_byte_code(make):
    shown = "BONEPIPE=printenv PYTHONDONTWRITEBYTECODE #"
    assert os.environ.get("PYTHONDONTWRITEBYTECODE") is None or make("doctor", "DATA=x", shown).stdout == ""


def test_help_lists_the_targets(make):
    printed = make("help").stdout
    for target in ("setup", "test", "lint", "bench", "study", "gains", "data", "doctor", "folds", "fold-%", "all-folds",
                   "submit", "clean"):  # fmt: skip
        assert f"  make {target} " in printed


@pytest.mark.parametrize("word", ["DATA=mine", "EXPERIMENT=unet", "EXECUTOR=ray"])
@pytest.mark.parametrize("target", ["study", "gains"])
def test_what_is_measured_on_the_phantom_takes_no_other_data(make, target, word):
    done = make(target, word)
    assert done.returncode == 2 and f"{word.partition('=')[0]}: study and gains measure on the phantom" in done.stderr


@pytest.mark.parametrize("terminal", [True, False])
def test_setup_says_its_size_first_and_shows_progress_on_a_terminal(tmp_path, terminal):
    for name in ("python", "uv"):  # stand-ins that print how they are called
        program = tmp_path / ".venv" / "bin" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f'#!/bin/sh\necho "{name} $*" >&2\n')
        program.chmod(0o755)
    for name in ("pyproject.toml", "requirements.lock"):
        (tmp_path / name).touch()
    command = ["make", "-s", "-f", str(MAKEFILE), "setup"]
    if terminal:
        command = ["script", "-qec", " ".join(command), "/dev/null"]
    done = subprocess.run(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
    )
    size, packages, *_ = done.stdout.splitlines()
    assert "5.6 GB" in size
    assert packages.startswith("uv pip install ") and packages.endswith("requirements.lock")
    assert ("--quiet" in packages) is not terminal
