"""Files that settings name: what is edited after a run was begun is noticed, and predicting does not need them."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from bonepipe.cli import main
from bonepipe.commands import inputs
from bonepipe.config import compose
from bonepipe.pipeline.experiment import Experiment

POLICY = "transforms: [{name: Affine, rotate: [-5, 5], p: 1.0}]\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory, phantom_root):
    """A folder with a finished run of two folds that were trained with a corrections file and a policy."""
    folder, before = tmp_path_factory.mktemp("run"), Path.cwd()
    (folder / "conf").symlink_to(before / "conf")
    image = sorted((phantom_root / "train" / "DCM").rglob("*.png"))[0].name
    (folder / "mended.csv").write_text(f"image_name,class,action,value\n{image},Radius,drop,\n")
    (folder / "policy.yaml").write_text(POLICY)
    words = [
        "experiment=debug", f"data.root={phantom_root}", "folds.count=2", "folds.file=folds.csv", "device=cpu",
        "trainer.epochs=1", "averaging=none", "tta=none", "augment=searched", "augment.file=policy.yaml",
        "data.corrections=mended.csv",
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


def test_each_fold_notes_what_was_in_the_files(run):
    folder, _ = run
    files = {"augment.file": "policy.yaml", "data.corrections": "mended.csv", "folds.file": "folds.csv"}
    for fold in (0, 1):
        noted = json.loads((folder / "runs" / "debug" / f"fold-{fold}" / "inputs.json").read_text())
        assert noted == {key: hashlib.sha256((folder / name).read_bytes()).hexdigest() for key, name in files.items()}


@pytest.mark.parametrize(
    ("command", "name", "key"),
    [
        ("train", "mended.csv", "data.corrections"),
        ("train", "folds.csv", "folds.file"),
        ("train-all", "policy.yaml", "augment.file"),
        ("autoaugment", "folds.csv", "folds.file"),
    ],
)
def test_an_edited_file_is_refused_where_it_is_trained_with(restored, capsys, command, name, key):
    folder, words = restored
    with (folder / name).open("a") as file:
        file.write("\n")
    assert main([command, *words]) == 1
    message = capsys.readouterr().err
    assert "fold-0/inputs.json: this run was begun with other contents" in message.replace("\\", "/")
    assert f"{key}: {name} has been changed since" in message
    assert "name=..." in message
    assert message.count("has been changed") == 1


@pytest.mark.parametrize("name", ["mended.csv", "policy.yaml"])
def test_a_lost_file_is_refused_where_it_is_trained_with(restored, capsys, name):
    folder, words = restored
    (folder / name).unlink()
    assert main(["train", *words]) == 1
    assert f"{name} is no longer there" in capsys.readouterr().err


def test_a_lost_fold_file_is_made_anew(restored, capsys):
    folder, words = restored
    before = (folder / "folds.csv").read_bytes()
    (folder / "folds.csv").unlink()
    assert main(["train", *words]) == 0
    assert "done already" in capsys.readouterr().err
    assert (folder / "folds.csv").read_bytes() == before


def test_an_interrupted_fold_does_not_go_on_with_an_edited_file(restored, monkeypatch, capsys):
    folder, words = restored

    def interrupt(*given, **named):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("bonepipe.training.fit.train_fold", interrupt)
        assert main(["train", *words, "name=cut"]) == 130
    (folder / "policy.yaml").write_text(POLICY.replace("5", "6"))
    assert main(["train", *words, "name=cut"]) == 1
    assert "augment.file: policy.yaml has been changed since" in capsys.readouterr().err
    (folder / "policy.yaml").write_text(POLICY)
    assert main(["train", *words, "name=cut"]) == 0


def test_predicting_needs_none_of_the_files(restored, phantom_root, tmp_path):
    folder, words = restored
    path = folder / "runs" / "debug" / "submission.csv"
    before = path.read_bytes()
    for name in ("mended.csv", "policy.yaml", "folds.csv"):
        (folder / name).unlink()
    assert main(["submit", *words]) == 0
    assert path.read_bytes() == before
    image = sorted((phantom_root / "test" / "DCM").rglob("*.png"))[0]
    assert main(["predict", str(image), "-o", str(tmp_path / "out"), *words]) == 0


def test_runs_from_before_such_notes_go_on(restored):
    folder, words = restored
    path = folder / "runs" / "debug" / "fold-0" / "inputs.json"
    noted = path.read_bytes()
    path.unlink()
    (folder / "policy.yaml").write_text(POLICY + "\n")
    assert main(["train", *words]) == 0
    path.write_bytes(b"{")
    assert main(["train", *words]) == 1
    path.write_bytes(noted)


def test_all_files_that_training_reads_are_noted(tmp_path):
    words = [f"data.{key}={tmp_path / key}" for key in ("pseudo", "masks")]
    (tmp_path / "pseudo").write_text("a")
    found = inputs.digests(compose(["experiment=debug", *words]))
    assert found["data.pseudo"] == hashlib.sha256(b"a").hexdigest()
    assert found["data.masks"] == "missing"
    assert "augment.file" not in found
    assert "data.corrections" not in found


def test_recorded_leaderboard_scores_outlive_training_and_submitting_again(run):
    folder, words = run
    path = folder / "runs" / "debug" / "scores.json"
    before = json.loads(path.read_text())
    assert main(["leaderboard", "runs/debug", "--public", "0.5", "--private", "0.25"]) == 0
    noted = json.loads(path.read_text())["leaderboard"]
    assert main(["train-all", *words]) == 0
    after = json.loads(path.read_text())
    assert after["leaderboard"] == noted
    assert after["oof_dice"] == before["oof_dice"]
    assert "public" not in after  # of a submission that is older than these thresholds
    assert main(["submit", *words]) == 0
    assert json.loads(path.read_text()) == {**before, "leaderboard": noted}
    assert Experiment(compose(words)).folder == Path("runs/debug")
