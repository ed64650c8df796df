"""The same command makes the same bytes on a CPU, whoever reads ahead, shares the cores or hashes names."""

import os
import subprocess
import sys

import cv2
import pytest
from in_process import folds_here

from bonepipe import config as configs
from bonepipe.cli import main
from bonepipe.data.phantom.dataset import write_dataset
from bonepipe.pipeline.experiment import Experiment

WORDS = [
    "experiment=debug", "data.root=data", "folds.count=2", "folds.file=folds.csv", "device=cpu", "trainer.epochs=2",
    "model=unet", "model.width=4", "mixing=cutmix",
]  # fmt: skip
ALONE = ["trainer.workers=0", "prediction.workers=0", "prediction.ahead=1"]
TOGETHER = ["trainer.workers=2", "prediction.workers=2", "prediction.ahead=4"]
FOLD = ("weights.safetensors", "oof.csv", "histograms.npz", "probabilities.npz", "oof_dice.csv")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a dataset, in which commands are given."""
    write_dataset(tmp_path / "data", 4, 2, 128, seed=0, workers=0)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def opencv_threads():
    """A function: let OpenCV use so many threads in this process, until the test is over."""
    before = cv2.getNumThreads()
    yield cv2.setNumThreads
    cv2.setNumThreads(before)


def contents(folder, names):
    return {name: (folder / name).read_bytes() for name in names}


def test_a_fold_depends_on_no_processes_cores_or_hashes(place, monkeypatch, opencv_threads):
    monkeypatch.setenv("BONEPIPE_CORES", "1")
    opencv_threads(1)
    assert main(["train", "fold=0", *WORDS, *ALONE, "runs=alone"]) == 0
    others = {"BONEPIPE_CORES": "4", "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "bonepipe", "train", "fold=0", *WORDS, *TOGETHER, "runs=together"]
    environment = {"OMP_NUM_THREADS": "1", **os.environ, **others}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    results = [contents(place / runs / "debug" / "fold-0", FOLD) for runs in ("alone", "together")]
    for name in FOLD:
        assert results[0][name] == results[1][name], name


def test_a_submission_depends_on_no_processes_and_cores(place, draw_weights, monkeypatch, opencv_threads):
    folds_here(monkeypatch)
    names, results = ("submission.csv", "thresholds.json", "scores.json"), []
    for cores, words in (("1", ALONE), ("4", TOGETHER)):
        monkeypatch.setenv("BONEPIPE_CORES", cores)
        opencv_threads(int(cores))
        settings = [*WORDS, *words, f"runs=cores-{cores}"]
        draw_weights(Experiment(configs.compose(settings)))
        assert main(["submit", *settings]) == 0
        results.append(contents(place / f"cores-{cores}" / "debug", names))
    for name in names:
        assert results[0][name] == results[1][name], name
