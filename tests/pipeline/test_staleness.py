"""What happens to results when what they were made from changes: done again where that is cheap, refused elsewhere.

Each case starts from a copy of a finished run of two folds, with or without its submission. No stale score is printed.
"""

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from in_process import folds_here
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from bonepipe.cli import main
from bonepipe.config import compose
from bonepipe.data import submission
from bonepipe.data.phantom.dataset import write_dataset
from bonepipe.pipeline.experiment import Experiment
from bonepipe.pipeline.run_folder import locked
from bonepipe.pipeline.steps import Steps

CONF = Path("conf").resolve()
RECIPE = """# @package _global_
defaults:
  - override /model: unet_resnet18
  - override /tracking: none
  - override /averaging: none
name: tiny
data: {name: phantom, size: 64, root: data}
model: {encoder: tu-mobilenetv3_small_050, encoder_weights: null, settings: {decoder_channels: [16, 8, 8, 8, 8]}}
optimizer: {lr: 4.0e-3}
folds: {count: 2, file: folds.csv}
trainer: {epochs: 2, batch_size: 2}
"""
WORDS = ["experiment=tiny", "device=cpu"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with a dataset, a recipe, and a run that was trained with loader processes and submitted."""
    folder = tmp_path_factory.mktemp("finished")
    write_dataset(folder / "data", 6, 2, 96, seed=4, workers=0)
    shutil.copytree(CONF, folder / "conf")
    (folder / "conf/experiment/tiny.yaml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("BONEPIPE_CONF", "conf")
        folds_here(patch)
        assert main(["submit", *WORDS]) == 0
    return folder


@pytest.fixture
def submitted(finished, tmp_path, monkeypatch):
    """A copy to work in."""
    folder = tmp_path / "work"
    shutil.copytree(finished, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("BONEPIPE_CONF", "conf")
    return folder


@pytest.fixture(params=["before submit", "after submit"])
def work(request, submitted):
    """A copy to work in, with or without the submission and its scores."""
    if request.param == "before submit":
        (submitted / "runs/tiny/submission.csv").unlink()
        path = submitted / "runs/tiny/scores.json"
        scores = json.loads(path.read_text())
        path.write_text(json.dumps({k: v for k, v in scores.items() if not k.startswith(("test", "pub", "pri"))}))
    return submitted


@pytest.fixture
def call(capsys):
    """Run a command; returns its exit code, what it printed, and what it said on standard error."""

    def run(command, *words):
        capsys.readouterr()
        code = main([command, *WORDS, *words])
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


def weights_of(folder, name="tiny"):
    return {path.parent.name: path.read_bytes() for path in (folder / "runs" / name).glob("fold-*/weights.safetensors")}


def assert_refused(call, folder, *names):
    """All three commands refuse, name what changed and the ways out, print no score, and touch nothing."""
    before = {path: path.read_bytes() for path in (folder / "runs" / "tiny").rglob("*.*") if path.suffix != ".lock"}
    for command in (["train", "fold=0"], ["train-all"], ["submit"]):
        code, out, err = call(*command)
        assert code == 1, command
        assert all(name in err for name in names), err
        assert "name=..." in err
        assert out == ""
    after = {path: path.read_bytes() for path in (folder / "runs" / "tiny").rglob("*.*") if path.suffix != ".lock"}
    assert before == after


def first_annotation(folder):
    return sorted((folder / "data" / "train" / "outputs_json").rglob("*.json"))[0]


def test_nothing_changed(work, call):
    code, out, err = call("train-all")
    assert (code, out) == (0, "") and "done already" in err
    code, out, _ = call("submit")
    scores = json.loads((work / "runs/tiny/scores.json").read_text())
    assert code == 0 and f"test_dice {scores['test_dice']:.4f}" in out and f"oof_dice {scores['oof_dice']:.4f}" in out
    assert call("submit")[1] == out


def test_an_edited_annotation(work, call):
    """Two labels trade places; size and time of the file stay, as `rsync -t` and `cp -p` keep them."""
    path = first_annotation(work)
    state, text = path.stat(), path.read_text()
    swapped = text.replace('"Radius"', '"@"').replace('"Ulna"', '"Radius"').replace('"@"', '"Ulna"')
    assert swapped != text and len(swapped) == len(text)
    path.write_text(swapped)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert_refused(call, work, f"{path.relative_to(work / 'data')} has changed")
    path.write_text(text)
    assert call("train-all")[0] == 0


def test_an_edited_image(work, call):
    path = sorted((work / "data/train/DCM").rglob("*.png"))[0]
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    image[0, 0] = 255 - image[0, 0]
    assert cv2.imwrite(str(path), image)
    assert_refused(call, work, f"{path.relative_to(work / 'data')} has changed")


def test_edited_metadata_weighs_the_score_anew(work, call):
    """Weights do not depend on it, so the folds stay."""
    path, before = work / "data/rotated.csv", weights_of(work)
    path.write_text(path.read_text() + "ID999\n")
    code, out, err = call("submit")
    assert code == 0 and "thresholds are chosen again" in err and "rotated.csv has changed" in err
    assert "out-of-fold Dice" in out
    assert weights_of(work) == before


def test_metadata_that_images_were_drawn_by(submitted, call):
    words = ["sampler=weighted", "sampler.balance={rotated: 2}", "name=drawn", "strata.wrist=listed"]
    (submitted / "data/rotated.csv").write_text(
        "patient\n" + sorted(p.name for p in (submitted / "data/train/DCM").iterdir())[0]
    )
    assert call("train", "fold=0", *words)[0] == 0
    with (submitted / "data/rotated.csv").open("a") as file:
        file.write("\nID999\n")
    code, out, err = call("train", "fold=0", *words)
    assert code == 1 and "rotated.csv has changed" in err and out == ""


def test_an_edited_experiment_file(work, call):
    path = work / "conf/experiment/tiny.yaml"
    path.write_text(RECIPE.replace("4.0e-3", "3.0e-3"))
    assert_refused(call, work, "optimizer.lr: 0.004 -> 0.003")


def test_a_changed_fold_file(work, call):
    path = work / "folds.csv"
    rows = list(csv.reader(path.read_text().splitlines()))
    patients = sorted({row[1] for row in rows[1:]})
    for row in rows[1:]:
        if row[1] in patients[:2]:
            row[2] = str(1 - int(row[2]))
    path.write_text("\n".join(",".join(row) for row in rows) + "\n")
    assert_refused(call, work, f"{rows[1][0]} has changed")


def test_another_margin(work, call):
    before = weights_of(work)
    code, out, err = call("submit", "thresholds.margin=1e9")
    assert code == 0 and "thresholds.margin: 2.0 -> 1000000000.0" in err
    assert "thresholds: 0 of 29 classes leave 0.5" in out
    scores = json.loads((work / "runs/tiny/scores.json").read_text())
    assert scores["oof_dice"] == scores["oof_dice_at_half"]
    tables = [csv.DictReader((work / f"runs/tiny/fold-{fold}/metrics.csv").open()) for fold in (0, 1)]
    first, second = (np.array([float(row["val/dice"]) for row in table]) for table in tables)
    gain = (first.max() - first[second.argmax()] + second.max() - second[first.argmax()]) / 2
    assert scores["best_epoch_gain"] == pytest.approx(gain)
    assert f"of which {gain:.4f} because each fold's best epoch was chosen on these images" in out
    assert weights_of(work) == before
    told = submission.read(work / "runs/tiny/submission.csv")
    again = submission.score_tables(told, submission.read(work / "data/answer.csv"))
    assert scores["test_dice"] == pytest.approx(again["dice"])


def test_another_name(submitted, call, monkeypatch):
    """A run of its own, trained anew to the same weights; the first one stays."""
    folds_here(monkeypatch)
    before = weights_of(submitted)
    code, out, _ = call("submit", "name=other")
    assert code == 0 and "out-of-fold Dice" in out
    assert weights_of(submitted, "other") == before == weights_of(submitted)


def test_the_data_at_another_place(work, call):
    """Contents count, not places: relative or absolute, before a slash or behind."""
    shutil.move(work / "data", work / "a, b")
    root = f'data.root="{work / "a, b"}/"'
    assert "done already" in call("train-all", root)[2]
    assert "done already" in call("train", "fold=1", 'data.root="./a, b"')[2]


def test_an_added_test_image(work, call):
    source = sorted((work / "data/test/DCM").rglob("*.png"))[0]
    image = cv2.imread(str(source), cv2.IMREAD_GRAYSCALE)
    assert cv2.imwrite(str(source.with_name("zz.png")), 255 - image)
    code, out, err = call("submit")
    assert code == 0 and "zz.png is new" in err
    rows = {row.image for row in submission.stream(work / "runs/tiny/submission.csv")}
    assert len(rows) == 5 and "zz.png" in rows
    assert "answer.csv: lacks 29 of 145 masks (zz.png, finger-1 first)" in err
    assert err.index("lacks 29 of 145 masks") < err.index("submission:")  # known before the work
    scores = json.loads((work / "runs/tiny/scores.json").read_text())
    assert "test_dice" in out and scores["test_masks_unscored"] == 29
    truth = submission.read(work / "data/answer.csv")
    known = submission.restricted(submission.read(work / "runs/tiny/submission.csv"), truth)
    expected = submission.score_tables(known, truth)
    for key in ("dice", "miou", "pixel_accuracy"):
        assert scores[f"test_{key}"] == pytest.approx(expected[key])


def test_a_deleted_fold(submitted, call):
    before = weights_of(submitted)
    shutil.rmtree(submitted / "runs/tiny/fold-0")
    code, out, err = call("submit")
    assert code == 0 and "fold-0: 6 images to train on" not in err
    assert weights_of(submitted) == before  # trained in a process of its own, to the same bytes
    assert "test_dice" in out


def test_a_retrained_fold(submitted, call, monkeypatch):
    """Other weights in one fold: predicted, chosen and submitted again, all of it."""
    folds_here(monkeypatch)
    path = submitted / "runs/tiny/fold-1/weights.safetensors"
    old = json.loads((submitted / "runs/tiny/scores.json").read_text())["oof_dice"]
    with safe_open(path, "np") as file:
        facts = file.metadata()
    plain = {name: value for name, value in json.loads(facts["bonepipe"]).items() if name != "crc32"}
    facts = {"bonepipe": json.dumps(plain)}  # as another program writes them, without checksums
    tensors = load_file(path)
    key = next(key for key in sorted(tensors) if "segmentation_head" in key and tensors[key].ndim == 4)
    save_file({**tensors, key: tensors[key] * np.float32(0.5)}, path, facts)
    code, out, err = call("submit")
    assert code == 1 and "weights.safetensors: is not the file that training wrote" in err and out == ""
    Steps(Experiment(compose(WORDS))).training(1).record()
    code, out, err = call("submit")
    scores = json.loads((submitted / "runs/tiny/scores.json").read_text())
    assert code == 0 and abs(scores["oof_dice"] - old) > 1e-3
    assert f"out-of-fold Dice {scores['oof_dice']:.4f}" in out and "oof_dice" not in out  # told once
    assert err.splitlines()[-1] == f"open {Path('runs/tiny/examples.jpg')}"
    again = submission.score_tables(
        submission.read(submitted / "runs/tiny/submission.csv"), submission.read(submitted / "data/answer.csv")
    )
    assert scores["test_dice"] == pytest.approx(again["dice"])


def test_results_that_were_cut_short_are_made_again(submitted, call, monkeypatch):
    """The advice of every message is to call the same command; it works."""
    folds_here(monkeypatch)
    before = (submitted / "runs/tiny/fold-0/oof_dice.csv").read_bytes()
    (submitted / "runs/tiny/fold-0/oof_dice.csv").write_bytes(before[: len(before) // 2])
    (submitted / "runs/tiny/fold-1/histograms.npz").write_bytes(b"")
    (submitted / "runs/tiny/thresholds.json").write_text("{")
    assert call("submit")[0] == 0
    assert (submitted / "runs/tiny/fold-0/oof_dice.csv").read_bytes() == before


def test_folds_of_other_versions(submitted, call, monkeypatch):
    """Told wherever they predict, and not forgotten when a fold is only predicted again."""
    folds_here(monkeypatch)
    path = submitted / "runs/tiny/fold-1/fingerprint.json"
    entries = json.loads(path.read_text())
    known = entries["training"]["versions"]["timm"]
    assert entries["out_of_fold"]["versions"]["timm"] == known
    entries["training"]["versions"]["timm"] = "0.1"
    path.write_text(json.dumps(entries))
    assert "versions" not in call("submit")[2]  # done already
    (submitted / "runs/tiny/fold-1/oof.csv").unlink()
    (submitted / "runs/tiny/submission.csv").unlink()
    code, _, err = call("submit")
    told = (
        f"warning: runs/tiny: trained with other versions, so results may differ:\n  timm: {known} (fold-0, now), 0.1"
    )
    assert code == 0 and err.count(told) == 2  # when thresholds are chosen, and when the test images are predicted
    assert json.loads(path.read_text())["training"]["versions"]["timm"] == "0.1"


def test_two_commands_at_once(submitted, call):
    """The second one names the first, changes nothing, and does its work when the first is through."""
    folder = submitted / "runs" / "tiny"
    (folder / "fold-0" / "oof.csv").unlink()
    (folder / "submission.csv").unlink()
    here = f"process {os.getpid()} on {socket.gethostname()} works here; wait for it, or stop it first"
    with locked(folder / "fold-0"):
        code, _, err = call("train", "fold=0")
        assert code == 1 and f"fold-0: {here}" in err
    assert not (folder / "fold-0" / "oof.csv").exists()
    assert call("train", "fold=0")[0] == 0
    with locked(folder):
        code, out, err = call("submit")
        assert code == 1 and f"tiny: {here}" in err and out == ""
    assert not (folder / "submission.csv").exists()
    assert call("submit")[0] == 0


def test_a_half_trained_fold(finished, tmp_path, monkeypatch, call):
    """Killed after its first epoch; it neither goes on with other images nor is taken for finished."""
    folder = tmp_path / "work"
    shutil.copytree(finished, folder, ignore=shutil.ignore_patterns("runs"))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("BONEPIPE_CONF", "conf")
    words, checkpoint = ["trainer.epochs=400", "name=half"], folder / "runs/half/fold-0/last.ckpt"
    command = [sys.executable, "-m", "bonepipe", "train", "fold=0", *WORDS, *words]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert checkpoint.exists() and not checkpoint.with_name("weights.safetensors").exists()
    path = first_annotation(folder)
    text = path.read_text()
    path.write_text(text.replace('"Ulna"', '"Radius"'))
    code, _, err = call("train", "fold=0", *words)
    assert code == 1 and f"{path.relative_to(folder / 'data')} has changed" in err
    path.write_text(text)
    code, _, err = call("train", "fold=0", "trainer.epochs=3", "name=half")
    assert code == 1 and "trainer.epochs: 400 -> 3" in err
    code, _, err = call("submit", *words, "prediction.folds=[]")
    assert code != 0 and "Traceback" not in err
