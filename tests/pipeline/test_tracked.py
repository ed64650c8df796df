"""What a team sees of an experiment on the dashboard, read back from the logs of its offline runs."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from bonepipe import config as configs
from bonepipe.cli import main
from bonepipe.models.costs import operations
from bonepipe.pipeline import fold_costs
from bonepipe.pipeline.experiment import Experiment
from bonepipe.pipeline.tracked import flat, spread
from bonepipe.training.tracking.history import read_rows
from bonepipe.training.weights_file import read_facts

OFFLINE = ["tracking=wandb", "tracking.mode=offline"]


def part_of(folder, name):
    (part,) = (folder / "wandb").glob(f"offline-run-*-{name}-*")
    return part


def table_of(part, name):
    """Columns, and rows as dictionaries."""
    (path,) = part.glob(f"files/media/table/{name}_*.table.json")
    content = json.loads(path.read_text())
    return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]


@pytest.fixture(scope="module")
def submitted(drawn_run, tmp_path_factory, see_offline_run):
    """A function, kind of run -> its part and what is seen of it: cross-validated, submitted, with recorded scores."""
    folder, words = drawn_run
    copy = tmp_path_factory.mktemp("tracked") / "copy"
    shutil.copytree(folder, copy)
    words = [*words, f"runs={copy / 'runs'}", *OFFLINE, "tracking.tags=[july]", "tracking.notes=first"]
    run = copy / "runs" / "demo"
    for fold in (0, 1):
        fold_costs.note(run / f"fold-{fold}", peak_memory=(fold + 1) * 2**30, seconds_an_image=0.1 * (fold + 1))
        (run / f"fold-{fold}" / "metrics.csv").write_text("epoch,step,seconds,val/dice\n0,2,10,0.5\n1,4,20,0.25\n")
    (run / "thresholds.json").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(copy))
        assert main(["train-all", *words]) == 0
        assert main(["submit", *words]) == 0
        for score in ("--public=0.5", "--private=0.25"):
            assert main(["leaderboard", str(run), score]) == 0
    runs = {kind: (part := part_of(run, kind), see_offline_run(part)) for kind in KINDS}
    return Experiment(configs.compose(words)), runs


KINDS = ("cross-validation", "submission", "leaderboard")


def test_runs_that_are_no_fold_have_their_kind_and_no_fold(submitted):
    for kind in KINDS:
        _, seen = submitted[1][kind]
        assert (seen.name, seen.kind, seen.group, seen.notes) == (f"demo {kind}", kind, "demo", "first")
        assert "fold" not in seen.config
        assert seen.config["seed"] == 21
        assert set(seen.tags) == {"phantom", "Unet mobilenet_v2", "DiceFocal", "64 px", "july"}
        assert [row["_step"] for row in seen.history] == list(range(len(seen.history)))


def test_means_and_deviations_over_folds_are_named(submitted):
    experiment, runs = submitted
    summary = runs["cross-validation"][1].summary
    scores = json.loads((experiment.folder / "scores.json").read_text())
    for name, key in (("dice", "folds_chosen"), ("dice_at_half", "folds")):
        assert summary[f"cv/{name}_mean"] == pytest.approx(np.mean(scores[key]))
        assert summary[f"cv/{name}_std"] == pytest.approx(np.std(scores[key], ddof=1))
    assert summary["cv/dice_mean"] > summary["cv/dice_at_half_mean"]
    assert 0 < summary["cv/miou_mean"] < summary["cv/dice_mean"]
    assert summary["oof_pixel_accuracy_at_half"] == scores["oof_pixel_accuracy_at_half"]
    assert summary["folds"] == scores["folds"]
    assert np.mean(scores["folds_chosen"]) == pytest.approx(scores["oof_dice"], abs=0.02)


def test_tables_bars_curves_and_drawings_of_the_cross_validation(submitted):
    experiment, runs = submitted
    part, seen = runs["cross-validation"]
    scores, classes = json.loads((experiment.folder / "scores.json").read_text()), list(experiment.data.classes)
    assert seen.charts == {
        "classes/bars": "wandb/bar/v0", "sizes/bars": "wandb/bar/v0", "strata/bars": "wandb/bar/v0",
        "thresholds/curves": "wandb/lineseries/v0",
    }  # fmt: skip
    assert {key for key, kind in seen.media.items() if kind == "image-file"} == {
        "classes/heat map", "thresholds/per class",
        *(f"examples/{title}{part}" for title in ("worst", "median", "best") for part in ("", " close-up")),
    }  # fmt: skip
    rows = table_of(part, "classes/table")
    assert [row["class"] for row in rows] == classes
    assert [row["oof_dice"] for row in rows] == pytest.approx(list(scores["oof_dice_per_class"].values()))
    folds = table_of(part, "classes/by fold")
    assert list(folds[0]) == ["class", "fold-0", "fold-1"]
    assert np.mean([row["fold-1"] for row in folds]) == pytest.approx(scores["folds_chosen"][1])
    assert {row["size"]: row["oof_dice"] for row in table_of(part, "sizes/table")} == scores["oof_dice_by_size"]
    assert {row["stratum"]: row["test_share"] for row in table_of(part, "strata/table")} == {
        name: row["test_share"] for name, row in scores["strata"].items()
    }
    curves = table_of(part, "thresholds/curves_table")
    assert {row["lineKey"] for row in curves} == set(classes)
    assert len(curves) < 10_000


def test_costs_of_folds_and_of_all_together(submitted):
    experiment, runs = submitted
    part, seen = runs["cross-validation"]
    rows = table_of(part, "folds/table")
    assert [row["fold"] for row in rows] == [0, 1]
    assert [row["cost/inference_ms"] for row in rows] == pytest.approx([100, 200])
    assert sum(row["images"] for row in rows) == len(experiment.cohort.images)
    assert seen.summary["cost/training_s"] == 60
    assert seen.summary["cost/inference_ms"] == pytest.approx(150)
    assert seen.summary["cost/peak_memory_gib"] == 2
    model = experiment.model(pretrained=False)
    assert seen.summary["cost/parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert seen.summary["cost/gflops"] == pytest.approx(operations(model, 64) / 1e9)


def test_the_submission_has_the_scores_of_both_sides(submitted):
    experiment, runs = submitted
    part, seen = runs["submission"]
    scores = json.loads((experiment.folder / "scores.json").read_text())
    for key in ("public", "private", "test_dice", "test_miou", "test_pixel_accuracy", "oof_dice"):
        assert seen.summary[key] == pytest.approx(scores[key])
    assert seen.summary["cv/dice_mean"] == pytest.approx(np.mean(scores["folds_chosen"]))
    assert seen.summary["cost/submission_ms"] > 0
    assert {row["class"]: row["test_dice"] for row in table_of(part, "classes/test")} == scores["test_dice_per_class"]
    assert "classes/test bars" in seen.charts


def test_recorded_leaderboard_scores_are_one_run_with_the_others_beside_them(submitted):
    experiment, runs = submitted
    _, seen = runs["leaderboard"]
    assert (seen.summary["leaderboard/public"], seen.summary["leaderboard/private"]) == (0.5, 0.25)
    assert seen.summary["test_dice"] == json.loads((experiment.folder / "scores.json").read_text())["test_dice"]


def test_scores_that_nobody_recorded_are_left_out():
    assert flat({"oof_dice": 0.5}) == {"oof_dice": 0.5}
    assert spread("dice", [0.5]) == {"cv/dice_mean": 0.5, "cv/dice_std": 0.0}


def test_a_folder_without_cross_validation_is_not_told(tmp_path):
    (tmp_path / "scores.json").write_text("{}")
    assert main(["leaderboard", str(tmp_path), "--public=0.5"]) == 0
    assert not (tmp_path / "wandb").exists()


@pytest.fixture(scope="module")
def resumed(phantom_root, tmp_path_factory, see_offline_run):
    """A fold whose training was killed after two epochs and resumed: its folder, and what is seen of both parts."""
    folder = tmp_path_factory.mktemp("killed")
    words = [
        "experiment=debug", f"data.root={phantom_root}", "folds.count=2", "device=cpu", "tta=none", *OFFLINE,
        "trainer.epochs=5", "trainer.validate_every=2", "model.encoder=tu-mobilenetv3_small_050",
        "model.settings.decoder_channels=[16,8,8,8,8]", f"runs={folder / 'runs'}",
        f"folds.file={folder / 'folds.csv'}", "fold=1",
    ]  # fmt: skip
    fold, code = folder / "runs" / "debug" / "fold-1", "from bonepipe.cli import main; import sys; main(sys.argv[1:])"
    environment = {**os.environ, "HOME": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", SLOW + code, "train", *words], env=environment) as process:
        while process.poll() is None and len(read_rows(fold / "metrics.csv")) < 2:
            time.sleep(0.05)
        time.sleep(2.5)  # the third epoch sleeps, and W&B writes once a second
        process.send_signal(signal.SIGKILL)
    killed = see_offline_run(part_of(folder / "runs" / "debug", "fold-1"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        assert main(["train", *words]) == 0
    return fold, killed, see_offline_run(part_of(folder / "runs" / "debug", "fold-1"))


SLOW = """
import time
from bonepipe.training.callbacks import History
begin = History.on_train_epoch_start
def wait(self, trainer, module):
    time.sleep(60 * (trainer.current_epoch == 2))
    begin(self, trainer, module)
History.on_train_epoch_start = wait
"""


def test_a_killed_training_loses_no_epoch(resumed):
    fold, killed, seen = resumed
    assert killed.column("epoch") == [1, 2]
    assert seen.column("epoch") == [1, 2, 3, 4, 5]
    assert [row["_step"] for row in seen.history] == list(range(len(seen.history)))
    assert seen.column("images_seen") == [10 * epoch + n for epoch in range(5) for n in (4, 8, 10)]
    assert [row["epoch"] for row in seen.history if "val/dice" in row] == [2, 4, 5]
    rows = read_rows(fold / "metrics.csv")
    assert seen.column("train/loss") == pytest.approx([row["train/loss"] for row in rows])
    assert len(seen.column("steps/loss")) == len(read_rows(fold / "steps.csv"))


def test_what_a_fold_predicts_with_is_in_its_summary(resumed):
    fold, _, seen = resumed
    rows, chosen = read_rows(fold / "metrics.csv"), read_facts(fold / "weights.safetensors")["chosen"]
    best = max((row for row in rows if "val/dice" in row), key=lambda row: row["val/dice"])
    assert seen.summary["chosen/source"] == chosen["source"]
    assert seen.summary["chosen/dice"] == chosen["dice"]
    assert seen.summary["chosen/epoch"] == (5 if chosen["source"] == "average" else best["epoch"] + 1)
    assert (seen.summary["best/dice"], seen.summary["best/epoch"]) == (best["val/dice"], best["epoch"] + 1)
    assert seen.summary["average/dice"] == chosen["average"]
    assert seen.summary["val/dice.last"] == rows[-1]["val/dice"]  # the average's check is none of an epoch
    assert seen.summary["val/dice.max"] == best["val/dice"]
    assert seen.config["fold"] == 1
    assert "fold-1" in seen.tags


def test_what_a_fold_cost_is_in_its_summary_and_not_in_its_weights(resumed):
    fold, _, seen = resumed
    seconds = [row["seconds"] for row in read_rows(fold / "metrics.csv")]
    assert seen.summary["cost/training_s"] == pytest.approx(sum(seconds))
    assert seen.summary["cost/inference_ms"] > 0
    assert 0.1 < seen.summary["cost/peak_memory_gib"] < 50
    assert {"cost/parameters", "cost/gflops"} <= seen.summary.keys()
    assert not {"seconds_an_image", "peak_memory"} & read_facts(fold / "weights.safetensors").keys()
    assert seen.charts == {"classes/bars": "wandb/bar/v0"}
