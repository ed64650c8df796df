"""What is told, read back from the logs of offline runs."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from bonepipe.files import write_csv
from bonepipe.training.tracking import Tracking

DICE = [0.1, 0.9, 0.3, 0.2]
EPOCHS = [
    {"epoch": float(e), "step": 2.0 * e + 2, "lr": 0.1, "train/loss": 5.0 - e, "val/dice": dice, "val/dice/Ulna": dice}
    for e, dice in enumerate(DICE)
]
STEPS = [
    {"epoch": float(e), "images_seen": 8.0 * e + seen, "loss": 5.0 - e, "lr": 0.1, "images_per_second": 3.0}
    for e in range(4)
    for seen in (4, 8)
]


@pytest.fixture(autouse=True)
def no_key(monkeypatch, tmp_path):
    """Nothing of W&B in the environment."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def start(folder, name="fold-0", config=None, **settings):
    return Tracking(mode="offline", **settings).start("demo", "fold", name, config or {}, folder)


def part_of(folder, name="fold-0"):
    (part,) = (folder / "wandb").glob(f"offline-run-*-{name}-*")
    return part


def write_tables(folder, epochs, steps):
    """metrics.csv and steps.csv as a training leaves them."""
    for name, rows in (("metrics.csv", epochs), ("steps.csv", steps)):
        write_csv(folder / name, rows[0].keys(), [row.values() for row in rows])


def test_epochs_and_steps_have_axes_of_their_own(tmp_path, see_offline_run):
    with start(tmp_path, config={"data": {"name": "hand"}}, tags=("july",), notes="a note") as run:
        for done in range(5):
            run.epochs(EPOCHS[:done], STEPS[: 2 * done])
    seen = see_offline_run(part_of(tmp_path))
    assert (seen.name, seen.group, seen.kind, seen.notes) == ("demo fold-0", "demo", "fold", "a note")
    assert set(seen.tags) == {"hand", "fold-0", "july"}
    for metric in ("val/*", "val/dice", "train/loss", "lr", "time/*", "seconds"):
        assert seen.axes[metric] == "epoch"
    assert seen.axes["steps/*"] == "images_seen"
    assert seen.aggregates["val/dice"] == {"max", "last"}
    assert seen.aggregates["train/loss"] == {"min", "last"}
    assert [row["_step"] for row in seen.history] == list(range(12))
    assert [(row["epoch"], row["val/dice"]) for row in seen.history if "epoch" in row] == [*enumerate(DICE, 1)]
    assert seen.column("images_seen") == [4, 8, 12, 16, 20, 24, 28, 32]
    assert seen.column("steps/loss") == [5, 5, 4, 4, 3, 3, 2, 2]
    assert not any("epoch" in row for row in seen.history if "images_seen" in row)
    assert seen.summary["val/dice.max"] == 0.9
    assert seen.summary["val/dice.last"] == 0.2
    assert seen.summary["train/loss.min"] == 2
    assert seen.summary["val/dice/Ulna"] == 0.2


def test_a_resumed_run_tells_everything_once_and_in_order(tmp_path, see_offline_run):
    with start(tmp_path) as run:
        run.epochs(EPOCHS[:3], STEPS[:6])
    write_tables(tmp_path, EPOCHS[:3], STEPS[:6])
    with start(tmp_path) as run:
        run.earlier_epochs(tmp_path / "metrics.csv", complete=False)
        for done in (2, 3, 4):
            run.epochs(EPOCHS[:done], STEPS[: 2 * done])
        run.table("classes", ["class", "dice"], [["Ulna", 0.2]])
    seen = see_offline_run(part_of(tmp_path))
    assert [row["_step"] for row in seen.history] == list(range(13))
    assert seen.column("epoch") == [1, 2, 3, 4]
    assert seen.column("val/dice") == DICE
    assert seen.column("images_seen") == [4, 8, 12, 16, 20, 24, 28, 32]


def test_epochs_that_are_not_validated_have_no_dice(tmp_path, see_offline_run):
    rows = [row if epoch % 2 else {k: v for k, v in row.items() if "val/" not in k} for epoch, row in enumerate(EPOCHS)]
    with start(tmp_path) as run:
        run.epochs(rows)
    seen = see_offline_run(part_of(tmp_path))
    assert [(row["epoch"], row.get("val/dice")) for row in seen.history] == [(1, None), (2, 0.9), (3, None), (4, 0.2)]
    assert seen.column("train/loss") == [5, 4, 3, 2]


def test_what_wandb_counts_already_is_passed_over(tmp_path, see_offline_run):
    """As when an online run goes on: its server has so many rows, and the best epoch among them."""
    with start(tmp_path) as run:
        run.run._starting_step = 7
        for done in (3, 4):
            run.epochs(EPOCHS[:done], STEPS[: 2 * done])
    seen = see_offline_run(part_of(tmp_path))
    assert [(row.get("epoch"), row.get("images_seen")) for row in seen.history] == [
        (None, 24), (3, None), (None, 28), (None, 32), (4, None),
    ]  # fmt: skip
    assert seen.summary["val/dice.max"] == 0.9  # which this part of the run was never told as a row
    assert seen.summary["train/loss.min"] == 2


SCRIPT = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_run import EPOCHS, STEPS, start
run = start(Path(sys.argv[2]))
run.epochs(EPOCHS[:3], STEPS[:6])
print("told", flush=True)
time.sleep(60)
"""


def test_finished_epochs_outlive_a_killed_process(tmp_path, see_offline_run):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout.readline() == "told\n"
        time.sleep(2.5)  # W&B is to write at least once a second
        process.send_signal(signal.SIGKILL)
    assert see_offline_run(part_of(tmp_path)).column("epoch") == [1, 2, 3]


def test_bars_lines_tables_and_figures_are_shown(tmp_path, see_offline_run):
    cv2.imwrite(str(tmp_path / "drawing.png"), np.full((6, 8, 3), 50, np.uint8))
    with start(tmp_path) as run:
        run.bars("classes/bars", "Dice", {"Radius": 0.9, "Ulna": 0.8})
        run.lines("curves", "Dice", ("threshold", [0.25, 0.75]), {"Radius": [0.5, 0.6], "Ulna": [0.1, 0.2]})
        run.table("classes/table", ["class", "dice"], [["Radius", 0.9], ["Ulna", None]])
        run.figure("drawing", tmp_path / "drawing.png")
    part = part_of(tmp_path)
    seen = see_offline_run(part)
    assert seen.charts == {"classes/bars": "wandb/bar/v0", "curves": "wandb/lineseries/v0"}
    assert seen.media["classes/table"] == "table-file"
    assert seen.media["drawing"] == "image-file"
    tables = {path.name.partition("_table")[0]: path for path in part.glob("files/media/table/**/*.json")}
    assert json.loads(tables["bars"].read_text())["data"] == [["Radius", 0.9], ["Ulna", 0.8]]
    curves = json.loads(tables["curves"].read_text())["data"]
    assert sorted(curves) == [[0.25, "Radius", 0.5], [0.25, "Ulna", 0.1], [0.75, "Radius", 0.6], [0.75, "Ulna", 0.2]]
