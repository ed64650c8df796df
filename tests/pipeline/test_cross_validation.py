"""Scores weighted to the test set's mix, and the settings that change what a fold trains on, from end to end."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from in_process import folds_here

from bonepipe import config as configs
from bonepipe.cli import main
from bonepipe.config import compose
from bonepipe.data.phantom.dataset import write_dataset
from bonepipe.errors import BonepipeError
from bonepipe.pipeline import cross_validation
from bonepipe.pipeline.cross_validation import weighted_scores
from bonepipe.pipeline.experiment import Experiment

TINY = [
    "experiment=debug", "data.size=64", "trainer.epochs=1", "device=cpu", "averaging=none", "tta=none",
    "model.encoder=tu-mobilenetv3_small_050", "model.settings.decoder_channels=[16,8,8,8,8]",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def experiment(phantom_root, folder):
    """Make an Experiment on the tiny phantom."""
    return lambda *words: Experiment(compose([*TINY, f"data.root={phantom_root}", *words]))


@pytest.fixture(scope="module")
def more(tmp_path_factory):
    """Three patients of another hospital, one of them with the id of a patient of the tiny phantom."""
    root = tmp_path_factory.mktemp("more") / "data"
    write_dataset(root, 3, 0, 128, seed=5, workers=0)
    return root


def rotated(root):
    return set((root / "rotated.csv").read_text().split()[1:])


def test_the_weighted_dice_by_hand(experiment, phantom_root):
    """Two of ten train patients and two of four test patients, say, are rotated; Dice 0.8 against 0.9."""
    here = experiment()
    bent = [image.patient in rotated(phantom_root) for image in here.cohort.images]
    names, dice = [image.name for image in here.cohort.images], np.where(bent, 0.8, 0.9)
    share = len(rotated(phantom_root) & {p.name for p in (phantom_root / "test/DCM").iterdir()}) / 4
    scores = weighted_scores(here, names, dice)
    assert scores["oof_dice_weighted"] == pytest.approx(share * 0.8 + (1 - share) * 0.9)
    assert scores["strata"]["rotated"] == {
        "images": sum(bent), "share": sum(bent) / 20, "test_share": share, "dice": pytest.approx(0.8),
    }  # fmt: skip
    stated = experiment("strata.test_mix={rotated: 0.25, straight: 0.75}")
    assert weighted_scores(stated, names, dice)["oof_dice_weighted"] == pytest.approx(0.875)


def test_strata_of_the_test_set_that_training_has_not_are_named(experiment, capsys):
    here = experiment("strata.test_mix={rotated: 0.5, broken: 0.5}")
    names = [image.name for image in here.cohort.images]
    scores = weighted_scores(here, names, np.linspace(0.5, 0.9, 20))
    assert scores["oof_dice_weighted"] == pytest.approx(scores["strata"]["rotated"]["dice"])
    assert "no validated image is of the stratum broken: 50% of the test set stays unseen" in capsys.readouterr().err
    lost = experiment("strata.test_mix={broken: 1}")
    assert "oof_dice_weighted" not in weighted_scores(lost, names, np.ones(20))


def test_without_test_images_there_is_no_weighted_dice(phantom_root, folder):
    root = shutil.copytree(phantom_root, folder / "data")
    shutil.rmtree(root / "test")
    here = Experiment(compose([*TINY, f"data.root={root}"]))
    assert weighted_scores(here, [image.name for image in here.cohort.images], np.ones(20)) == {}


def test_external_images_train_every_fold_and_validate_none(experiment, more):
    here = experiment(f"data.external=[{{root: {more}, prefix: more}}]", "folds.count=2")
    names = {path.name for path in (more / "train/DCM").rglob("*.png")}
    assert len(names) == 6
    for fold in (0, 1):
        training, validation = here.cohort.indices(fold)
        assert {here.cohort.images[index].name for index in training} >= names
        assert not {here.cohort.images[index].name for index in validation} & names
        assert sorted([*training, *validation]) == list(range(26))
    assert not [line for line in Path(here.folds.file).read_text().splitlines() if line.split(",")[0] in names]
    own = {image.patient for image in here.cohort.own_images}
    assert not own & {image.patient for image in here.cohort.images[20:]}
    assert here.cohort.store.names[20:] == tuple(image.name for image in here.cohort.images[20:])


def weights_of(experiment, indices):
    return experiment.cohort.draw_weights(indices, configs.build(experiment.config, "sampler"))


def test_weights_of_a_folds_images(experiment, phantom_root):
    here = experiment("sampler=weighted", "folds=stratified_group", "folds.count=2")
    patients = np.array([image.patient for image in here.cohort.images])
    bent_by_fold = [np.isin(patients[here.cohort.indices(fold)[0]], list(rotated(phantom_root))) for fold in (0, 1)]
    fold = int(bent_by_fold[1].any())  # the other fold holds the only rotated train patient out
    training, bent = here.cohort.indices(fold)[0], bent_by_fold[fold]
    share = here.cohort.test_mix["rotated"]
    weights = weights_of(here, training)
    assert weights[bent].sum() / weights.sum() == pytest.approx(share)
    assert weights_of(experiment(), training) is None
    factors = weights_of(experiment("sampler=weighted", "sampler.balance={rotated: 3}"), training)
    assert factors.tolist() == np.where(bent, 3.0, 1.0).tolist()
    straight = [index for index, is_bent in zip(training, bent, strict=True) if not is_bent]
    with pytest.raises(BonepipeError, match=r"sampler\.balance: no training image is of the stratum rotated"):
        weights_of(here, straight)


def test_a_hold_out_with_weighted_draws_and_external_data_from_end_to_end(
    phantom_root, folder, more, capsys, monkeypatch
):
    folds_here(monkeypatch)
    words = [
        *TINY, f"data.root={phantom_root}", "folds=holdout", "folds.share=0.3", "sampler=weighted",
        "sampler.foreground=0.5", f"data.external=[{{root: {more}, prefix: more}}]", "strata.wrist=estimated",
    ]  # fmt: skip
    assert main(["train-all", *words]) == 0
    told = capsys.readouterr().out
    assert "out-of-fold Dice weighted to the test set's mix" in told
    assert "nothing was chosen: all images validate one fold" in told and "nor is known how much the best epoch" in told
    run = folder / "runs" / "debug"
    assert [path.name for path in run.glob("fold-*")] == ["fold-0"]
    scores = json.loads((run / "scores.json").read_text())
    assert len(scores["folds"]) == 1 and "best_epoch_gain" not in scores
    rows = scores["strata"]
    assert sum(row["images"] for row in rows.values()) == 6
    with (run / "fold-0" / "oof_dice.csv").open() as file:
        validated = {row["image_name"] for row in csv.DictReader(file)}
    lines = (folder / "folds" / "hand-holdout.csv").read_text().splitlines()[1:]
    assert validated == {line.split(",")[0] for line in lines if line.endswith(",0")}
    seen = [row for row in rows.values() if row["images"]]
    expected = np.average([row["dice"] for row in seen], weights=[row["test_share"] for row in seen])
    assert scores["oof_dice_weighted"] == pytest.approx(expected)
    before = (run / "fold-0" / "weights.safetensors").stat().st_mtime_ns
    assert main(["submit", *words]) == 0
    assert (run / "fold-0" / "weights.safetensors").stat().st_mtime_ns == before
    assert "test_dice" in json.loads((run / "scores.json").read_text())


def test_tables_that_are_edited_while_folds_train_are_read_after_it(phantom_root, folder, monkeypatch, capsys):
    """And noted as they were read: a result of the old ones must not pass for one of the new."""
    folds_here(monkeypatch)
    shutil.copytree(phantom_root, "data")
    words = [*TINY, "data.root=data", "folds.count=2"]
    train = cross_validation._train_missing

    def edited(experiment, missing, given):
        train(experiment, missing, given)
        everybody = sorted(path.name for path in Path("data/train/DCM").iterdir())
        Path("data/rotated.csv").write_text("\n".join(["patient", *everybody[:3]]) + "\n")

    monkeypatch.setattr(cross_validation, "_train_missing", edited)
    assert main(["train-all", *words]) == 0
    scores = json.loads(Path("runs/debug/scores.json").read_text())
    assert scores["strata"]["rotated"]["images"] == 6
    capsys.readouterr()
    assert main(["train-all", *words]) == 0
    assert "done already" in capsys.readouterr().err
