"""Trainings that are asked to stop, or whose parent is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from warm import warm_children

from bonepipe.config import compose
from bonepipe.errors import BonepipeError
from bonepipe.pipeline import cross_validation
from bonepipe.pipeline.experiment import Experiment
from bonepipe.training.executors import Local


@pytest.fixture
def begin(phantom_root, tmp_path, monkeypatch):
    """A function: start a command that trains for ever, in a session of its own; gives it after two epochs."""
    processes = []
    warm_children(monkeypatch)

    def start(command, *more):
        words = [
            "experiment=debug", f"data.root={phantom_root}", "data.size=64", "folds.count=2", "device=cpu", "tta=none",
            "trainer.epochs=100000", "trainer.workers=1", "trainer.train_batches=1", "trainer.val_batches=1",
            "model.encoder=tu-mobilenetv3_small_050", "model.settings.decoder_channels=[16,8,8,8,8]", *more,
            f"runs={tmp_path / 'runs'}", f"folds.file={tmp_path / 'folds.csv'}",
        ]  # fmt: skip
        environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
        with (tmp_path / "told.txt").open("w") as told:
            process = subprocess.Popen(
                [sys.executable, "-m", "bonepipe", command, *words],
                env=environment, stdout=subprocess.DEVNULL, stderr=told, start_new_session=True,
            )  # fmt: skip
        processes.append(process)
        metrics, end = tmp_path / "runs" / "debug" / "fold-0" / "metrics.csv", time.monotonic() + 120
        while not (metrics.is_file() and len(metrics.read_text().splitlines()) > 2):
            assert process.poll() is None and time.monotonic() < end, (tmp_path / "told.txt").read_text()
            time.sleep(0.05)
        return process

    yield start
    for process in processes:
        for pid in session(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.wait()


def session(leader):
    """The processes of a session that have not ended."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, number = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(number) == leader and state != "Z":
            yield int(stat.parent.name)


def none_left(process, seconds=20):
    end = time.monotonic() + seconds
    while list(session(process.pid)) and time.monotonic() < end:
        time.sleep(0.1)
    return not list(session(process.pid))


def test_train_all_takes_its_fold_with_it_which_is_tracked_as_interrupted(begin, tmp_path, wandb_records):
    process = begin("train-all", "tracking=wandb", "tracking.mode=offline", "executor.parallel=1")
    process.terminate()
    assert process.wait(40) == 143
    assert none_left(process)
    assert (tmp_path / "told.txt").read_text().splitlines()[-1] == (
        "bonepipe train-all: stopped by SIGTERM; the same command goes on, trainings from their last finished epoch"
    )
    fold = tmp_path / "runs" / "debug" / "fold-0"
    assert (fold / "last.ckpt").is_file()
    assert not (fold / "weights.safetensors").exists()
    assert not (fold.parent / "fold-1").exists()
    (part,) = fold.parent.glob("wandb/offline-run-*")
    assert [record.exit.exit_code for record in wandb_records(part) if record.HasField("exit")] == [255]


def test_ctrl_c_within_the_fit_says_how_to_go_on(begin, tmp_path):
    """From a terminal it reaches all processes at once, the loaders too."""
    process = begin("train", "tracking=none", "fold=0")
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) == 130
    last = (tmp_path / "told.txt").read_text().splitlines()[-1]
    assert last.startswith("bonepipe train: stopped by SIGINT; the same command goes on")
    assert none_left(process)


def test_a_fold_ends_with_a_train_all_that_is_killed(begin):
    process = begin("train-all", "tracking=none", "executor.parallel=1")
    process.kill()
    process.wait()
    assert none_left(process)


def test_exit_0_is_no_result(phantom_root, tmp_path, monkeypatch):
    """A launcher's, a shell's or a library's, while the fold never came to its end."""
    words = [
        "experiment=debug", f"data.root={phantom_root}", "data.size=64", "folds.count=2", "tracking=none",
        f"runs={tmp_path / 'runs'}", f"folds.file={tmp_path / 'folds.csv'}", "device=cpu", "tta=none",
    ]  # fmt: skip
    for codes, told in (([0, 0], "fold 0, 1 did not"), ([143, 0], r"fold 0 \(SIGTERM\), 1 did not")):
        monkeypatch.setattr(Local, "run", lambda self, commands, codes=codes: codes)
        with pytest.raises(BonepipeError, match=told):
            cross_validation.run(Experiment(compose(words)), words)
