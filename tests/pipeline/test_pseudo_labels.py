"""Pseudo-labels: the sure pixels of a network of drawn weights, calibrated by predictions near the truth."""

import csv
import json
import shutil

import pytest

from bonepipe import cli
from bonepipe import config as configs
from bonepipe.labels import bitplane, rle
from bonepipe.pipeline.experiment import Experiment
from bonepipe.pipeline.steps import Steps


def test_thresholds_that_were_chosen_from_other_predictions_are_refused(copied_run, phantom_root, capsys):
    folder, words = copied_run
    picture = next((phantom_root / "test").rglob("*.png"))
    path = folder / "runs" / "demo" / "fold-1" / "oof_dice.csv"
    path.write_text(path.read_text().replace("0.", "0.0", 1))  # as if the fold were trained anew
    for command in (["pseudo"], ["predict", str(picture), "-o", "out"], ["label-errors"]):
        assert cli.main([*command, *words]) == 1
        message = capsys.readouterr().err
        assert "fold-1: is not predicted out of fold, or was in another way:\n  oof_dice.csv\n" in message
    Steps(Experiment(configs.compose(words))).out_of_fold(1).record()
    for command in (["pseudo"], ["predict", str(picture), "-o", "out"], ["label-errors"]):
        assert cli.main([*command, *words]) == 1
        message = capsys.readouterr().err
        assert "its thresholds were chosen from other predictions:\n  fold-1/oof_dice.csv has changed\n" in message
        assert "Run `bonepipe train-all` with the run's settings first" in message
    assert cli.main(["submit", *words]) == 0
    told = capsys.readouterr()
    assert "thresholds are chosen again, because of\n  fold-1/oof_dice.csv has changed" in told.err
    assert "out-of-fold Dice" in told.out
    assert cli.main(["pseudo", *words]) == 0


def test_pseudo_labels_are_the_sure_pixels_of_all_folds_together(copied_run, rows_of, set_thresholds):
    folder, words = copied_run
    run = folder / "runs" / "demo"
    assert cli.main(["pseudo", "--raw", "--confidence", "0.52", *words]) == 0
    experiment = Experiment(configs.compose(words))
    assert cli.main(["submit", *words]) == 0
    high = rows_of(run / "submission.csv")  # the thresholds of this experiment are 0.52
    set_thresholds(words, 1 - 0.52)
    assert cli.main(["submit", *words]) == 0
    low = rows_of(run / "submission.csv")
    with (run / "pseudo.csv").open(newline="") as file:
        rows = {(row["image_name"], row["class"]): row for row in csv.DictReader(file)}
    assert {key: row["rle"] for key, row in rows.items()} == high
    for key, row in rows.items():
        assert rle.union(row["rle"], row["ambiguous"]).tolist() == rle.parse(low[key]).tolist()
        assert rle.intersection_area(row["rle"], row["ambiguous"]) == 0
    facts = json.loads((run / "pseudo.json").read_text())
    assert (facts["confidence"], facts["images"]) == (0.52, 8)
    weights = {f"fold-{fold}/weights.safetensors": experiment.weights(fold) for fold in (0, 1)}
    assert facts["files"] == Steps(experiment).digests(weights)
    assert facts["decisions"]["thresholds"] == [0.52] * 29
    assert facts["sure_pixels"] == sum(rle.area(text) for text in high.values())


def test_pseudo_calibrates_by_what_was_right_out_of_fold(copied_run):
    """The stand-in says 0.8 where it is surely right, so that raw probabilities never reach 0.9."""
    folder, words = copied_run
    assert cli.main(["pseudo", *words]) == 0
    facts = json.loads((folder / "runs" / "demo" / "pseudo.json").read_text())
    assert all(0.3 < facts["sure_from"][label] < 0.8 for label in ("Radius", "finger-3", "Capitate"))
    assert all(facts["possible_from"][label] <= facts["sure_from"][label] for label in facts["sure_from"])


def test_pseudo_labelled_images_are_trained_on_and_never_validate(copied_run):
    folder, words = copied_run
    path = folder / "runs" / "demo" / "pseudo.csv"
    assert cli.main(["pseudo", "--raw", "--confidence", "0.52", *words]) == 0
    plain = Experiment(configs.compose(words))
    more = Experiment(configs.compose([*words, f"data.pseudo={path}", "data.pseudo_weight=0.3"]))
    count = len(plain.cohort.images)
    assert len(more.cohort.images) == count + 8
    for fold in (0, 1):
        (training, validation), (longer, same) = plain.cohort.indices(fold), more.cohort.indices(fold)
        assert same == validation
        assert longer == [*training, *range(count, count + 8)]
    assert plain.cohort.shares is None
    assert more.cohort.shares.tolist() == pytest.approx([1.0] * count + [0.3] * 8)
    sure = {row["image_name"]: row for row in csv.DictReader(path.open(newline="")) if row["class"] == "Radius"}
    index = count + 2
    mask = rle.decode(sure[more.cohort.images[index].name]["rle"], more.cohort.store.shape(index))
    small = mask.reshape(64, 4, 64, 4).mean((1, 3)) >= 0.5  # 256 to 64 pixels
    drawn = bitplane.unpack(more.cohort.store.planes[index], 29)[..., 27]
    assert (drawn == small).all()


@pytest.mark.parametrize("confidence", ["0.5", "1", "nan"])
def test_a_confidence_that_means_nothing_is_wrong_usage(confidence, capsys):
    assert cli.main(["pseudo", "--confidence", confidence]) == 2
    assert "above 0.5 and below 1" in capsys.readouterr().err


def test_training_runs_on_mended_and_pseudo_labelled_data(copied_run):
    """One epoch with everything on: the loss sees ignored pixels and shares, and the fold ends with its results."""
    folder, words = copied_run
    run = folder / "runs" / "demo"
    assert cli.main(["pseudo", *words]) == 0
    name = Experiment(configs.compose(words)).cohort.images[1].name
    (run / "c.csv").write_text(f"image_name,class,action,value\n{name},Radius,drop,\n{name},,drop,\n")
    more = [
        *words, "name=second", f"data.pseudo={run / 'pseudo.csv'}", f"data.corrections={run / 'c.csv'}", "fold=1",
        "trainer.epochs=1", "trainer.validate_every=1", "averaging=none", "mixing=cutmix",
    ]  # fmt: skip
    assert cli.main(["train", *more]) == 0
    assert (folder / "runs" / "second" / "fold-1" / "oof_dice.csv").is_file()


def test_an_image_that_cannot_be_read_is_named_before_any_is_predicted(copied_run, phantom_root, tmp_path, capsys):
    _, words = copied_run
    root = shutil.copytree(phantom_root, tmp_path / "data")
    path = max((root / "test").rglob("*.png"))
    path.write_bytes(path.read_bytes()[:-20])
    capsys.readouterr()
    assert cli.main(["pseudo", *words, f"data.root={root}"]) == 1
    told = capsys.readouterr().err
    assert f"{path}: truncated PNG" in told
    assert "image/s" not in told, "the bar of the prediction"
