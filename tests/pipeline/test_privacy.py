"""What Weights & Biases is told of data with patients, looked for in every byte that an offline run leaves."""

import json
import re
import shutil
import socket
from pathlib import Path

import pytest

from bonepipe.cli import main
from bonepipe.data.synthetic import MARK

HOST = "a-machine-of-theirs"


@pytest.fixture(scope="module")
def submitted(tmp_path_factory, phantom_root):
    """Two folds, a cross-validation and a submission of the same data at each level; the words that sent them, too."""
    home = tmp_path_factory.mktemp("dr.somebody")
    root = home / "hands of a clinic"
    shutil.copytree(phantom_root, root)
    (root / MARK).unlink()
    for part in ("train", "test"):  # fewer, for time
        for folder in sorted((root / part / "DCM").iterdir())[4 if part == "train" else 1 :]:
            shutil.rmtree(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("HOME", str(home))
        patch.setenv("USER", "dr.somebody")
        patch.setattr(socket, "gethostname", lambda: HOST)
        for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
            patch.delenv(name, raising=False)
        kept = sorted((root / "train" / "DCM").glob("*/*.png"))[0].name
        words = [
            "experiment=debug", f"data.root={root}", "folds.count=2", f"folds.file={home / 'folds.csv'}", "device=cpu",
            "trainer.epochs=1", "tta=none", "model.encoder=tu-mobilenetv3_small_050", f"data.negatives=['{kept}']",
            "model.settings.decoder_channels=[16,8,8,8,8]", "tracking=wandb", "tracking.mode=offline",
        ]  # fmt: skip
        for fold in (0, 1):
            assert main(["train", *words, "name=first", f"fold={fold}", "tracking.upload=numbers"]) == 0
        assert main(["submit", *words, "name=first", "tracking.upload=auto"]) == 0
        for level in ("pictures", "all"):  # the folds are told again, and everything after them
            shutil.copytree("runs/first", f"runs/{level}", ignore=lambda _, names: {"wandb", *SCORED} & set(names))
            for fold in (0, 1):
                (home / "runs" / level / f"fold-{fold}" / "oof.csv").unlink()
                assert main(["train", *words, f"name={level}", f"fold={fold}", f"tracking.upload={level}"]) == 0
            assert main(["submit", *words, f"name={level}", f"tracking.upload={level}"]) == 0
    import wandb

    wandb.teardown()
    return home, root


SCORED = ("thresholds.json", "scores.json", "submission.csv")


def files_of(folder):
    """What an upload reads of the runs: their logs of records, and all files beside them."""
    return [path for path in folder.glob("wandb/*run-*/**/*") if path.is_file()]


def secrets(root):
    """Patients, names of images, places and machines, as regular expressions of bytes."""
    images = list(root.rglob("*.png"))
    words = {path.parent.name for path in images} | {path.stem for path in images}
    words |= {root.name, HOST, "dr.somebody", "folds.csv"}
    hosts = {socket.gethostname(), Path.home().name} - {"", "root"}
    return [re.compile(rb"(?<![A-Za-z0-9])" + re.escape(word.encode()) + rb"(?![A-Za-z0-9])") for word in words | hosts]


def revealing(folder, root):
    """(file, word) of all that is found."""
    found = []
    for path in files_of(folder):
        content = path.read_bytes()
        if path.parent.name == "logs":  # they stay on this machine, and lie in the folder that they name
            content = content.replace(str(folder.resolve()).encode(), b"")
        found += [(path.name, word.pattern) for word in secrets(root) if word.search(content)]
        found += [
            (path.name, word.pattern) for word in secrets(root) if word.search(str(path.relative_to(folder)).encode())
        ]
    return found


def kinds(folder):
    return {path.suffix for path in files_of(folder)}


def test_numbers_only_by_default(submitted):
    home, root = submitted
    folder = home / "runs" / "first"
    assert len(list(folder.glob("wandb/offline-run-*"))) == 4  # two folds, the cross-validation, the submission
    assert revealing(folder, root) == []
    pictures = [path.name for path in files_of(folder) if path.suffix in (".png", ".jpg")]
    assert len(pictures) == 1 and pictures[0].startswith("thresholds")
    tables = [json.loads(path.read_text()) for path in files_of(folder) if path.name.endswith(".table.json")]
    assert any("dice" in table["columns"] for table in tables)


def test_pictures_have_no_names(submitted):
    home, root = submitted
    folder = home / "runs" / "pictures"
    assert revealing(folder, root) == []
    shown = {path.parent.name: path for path in folder.glob("wandb/*fold-0*/files/media/images/examples/*.png")}
    assert shown


def test_all_holds_files_too(submitted, wandb_records):
    home, root = submitted
    (part,) = (home / "runs" / "all").glob("wandb/*run-*fold-0*")
    records = wandb_records(part)
    logged = [r.request.log_artifact.artifact.name for r in records if r.HasField("request")]
    logged += [record.artifact.name for record in records if record.HasField("artifact")]
    assert "all-fold-0" in logged
    assert revealing(home / "runs" / "all", root)
    (narrow,) = (home / "runs" / "pictures").glob("wandb/*run-*fold-0*")
    assert not [r for r in wandb_records(narrow) if r.HasField("artifact") and r.artifact.type == "fold"]
