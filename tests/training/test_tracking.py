import json

import cv2
import numpy as np
import pytest

from bonepipe.training.tracking import Run, Tracking


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
    run.log({"lr": 0.1})
    run.summarise({"oof_dice": 0.875, "oof_dice_per_class": {"Radius": 0.9}})
    run.table("dice per class", ["class", "dice"], [["Radius", 0.9], ["Ulna", 0.85]])
    run.overlay(
        "best image", np.full((16, 12), 100, np.uint8), {"truth": labels, "prediction": labels // 2}, ["a", "b"]
    )
    note = folder / "note.csv"
    note.write_text("image_name,class,rle\n")
    run.artifact("demo-fold-0", "fold", [note])
    cv2.imwrite(str(folder / "figure.png"), np.full((6, 8, 3), 50, np.uint8))
    run.picture("examples", folder / "figure.png")


def test_a_real_offline_run_writes_everything_down(tmp_path, no_key):
    import wandb

    folder = tmp_path / "wandb here"
    run = Tracking(mode="offline").start("demo", "fold", "fold-0", {"seed": 7, "model": {"encoder": "x"}}, folder)
    try:
        tell_everything(run, tmp_path)
        logger = run.lightning_logger()
        logger.log_metrics({"val/dice": 0.5}, step=1)
        assert logger.experiment.id == run.run.id
        settings = run.run
        assert (settings.project, settings.group, settings.job_type, settings.name) == (
            "bonepipe", "demo", "fold", "fold-0",
        )  # fmt: skip
        assert dict(settings.config) == {"seed": 7, "model": {"encoder": "x"}}
        assert settings.summary["oof_dice"] == 0.875
        assert settings.summary["val/dice"] == 0.5
        assert settings.offline
        identity = settings.id
    finally:
        run.finish()
        wandb.teardown()  # ends wandb's own process, so that everything is on the disk
    assert (folder / "wandb" / "fold-0.id").read_text() == identity
    (written,) = (folder / "wandb").glob("offline-run-*")
    (log,) = written.glob("run-*.wandb")
    content = log.read_bytes()
    assert all(word in content for word in (b"oof_dice", b"demo-fold-0", b"fold-0", b"best image"))
    media = written / "files" / "media"
    assert len(list(media.glob("images/**/*.png"))) == 4  # the image, its two layers and the picture
    (table,) = media.glob("table/**/*.json")
    assert json.loads(table.read_text())["data"] == [["Radius", 0.9], ["Ulna", 0.85]]


def test_a_run_keeps_its_id_and_auto_without_a_key_is_offline(tmp_path, no_key, monkeypatch):
    import wandb

    seen = []

    class Started:
        def __init__(self, **arguments):
            seen.append(arguments)

    monkeypatch.setattr(wandb, "init", Started)
    for mode, name in (("auto", "fold-0"), ("auto", "fold-0"), ("auto", "fold-1"), ("online", "fold-0")):
        Tracking(project="p", mode=mode).start("demo", "fold", name, {"a": 1}, tmp_path / "w")
    assert [arguments["mode"] for arguments in seen] == ["offline", "offline", "offline", "online"]
    ids = [arguments["id"] for arguments in seen]
    assert ids[0] == ids[1] == ids[3] != ids[2]
    assert [arguments["resume"] for arguments in seen] == [None, None, None, "allow"]
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    Tracking(mode="auto").start("demo", "fold", "fold-0", {}, tmp_path / "w")
    assert seen[-1]["mode"] == "online"
    monkeypatch.delenv("WANDB_API_KEY")
    (tmp_path / ".netrc").write_text(f"machine api.wandb.ai login user password {'k' * 40}\n")
    (tmp_path / ".netrc").chmod(0o600)
    Tracking(mode="auto").start("demo", "fold", "fold-0", {}, tmp_path / "w")
    assert seen[-1]["mode"] == "online"
    monkeypatch.setenv("WANDB_MODE", "offline")
    Tracking(mode="auto").start("demo", "fold", "fold-0", {}, tmp_path / "w")
    assert seen[-1]["mode"] == "offline"


def test_disabled_tracks_nothing(tmp_path):
    run = Tracking(mode="disabled").start("demo", "fold", "fold-0", {}, tmp_path / "w")
    assert isinstance(run, Run)
    tell_everything(run, tmp_path)
    run.finish()
    assert run.lightning_logger() is False
    assert {path.name for path in tmp_path.iterdir()} == {"note.csv", "figure.png"}


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="mode='ofline'"):
        Tracking(mode="ofline")
