"""The whole path on tiny data: folds, thresholds, submission; resuming; a dataset of another kind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from in_process import folds_here
from safetensors.numpy import load_file, save_file

from bonepipe.cli import main
from bonepipe.config import compose
from bonepipe.data import submission
from bonepipe.labels import rle
from bonepipe.labels.cutout import to_mask
from bonepipe.pipeline.experiment import Experiment
from bonepipe.pipeline.steps import Steps

TINY = [
    "experiment=demo",
    "data.size=64",
    "folds.count=2",
    "trainer.epochs=2",
    "trainer.validate_every=1",
    "averaging.start=0.5",
    "device=cpu",
    "model.encoder=tu-mobilenetv3_small_050",  # a ResNet's checkpoints would take longer to write than it trains
    "model.settings.decoder_channels=[16,8,8,8,8]",
]


def overrides(root: Path, *more: str) -> list[str]:
    return [*TINY, f"data.root={root}", *more]


def pixel_dice(predicted: np.ndarray, truth: np.ndarray) -> float:
    return float((2 * (predicted & truth).sum() + 1e-4) / (predicted.sum() + truth.sum() + 1e-4))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, phantom_root):
    """A folder where two folds of the tiny phantom were trained and a submission written, W&B offline."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WANDB_API_KEY", raising=False)
        patch.setenv("WANDB_MODE", "offline")
        patch.chdir(folder)
        assert main(["train", "fold=1", *overrides(phantom_root)]) == 0
        assert main(["train-all", *overrides(phantom_root)]) == 0  # fold 0, in a process of its own
        assert main(["submit", *overrides(phantom_root)]) == 0
        yield folder


def test_every_promised_file_is_there(finished):
    run = finished / "runs" / "demo"
    for fold in (0, 1):
        names = {path.name for path in (run / f"fold-{fold}").iterdir()}
        assert names >= {
            "config.yaml", "weights.safetensors", "metrics.csv", "oof.csv", "oof_dice.csv", "histograms.npz",
        }  # fmt: skip
        assert "last.ckpt" not in names, "five times the weights, and nothing goes on from it"
    names = {path.name for path in run.iterdir()}
    assert names >= {"thresholds.json", "scores.json", "submission.csv", "examples.jpg", "thresholds.png"}
    kinds = sorted(path.name.split("-", 3)[3][:6] for path in (run / "wandb").glob("offline-run-*"))
    assert kinds == ["cross-", "fold-0", "fold-1", "submis"]
    assert not list(finished.rglob("*.part")), "temporary files are left"


def test_out_of_fold_scores_equal_pixels(finished, phantom_root):
    """oof.csv against polygons, pixel by pixel; its mean is the score at threshold 0.5."""
    experiment = Experiment(compose(overrides(phantom_root)))
    store, scores = experiment.cohort.store, []
    rows = {row.key: row for fold in (0, 1) for row in submission.stream(experiment.fold_folder(fold) / "oof.csv")}
    table = {}
    for fold in (0, 1):
        lines = (experiment.fold_folder(fold) / "oof_dice.csv").read_text().splitlines()[1:]
        table |= {tuple(line.split(",")[:2]): float(line.split(",")[2]) for line in lines}
    for index, name in enumerate(store.names):
        shape = store.shape(index)
        for label, truth in zip(experiment.data.classes, store.truth(index), strict=True):
            dice = pixel_dice(rle.decode(rows[name, label].rle, shape), to_mask(truth, shape))
            assert table[name, label] == pytest.approx(dice, abs=1e-6)
            scores.append(dice)
    recorded = json.loads((experiment.folder / "scores.json").read_text())
    assert recorded["oof_dice_at_half"] == pytest.approx(np.mean(scores), abs=1e-9)
    assert set(recorded) >= {"oof_dice", "oof_dice_per_class", "folds", "public", "private", "test_dice"}


def test_submission_is_valid_and_scored_like_any_other_file(finished, phantom_root, capsys):
    path = str(finished / "runs" / "demo" / "submission.csv")
    assert main(["check", path, "--data", str(phantom_root)]) == 0
    capsys.readouterr()
    assert main(["score", path, str(phantom_root / "answer.csv"), "--json"]) == 0
    scored = json.loads(capsys.readouterr().out)
    recorded = json.loads((finished / "runs" / "demo" / "scores.json").read_text())
    for there, here in {"dice": "test_dice", "public": "public", "private": "private"}.items():
        assert scored[there] == pytest.approx(recorded[here], abs=1e-12)


def test_what_is_done_is_not_done_again(finished, phantom_root, capsys):
    weights = [finished / "runs" / "demo" / f"fold-{fold}" / "weights.safetensors" for fold in (0, 1)]
    before = [path.stat().st_mtime_ns for path in weights]
    assert main(["train-all", *overrides(phantom_root)]) == 0
    assert main(["train", "fold=1", *overrides(phantom_root)]) == 0
    assert "done already" in capsys.readouterr().err
    assert [path.stat().st_mtime_ns for path in weights] == before


def test_other_settings_do_not_mix_with_finished_folds(finished, phantom_root, capsys):
    assert main(["train", "fold=0", *overrides(phantom_root, "optimizer.lr=0.5")]) == 1
    message = capsys.readouterr().err
    assert "runs/demo/fold-0: this fold was trained with other settings or files" in message
    assert "optimizer.lr: 0.004 -> 0.5" in message


def test_weights_of_another_model_are_refused(finished, phantom_root, capsys, monkeypatch):
    folds_here(monkeypatch)
    path = finished / "runs" / "demo" / "fold-1" / "weights.safetensors"
    good = path.read_bytes()
    tensors = load_file(path)
    first = sorted(tensors)[0]
    save_file({**tensors, first: np.zeros((3, 3), np.float32)}, path)
    submitted = (finished / "runs" / "demo" / "submission.csv").read_bytes()
    step = Steps(Experiment(compose(overrides(phantom_root)))).training(1)
    record = step.folder / "fingerprint.json"
    recorded = record.read_bytes()
    try:
        assert main(["submit", *overrides(phantom_root)]) == 1
        assert f"{path.relative_to(finished)}: is not the file that training wrote" in capsys.readouterr().err
        step.record()  # as if it were
        assert main(["submit", *overrides(phantom_root)]) == 1
        message = capsys.readouterr().err
        assert f"{path.relative_to(finished)}: holds the weights of another model ({first}" in message
        assert (finished / "runs" / "demo" / "submission.csv").read_bytes() == submitted
    finally:
        path.write_bytes(good)
        record.write_bytes(recorded)


def train_until(epochs: int, folder: Path, words: list[str]) -> int:
    """Train in another process and kill it as soon as it has so many epochs behind it; how many these are then."""
    environment = {key: value for key, value in os.environ.items() if key != "WANDB_SERVICE"}  # of this process
    command = [sys.executable, "-m", "bonepipe", "train", *words]
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment)
    deadline = time.monotonic() + 120
    while epochs_done(folder) < epochs and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, (folder / "log.txt").read_text()
    return epochs_done(folder)


def epochs_done(folder: Path) -> int:
    path = folder / "runs" / "demo" / "fold-0" / "metrics.csv"
    return len(path.read_text().splitlines()) - 1 if path.exists() else 0


@pytest.mark.parametrize("workers", [0, 2])
def test_killed_fold_goes_on_to_the_same_weights(tmp_path, phantom_root, workers, wandb_records, monkeypatch):
    """kill -9 in the middle of an epoch, then the same command again: weights and dashboard equal a quiet run's."""
    settings = ("fold=0", "tracking.mode=offline", "trainer.epochs=4", f"trainer.workers={workers}")
    words, quiet, killed = overrides(phantom_root, *settings), tmp_path / "quiet", tmp_path / "killed"
    quiet.mkdir()
    killed.mkdir()
    assert 2 <= train_until(2, killed, words) < 4, "the kill came too late to interrupt anything"
    assert not (killed / "runs" / "demo" / "fold-0" / "weights.safetensors").exists()
    for folder in (killed, quiet):
        monkeypatch.chdir(folder)
        assert main(["train", *words]) == 0
        assert epochs_done(folder) == 4
    for name in ("weights.safetensors", "oof.csv", "histograms.npz"):
        pair = [(folder / "runs" / "demo" / "fold-0" / name).read_bytes() for folder in (quiet, killed)]
        assert pair[0] == pair[1], name
    shown = [tracked(folder / "runs" / "demo" / "wandb", wandb_records) for folder in (quiet, killed)]
    assert shown[0] == shown[1]
    assert [step for step, _ in shown[0][0]][:4] == [0, 1, 2, 3]
    assert shown[0][2] == [0]


def tracked(folder: Path, wandb_records) -> tuple[list, str, list[int]]:
    """Of the one offline run that `wandb sync` would find: history but for times, config, exit codes."""
    (part,) = folder.glob("offline-run-*")
    records = wandb_records(part)
    history = [record.history for record in records if record.HasField("history")]
    rows = [{item.key or item.nested_key[0]: json.loads(item.value_json) for item in row.item} for row in history]
    keys = ("epoch", "trainer/global_step", "train/loss", "val/dice", "lr")
    told = [(row.step.num, [values.get(key) for key in keys]) for row, values in zip(history, rows, strict=True)]
    (run,) = [record.run for record in records if record.HasField("run")]
    settings = {item.key: item.value_json for item in run.config.update if item.key != "_wandb"}
    return told, json.dumps(settings), [record.exit.exit_code for record in records if record.HasField("exit")]


def test_another_dataset_by_configuration_only(tmp_path, chest_root, monkeypatch):
    """Mixed sizes and modes, no metadata, classes that swap under a flip; both views of the ensemble are used."""
    monkeypatch.chdir(tmp_path)
    folds_here(monkeypatch)
    words = [
        "experiment=chest", f"data.root={chest_root}", "data.size=64", "trainer.epochs=2", "trainer.validate_every=1",
        "folds.count=2", "tracking=none", "device=cpu",
    ]  # fmt: skip
    assert main(["train-all", *words]) == 0
    assert main(["submit", *words]) == 0
    scores = json.loads((tmp_path / "runs" / "chest" / "scores.json").read_text())
    assert 0 <= scores["test_dice"] <= 1
    assert main(["check", "runs/chest/submission.csv", "--data", str(chest_root)]) == 0
