import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from bonepipe.training.tracking import Run, Tracking, artifact_name


@pytest.fixture
def no_key(monkeypatch, tmp_path):
    """No key in the environment and none in the home folder."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_ENTITY", "WANDB_PROJECT", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")


def tell_everything(run, folder):
    """Use every call once."""
    labels = np.zeros((16, 12), np.uint8)
    labels[4:9, 3:8] = 2
    run.epochs([{"epoch": 0.0, "step": 5.0, "lr": 0.1, "val/dice": 0.5}])
    run.summarise({"oof_dice": 0.875, "oof_dice_per_class": {"Radius": 0.9}})
    run.table("dice per class", ["class", "dice"], [["Radius", 0.9], ["Ulna", 0.85]])
    run.overlay(
        "best image", np.full((16, 12), 100, np.uint8), {"truth": labels, "prediction": labels // 2}, ["a", "b"]
    )
    note = folder / "note.csv"
    note.write_text("image_name,class,rle\n")
    run.artifact("demo-fold-0", "fold", [note])
    cv2.imwrite(str(folder / "figure.png"), np.full((6, 8, 3), 50, np.uint8))
    run.figure("examples", folder / "figure.png")


def test_a_real_offline_run_writes_everything_down(tmp_path, no_key):
    import wandb

    folder = tmp_path / "wandb here"
    run = Tracking(mode="offline").start(
        "demo", "fold", "fold-0", {"seed": 7, "model": {"encoder": "x"}}, folder, synthetic=True
    )
    try:
        tell_everything(run, tmp_path)
        settings = run.run
        assert (settings.project, settings.group, settings.job_type, settings.name) == (
            "bonepipe", "demo", "fold", "demo fold-0",
        )  # fmt: skip
        assert dict(settings.config) == {"seed": 7, "model": {"encoder": "x"}}
        assert settings.summary["oof_dice"] == 0.875
        assert dict(settings.summary["val/dice"]) == {"max": 0.5, "last": 0.5}
        assert settings.offline
        identity = settings.id
    finally:
        run.finish()
        wandb.teardown()  # ends wandb's own process, so that everything is on the disk
    assert json.loads((folder / "wandb" / "fold-0.json").read_text())["id"] == identity
    (written,) = (folder / "wandb").glob("offline-run-*")
    (log,) = written.glob("run-*.wandb")
    content = log.read_bytes()
    assert all(word in content for word in (b"oof_dice", b"demo-fold-0", b"fold-0", b"best image"))
    media = written / "files" / "media"
    assert len(list(media.glob("images/**/*.png"))) == 4  # the image, its two layers and the picture
    (table,) = media.glob("table/**/*.json")
    assert json.loads(table.read_text())["data"] == [["Radius", 0.9], ["Ulna", 0.85]]


def test_disabled_tracks_nothing(tmp_path):
    run = Tracking(mode="disabled").start("demo", "fold", "fold-0", {}, tmp_path / "w")
    assert isinstance(run, Run)
    tell_everything(run, tmp_path)
    run.finish()
    assert {path.name for path in tmp_path.iterdir()} == {"note.csv", "figure.png"}


def test_artifact_names_are_such_as_wandb_takes_and_differ_as_the_names_do():
    import wandb

    names = [
        "demo-fold-0",
        "손뼈-fold-0",
        "뼈손-fold-0",
        "a b-fold-0",
        "a$b-fold-0",
        "a:b-fold-0",
        "é-fold-0",
        "x" * 300,
    ]
    names += ["x" * 299 + "y", "\udcff-fold-0", "손뼈-fold-1"]
    taken = [artifact_name(name) for name in names]
    assert taken[0] == names[0]
    assert len(set(taken)) == len(names)
    assert [wandb.Artifact(name, "fold").name.split(":")[0] for name in taken] == taken


HISTORY = [{"epoch": float(epoch), "step": 5.0 * (epoch + 1), "val/dice": epoch / 8} for epoch in range(4)]


def parts_of(folder, name):
    return sorted(path for path in (folder / "wandb").glob(f"offline-run-*-{name}-*"))


def test_a_korean_name_is_tracked_to_the_end(tmp_path, no_key, wandb_records, capfd):
    note = tmp_path / "note.csv"
    note.write_text("x")
    with Tracking(mode="offline", upload="all").start("손뼈", "fold", "fold-0", {}, tmp_path / "손뼈") as run:
        run.artifact("손뼈-fold-0", "fold", [note])
    (line,) = capfd.readouterr().err.splitlines()  # which says where, and nothing that went wrong
    assert line.startswith("tracking: fold-0 is tracked offline in ")
    (part,) = parts_of(tmp_path / "손뼈", "fold-0")
    records = wandb_records(part)
    assert [record.run.run_group for record in records if record.HasField("run")] == ["손뼈"]
    logged = [r.request.log_artifact.artifact.name for r in records if r.HasField("request")]
    logged += [record.artifact.name for record in records if record.HasField("artifact")]
    assert artifact_name("손뼈-fold-0") in logged


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, None])
def test_what_ends_in_an_exception_is_recorded_as_failed_or_interrupted(tmp_path, no_key, wandb_records, error):
    try:
        with Tracking(mode="offline").start("demo", "fold", "fold-0", {}, tmp_path) as run:
            run.epochs(HISTORY[:1])
            if error:
                raise error
    except (ValueError, KeyboardInterrupt):
        pass
    (part,) = parts_of(tmp_path, "fold-0")
    (ended,) = [record.exit for record in wandb_records(part) if record.HasField("exit")]
    assert ended.exit_code == {ValueError: 1, KeyboardInterrupt: 255, None: 0}[error]


def epochs_in(records):
    """Step and metrics of each row of the history."""
    rows = [record.history for record in records if record.HasField("history")]
    found = [{(i.key or "/".join(i.nested_key)): json.loads(i.value_json) for i in row.item} for row in rows]
    return [(row.step.num, item.get("epoch"), item.get("val/dice")) for row, item in zip(rows, found, strict=True)]


def test_a_resumed_run_is_one_history(tmp_path, no_key, wandb_records):
    """The later part tells everything again and takes the place of the earlier one."""
    table = tmp_path / "metrics.csv"
    table.write_text("epoch,step,lr,val/dice\n0,5,,0.0\n1,10,,0.125\n2,15,,0.9\n")  # the last one is repeated
    tracking = Tracking(mode="offline")
    with tracking.start("demo", "fold", "fold-0", {"a": 1}, tmp_path) as run:
        run.epochs(HISTORY[:3])
    with tracking.start("demo", "fold", "fold-0", {"a": 1}, tmp_path) as run:
        run.earlier_epochs(table, complete=False)
        for stop in (2, 3, 4):
            run.epochs(HISTORY[:stop])
        run.table("dice per class", ["class", "dice"], [["Radius", 0.9]])
        run.table("more", ["class", "dice"], [["Radius", 0.9]])
    (part,) = parts_of(tmp_path, "fold-0")
    rows = epochs_in(wandb_records(part))
    assert rows[:4] == [(epoch, epoch + 1, epoch / 8) for epoch in range(4)]
    assert [row[0] for row in rows] == [0, 1, 2, 3, 4, 5]
    (kept,) = (tmp_path / "wandb" / "replaced").iterdir()
    identity = json.loads((tmp_path / "wandb" / "fold-0.json").read_text())["id"]
    assert identity in kept.name
    assert identity in part.name
    assert len(epochs_in(wandb_records(kept))) == 3


def test_what_wandb_refuses_is_said_once_and_the_rest_is_told(tmp_path, no_key, wandb_records, capfd):
    with Tracking(mode="offline", upload="all").start("demo", "fold", "fold-0", {}, tmp_path) as run:
        for _ in range(2):
            run.artifact("demo", "fold", [tmp_path / "is not there"])
            run.figure("examples", tmp_path / "is not there.png")
        run.earlier_epochs(tmp_path / "none.csv", complete=True)
        run.epochs(HISTORY)
    _, line = capfd.readouterr().err.splitlines()  # where it is tracked, and what went wrong
    assert line.startswith("tracking: goes on although W&B does not take everything (")
    (part,) = parts_of(tmp_path, "fold-0")
    assert len(epochs_in(wandb_records(part))) == 4


def test_the_death_of_wandbs_service_costs_a_line(tmp_path, no_key):
    """In a process of its own, whose output and exit count as well."""
    import wandb

    script = tmp_path / "script.py"
    script.write_text(f"""
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from bonepipe.training.tracking import Tracking
from test_tracking import HISTORY, tell_everything
here = Path({str(tmp_path)!r})
with Tracking(mode="offline").start("demo", "fold", "fold-0", {{}}, here) as run:
    for process in Path("/proc").glob("[0-9]*"):
        if (process / "stat").read_text().rpartition(")")[2].split()[1] == str(os.getpid()):
            os.kill(int(process.name), signal.SIGKILL)
            os.waitpid(int(process.name), 0)
    print("result")
    run.epochs(HISTORY)
    tell_everything(run, here)
with Tracking(mode="offline").start("demo", "submission", "submission", {{}}, here) as run:
    run.epochs(HISTORY)
""")
    wandb.teardown()  # the other process shall not use the service of this one
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, script]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment, timeout=120)
    assert done.stdout == "result\n"
    (told,) = (line for line in done.stderr.splitlines() if "socket.send()" not in line and "is tracked" not in line)
    assert told.startswith("tracking: goes on although W&B does not take everything (Connection")
    assert len(parts_of(tmp_path, "submission")) == 1
