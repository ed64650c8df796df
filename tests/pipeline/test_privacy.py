"""What Weights & Biases is told of data with patients, looked for in every byte that an offline run leaves."""

import getpass
import json
import re
import shutil
import socket

import pytest
from offline_run import read_records  # pytest's option pythonpath has its folder

from bonepipe.cli import main
from bonepipe.data.synthetic import MARK
from bonepipe.training.tracking import Tracking

BINARY = (".png", ".jpg", ".wandb")  # the last one's records are read as text, too
HOST, USER = "a-machine-of-theirs", "dr.somebody"


@pytest.fixture(scope="module")
def submitted(tmp_path_factory, phantom_root):
    """Two folds, a cross-validation and a submission of the same data at each level; the words that sent them, too."""
    home = tmp_path_factory.mktemp("home") / USER
    root = home / "hands of a clinic"
    shutil.copytree(phantom_root, root)
    (root / MARK).unlink()
    for part in ("train", "test"):  # fewer, for time
        for folder in sorted((root / part / "DCM").iterdir())[4 if part == "train" else 1 :]:
            shutil.rmtree(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("HOME", str(home))
        patch.setenv("USER", USER)
        patch.setattr(socket, "gethostname", lambda: HOST)
        for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
            patch.delenv(name, raising=False)
        kept = sorted((root / "train" / "DCM").glob("*/*.png"))[0].name
        words = [
            "experiment=debug", f"data.root={root}", "folds.count=2", f"folds.file={home / 'folds.csv'}", "device=cpu",
            "trainer.epochs=1", "tta=none", "model.encoder=tu-mobilenetv3_small_050", f"data.negatives=['{kept}']",
            "model.settings.decoder_channels=[16,8,8,8,8]", "tracking=wandb", "tracking.mode=offline",
        ]  # fmt: skip
        for level in ("auto", "pictures", "all"):
            for fold in (0, 1):
                assert main(["train", *words, f"name={level}", f"fold={fold}", f"tracking.upload={level}"]) == 0
            assert main(["submit", *words, f"name={level}", f"tracking.upload={level}"]) == 0
    import wandb

    wandb.teardown()
    return home, root


def files_of(folder):
    """What an upload reads of the runs: their logs of records, and all files beside them."""
    return [path for path in folder.glob("wandb/*run-*/**/*") if path.is_file()]


def secrets(root):
    """Patients, names of images, places and machines."""
    images = list(root.rglob("*.png"))
    words = {path.parent.name for path in images} | {path.stem for path in images}
    return words | {root.name, HOST, USER, "folds.csv", socket.gethostname(), getpass.getuser()} - {"root"}


def revealing(folder, root):
    """(file, word) of all that is found, in files' names as well."""
    found = []
    for path in files_of(folder):
        content = path.read_bytes() + str(path.relative_to(folder)).encode()
        if path.parent.name == "logs":  # they lie in the folder that they name, and no sync reads them
            content = content.replace(str(folder.resolve()).encode(), b"")
        found += [(path.name, word) for word in words_in(content, root, binary=path.suffix in BINARY)]
        if path.suffix == ".wandb":
            text = "\n".join(map(str, read_records(path.parent)))
            found += [(path.name, word) for word in words_in(text.encode(), root, binary=False)]
    return found


def words_in(content, root, *, binary):
    """The secrets in some bytes; so few as those of a short host name, "vm", are in the noise of any packed file."""
    words = [word for word in secrets(root) if not (binary and len(word) < 4)]
    return [w for w in words if re.search(rb"(?<![A-Za-z0-9])" + re.escape(w.encode()) + rb"(?![A-Za-z0-9])", content)]


def shown(folder):
    """Names of the pictures of a run folder's runs that are no charts."""
    media = folder.glob("wandb/*run-*/files/media/images/**/*")
    charts = ("per class", "heat map")
    return [path.name for path in media if path.is_file() and not path.name.startswith(charts)]


def kept_files(folder, wandb_records):
    """Kinds of the artifacts; W&B makes some of tables."""
    records = [record for part in folder.glob("wandb/*run-*") for record in wandb_records(part)]
    logged = [r.request.log_artifact.artifact for r in records if r.HasField("request")]
    logged += [record.artifact for record in records if record.HasField("artifact")]
    return {artifact.type for artifact in logged} - {""}


def test_by_default_numbers_only(submitted, wandb_records):
    home, root = submitted
    folder = home / "runs" / "auto"
    assert len(list(folder.glob("wandb/offline-run-*"))) == 4  # two folds, the cross-validation, the submission
    assert revealing(folder, root) == []
    assert (shown(folder), kept_files(folder, wandb_records)) == ([], set())
    tables = [json.loads(path.read_text()) for path in files_of(folder) if path.name.endswith(".table.json")]
    assert any("dice" in table["columns"] for table in tables)
    (fold,) = folder.glob("wandb/offline-run-*-fold-0-*")
    assert any(record.HasField("history") for record in wandb_records(fold))
    assert not any(record.HasField("environment") for record in wandb_records(fold))


def test_pictures_have_no_names(submitted, wandb_records):
    home, root = submitted
    folder = home / "runs" / "pictures"
    assert revealing(folder, root) == []
    assert {name.partition("_")[0] for name in shown(folder)} >= {"worst", "median", "best", "worst close-up"}
    assert kept_files(folder, wandb_records) == set()


def test_a_sync_brings_the_server_nothing_more(submitted, tmp_path, wandb_server):
    home, root = submitted
    shutil.copytree(home / "runs" / "auto" / "wandb", tmp_path / USER / "auto" / "wandb")
    assert main(["sync", str(tmp_path / USER / "auto")]) == 0
    assert len(wandb_server.runs) == 4
    told = [run.about for run in wandb_server.runs.values()] + [run.lines for run in wandb_server.runs.values()]
    assert "dice" in str(told)
    assert words_in(str((told, wandb_server.artifacts, list(wandb_server.stored))).encode(), root, binary=False) == []
    for path, content in wandb_server.stored.items():
        assert words_in(content, root, binary=path.endswith(".png")) == [], path


def test_all_holds_files_and_names(submitted, wandb_records):
    home, root = submitted
    folder = home / "runs" / "all"
    assert kept_files(folder, wandb_records) >= {"fold", "cross-validation", "submission"}
    assert {root.name, HOST} <= {word for _, word in revealing(folder, root)}


def test_the_page_names_the_classes_of_each_layer(submitted, wandb_records):
    home, _ = submitted
    (part,) = (home / "runs" / "pictures").glob("wandb/*run-*-fold-0-*")
    updates = [update for record in wandb_records(part) for update in config_of(record)]
    labels = json.loads(updates[-1].value_json)["mask/class_labels"]
    key = "examples/worst close-up_wandb_delimeter_truth 1"
    named = labels[key]["value"]
    assert named["0"] == "background"
    assert len(named) > 1
    assert {k.rpartition("_wandb_delimeter_")[2] for k in labels} >= {"truth 1", "truth 2", "prediction 1"}


def config_of(record):
    """Updates of W&B's own part of the config, in a record that holds some."""
    updates = [*record.config.update, *record.run.config.update]
    return [update for update in updates if "_wandb" in (update.key, *update.nested_key)]


def test_a_line_says_what_is_sent_where(submitted, capfd, monkeypatch):
    home, _ = submitted
    monkeypatch.chdir(home)
    for choice, told in (("numbers", "numbers only"), ("pictures", "numbers and pictures"), ("all", "everything")):
        Tracking(mode="offline", upload=choice).start("demo", "fold", "fold-0", {}, home / choice).finish()
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith(
            f"tracking: fold-0 is tracked offline in {home / choice / 'wandb'}: {told} (tracking.upl"
        )
