"""What each step depends on: settings, and the files that settings name, noted by content when a fold is begun."""

import csv
import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from bonepipe.cli import main
from bonepipe.config import compose
from bonepipe.data.store import key
from bonepipe.errors import BonepipeError
from bonepipe.pipeline import leaderboard
from bonepipe.pipeline.experiment import Experiment
from bonepipe.pipeline.run_folder import read_fingerprint
from bonepipe.pipeline.steps import Steps

POLICY = "transforms: [{name: Affine, rotate: [-5, 5], p: 1.0}]\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory, phantom_root):
    """A folder with a finished run of two folds that were trained with a corrections file and a policy."""
    folder, before = tmp_path_factory.mktemp("run"), Path.cwd()
    image = sorted((phantom_root / "train" / "DCM").rglob("*.png"))[0].name
    (folder / "mended.csv").write_text(f"image_name,class,action,value\n{image},Radius,drop,\n")
    (folder / "policy.yaml").write_text(POLICY)
    words = [
        "experiment=debug", f"data.root={phantom_root}", "folds.count=2", "folds.file=folds.csv", "device=cpu",
        "trainer.epochs=1", "averaging=none", "tta=none", "augment=searched", "augment.file=policy.yaml",
        "data.corrections=mended.csv", "model.encoder=tu-mobilenetv3_small_050",
        "model.settings.decoder_channels=[16,8,8,8,8]",
    ]  # fmt: skip
    os.chdir(folder)
    try:
        for command in (["train", "fold=0"], ["train", "fold=1"], ["train-all"], ["submit"]):
            assert main([*command, *words]) == 0
        yield folder, words
    finally:
        os.chdir(before)


@pytest.fixture
def restored(run):
    """The same, its files put back afterwards."""
    kept = {path: path.read_bytes() for path in run[0].glob("*.*") if path.is_file()}
    yield run
    for path, content in kept.items():
        path.write_bytes(content)


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()[:24]


def test_each_fold_notes_what_was_in_the_files_and_who_validates_what(run):
    folder, _ = run
    files = {"augment.file": "policy.yaml", "data.corrections": "mended.csv"}
    rows = csv.DictReader((folder / "folds.csv").open(newline=""))
    folds = {row["image_name"]: int(row["fold"]) for row in rows}
    for fold in (0, 1):
        noted = read_fingerprint(folder / "runs" / "debug" / f"fold-{fold}")["training"]["inputs"]
        digests = {key: sha256(folder / name) for key, name in files.items()}
        assert noted["files"].items() >= digests.items()
        assert noted["folds"] == folds
        assert len(noted["files"]) == 2 + 2 * 20  # images and annotations


@pytest.mark.parametrize("command", ["train", "train-all", "submit"])
@pytest.mark.parametrize(
    ("name", "addition", "changed"),
    [("mended.csv", "\n", "data.corrections"), ("policy.yaml", "\n", "augment.file"), ("folds.csv", None, ".png")],
)
def test_an_edited_file_is_refused_where_it_is_trained_with(restored, capsys, command, name, addition, changed):
    folder, words = restored
    text = (folder / name).read_text()
    if addition is None:  # the folds trade places
        header, *rows = text.splitlines()
        text = "\n".join([header, *(f"{row[:-1]}{1 - int(row[-1])}" for row in rows)])
    (folder / name).write_text(text + (addition or "\n"))
    capsys.readouterr()
    assert main([command, *words]) == 1
    told = capsys.readouterr()
    assert "fold-0: this fold was trained with other settings or files" in told.err.replace("\\", "/")
    assert f"{changed} has changed" in told.err
    assert "name=..." in told.err
    assert told.err.count("has changed") == (5 if addition is None else 1)
    assert told.out == ""


@pytest.mark.parametrize(("name", "key"), [("mended.csv", "data.corrections"), ("policy.yaml", "augment.file")])
def test_a_lost_file_is_refused_where_it_is_trained_with(restored, capsys, name, key):
    folder, words = restored
    (folder / name).unlink()
    for command in ("train", "train-all"):
        assert main([command, *words]) == 1
        assert f"{key}={name}: no such file" in capsys.readouterr().err


def test_a_lost_fold_file_is_made_anew(restored, capsys):
    folder, words = restored
    before = (folder / "folds.csv").read_bytes()
    (folder / "folds.csv").unlink()
    assert main(["train", *words]) == 0
    assert "done already" in capsys.readouterr().err
    assert (folder / "folds.csv").read_bytes() == before


def test_an_added_line_of_the_fold_file_that_changes_no_fold_changes_nothing(restored, capsys):
    folder, words = restored
    with (folder / "folds.csv").open("a") as file:
        file.write("\n")
    assert main(["train-all", *words]) == 0
    assert "done already" in capsys.readouterr().err


def test_an_interrupted_fold_does_not_go_on_with_an_edited_file(restored, monkeypatch, capsys):
    folder, words = restored

    def interrupt(*given, **named):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("bonepipe.training.fit.train_fold", interrupt)
        assert main(["train", *words, "name=cut"]) == 130
    (folder / "policy.yaml").write_text(POLICY.replace("5", "6"))
    assert main(["train", *words, "name=cut"]) == 1
    assert "augment.file has changed" in capsys.readouterr().err
    (folder / "policy.yaml").write_text(POLICY)
    assert main(["train", *words, "name=cut"]) == 0


def test_predicting_needs_none_of_the_files(restored, phantom_root, tmp_path):
    folder, words = restored
    path = folder / "runs" / "debug" / "submission.csv"
    before = path.read_bytes()
    for name in ("mended.csv", "policy.yaml", "folds.csv", "runs/debug/submission.csv"):
        (folder / name).unlink()
    assert main(["submit", "--run", "runs/debug"]) == 0
    assert path.read_bytes() == before
    image = sorted((phantom_root / "test" / "DCM").rglob("*.png"))[0]
    assert main(["predict", str(image), "-o", str(tmp_path / "out"), *words]) == 0
    assert main(["predict", str(image), "-o", str(tmp_path / "more"), "--run", "runs/debug"]) == 0
    names = [tmp_path / out / "predictions.csv" for out in ("out", "more")]
    assert names[0].read_bytes() == names[1].read_bytes()
    assert not (folder / "folds.csv").exists()


def test_a_fold_that_nobody_took_notes_of_is_not_taken_for_this_one(restored, capsys):
    folder, words = restored
    path = folder / "runs" / "debug" / "fold-0" / "fingerprint.json"
    noted = path.read_bytes()
    path.unlink()
    assert main(["train", *words]) == 1
    message = capsys.readouterr().err
    assert "fold-0/fingerprint.json: is missing" in message and "delete the fold's folder" in message
    path.write_bytes(b"{")
    assert main(["train", *words]) == 1
    assert "fold-0/fingerprint.json: cannot be read" in capsys.readouterr().err
    path.write_bytes(noted)
    assert main(["train", *words]) == 0


def test_all_files_that_training_reads_are_noted(phantom_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["experiment=debug", f"data.root={phantom_root}", f"data.masks={tmp_path / 'masks'}"]
    with pytest.raises(BonepipeError, match=r"data\.masks=.*masks: no such file"):
        _ = Steps(Experiment(compose(words))).training_inputs
    (tmp_path / "masks").write_text("a")
    test = sorted((phantom_root / "test" / "DCM").rglob("*.png"))
    rows = [f"{test[0].name},{label},," for label in compose(words)["data"]["classes"]]
    (tmp_path / "pseudo").write_text("\n".join(["image_name,class,rle,ambiguous", *rows]))
    found = Steps(Experiment(compose([*words, f"data.pseudo={tmp_path / 'pseudo'}"]))).training_inputs["files"]
    assert found["data.masks"] == sha256(tmp_path / "masks")
    assert found["data.pseudo"] == sha256(tmp_path / "pseudo")
    assert str(test[0].relative_to(phantom_root)) in found
    assert not {"augment.file", "data.corrections"} & found.keys()


@pytest.mark.parametrize(("words", "noted"), [([], False), (["sampler=weighted"], True)])
def test_strata_may_change_later_only_where_nothing_was_drawn_by_them(
    phantom_root, tmp_path, monkeypatch, words, noted
):
    monkeypatch.chdir(tmp_path)
    words = ["experiment=debug", f"data.root={phantom_root}", *words]
    step = Steps(Experiment(compose(words))).training(0)
    step.folder.mkdir(parents=True)
    step.record()
    changed = Steps(Experiment(compose([*words, "strata.by=[sex]", "strata.bend=20"]))).training(0).changes()
    assert [line.partition(":")[0] for line in changed] == (["strata.bend", "strata.by"] if noted else [])


def test_negatives_make_stale_what_reads_them_and_nothing_else(phantom_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words, provenance = ["experiment=debug", f"data.root={phantom_root}"], {"decisions": {"by_stratum": False}}
    train, test = (sorted((phantom_root / part / "DCM").rglob("*.png"))[0].name for part in ("train", "test"))
    plain = Steps(Experiment(compose(words)))
    plain.experiment.folder.mkdir(parents=True)
    (plain.experiment.folder / "thresholds.json").write_text("{}")
    for step in (plain.training(0), plain.submission(provenance)):
        step.folder.mkdir(exist_ok=True)
        step.record()
    for names, trained, submitted in (
        (train, [f"{train} as a negative is new"], []),
        (test, [], [f"{test} as a negative is new"]),
    ):
        here = Steps(Experiment(compose([*words, f"data.negatives=[{names}]"])))
        assert here.training(0).changes() == trained
        assert here.submission(provenance).changes() == submitted
    store = key(plain.experiment.cohort.images, plain.experiment.data, tmp_path)
    turned = Experiment(compose([*words, f"data.negatives=[{train}]"]))
    assert key(turned.cohort.images, turned.data, tmp_path) != store
    with pytest.raises(BonepipeError, match=r"data\.negatives: 'none\.png' fits no image"):
        _ = Experiment(compose([*words, "data.negatives=[none.png]"])).cohort.images


def test_recorded_leaderboard_scores_outlive_training_and_submitting_again(run):
    folder, words = run
    path = folder / "runs" / "debug" / "scores.json"
    before = json.loads(path.read_text())
    noted = leaderboard.record(path, {"public": 0.5, "private": 0.25}, "2024-05-31")
    assert json.loads(path.read_text())["leaderboard"] == noted
    assert main(["train-all", *words, "thresholds.margin=1e9"]) == 0
    after = json.loads(path.read_text())
    assert after["leaderboard"] == noted
    assert after["oof_dice_at_half"] == before["oof_dice_at_half"]
    assert "public" not in after  # of a submission that is older than these thresholds
    assert main(["train-all", *words]) == 0
    after = json.loads(path.read_text())
    assert after["leaderboard"] == noted
    assert after["oof_dice"] == before["oof_dice"]
    assert "public" not in after
    assert main(["submit", *words]) == 0
    assert json.loads(path.read_text()) == {**before, "leaderboard": noted}
    assert Experiment(compose(words)).folder == Path("runs/debug")


@pytest.mark.parametrize(
    ("sampler", "depends"),
    [("sampler=shuffle", False), ("sampler=weighted sampler.balance={rotated:2}", False), ("sampler=weighted", True)],
)
def test_who_is_drawn_as_often_as_in_the_test_set_depends_on_that(tmp_path, phantom_root, sampler, depends):
    root = shutil.copytree(phantom_root, tmp_path / "data")
    words = ["experiment=debug", f"data.root={root}", f"folds.file={tmp_path}/folds.csv", f"runs={tmp_path}/runs"]

    def inputs():
        return Steps(Experiment(compose([*words, *sampler.split()]))).training_inputs

    before, image = inputs(), sorted((root / "test" / "DCM").rglob("*.png"))[0]
    more = root / "test" / "DCM" / "ID990" / "image99900.png"
    more.parent.mkdir()
    shutil.copy(image, more)
    assert (inputs() != before) == depends
    assert (more.relative_to(root).as_posix() in inputs()["files"]) == depends
