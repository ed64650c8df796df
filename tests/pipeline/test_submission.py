"""Windows, another inference size, CRF and repairs of masks, from trained folds to a submission."""

import csv
import json
import os
import shutil

import cv2
import numpy as np
import pytest
import torch

from bonepipe.cli import main
from bonepipe.config import compose
from bonepipe.data import submission
from bonepipe.data.catalog import test_images as images_to_predict
from bonepipe.data.image import read_grey, resize_grey
from bonepipe.errors import BonepipeError
from bonepipe.labels import cutout, rle, upsample
from bonepipe.pipeline.experiment import Experiment
from bonepipe.pipeline.predictors.run import refined_classes, require_finished
from bonepipe.pipeline.steps import Steps
from bonepipe.pipeline.submission import _write as write_submission
from bonepipe.pipeline.submission import read_test_set

WINDOWS = [
    "windows=sliding", "windows.size=96", "windows.window=64", "windows.centre=0.75", "windows.mirror=true",
    "windows.background=4", "postprocess=standard", "postprocess.crf={iterations: 2, radius: 2}",
]  # fmt: skip


@pytest.fixture(scope="module")
def words(phantom_root):
    return [
        "experiment=demo", "data.size=64", "folds.count=2", "trainer.epochs=8", "trainer.validate_every=8",
        "trainer.batch_size=2", "loss=dice", "averaging=none", "device=cpu", "tracking=none",
        f"data.root={phantom_root}", "model.encoder=tu-mobilenetv3_small_050",
        "model.settings.decoder_channels=[16,8,8,8,8]",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory, words):
    """A folder where two folds of the tiny phantom were trained and predicted without windows."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for fold in (0, 1):
            assert main(["train", f"fold={fold}", *words]) == 0
        assert main(["train-all", *words]) == 0
        yield folder / "runs" / "demo"


@pytest.fixture(scope="module")
def windowed(trained, words):
    """The same folder, submitted in windows; the weights and the plain files as they were before."""
    names = ("weights.safetensors", "oof_dice.csv")
    before = {name: (trained / "fold-0" / name).read_bytes() for name in names}
    recorded = json.loads((trained / "thresholds.json").read_text())
    assert main(["submit", *words, *WINDOWS]) == 0
    return trained, before, recorded


@pytest.mark.parametrize("fault", ["other images", "a folder", "a code that is none", "no test images"])
def test_what_is_wrong_with_a_test_set_is_told_before_anything_is_trained(words, phantom_root, tmp_path, capsys, fault):
    root, runs = shutil.copytree(phantom_root, tmp_path / "data"), tmp_path / "runs"
    path = root / "answer.csv"
    text = path.read_text()
    if fault == "no test images":
        shutil.rmtree(root / "test")
        (root / "test" / "DCM").mkdir(parents=True)
    elif fault == "a folder":
        path.unlink()
        path.mkdir()
    else:
        changed = text.replace("image", "scan") if fault == "other images" else text.replace(" ", " x ", 1)
        path.write_text(changed.replace("scan_name", "image_name"))
    capsys.readouterr()
    places = [f"data.root={root}", f"runs={runs}", f"folds.file={tmp_path / 'folds.csv'}"]
    assert main(["submit", *words, "name=early", *places]) == 1
    message = capsys.readouterr().err
    reason = {"other images": "has no row of this test set", "a folder": "is a folder", "a code that is none": "line "}
    assert reason.get(fault, "no test images") in message
    assert (path.name in message) == (fault in reason)
    assert "submission.csv" not in message and "remove" not in message
    assert not (runs / "early").exists()


def test_post_processing_that_does_not_exist_is_told_before_an_ensemble_is_averaged(trained, words, tmp_path, capsys):
    capsys.readouterr()
    out = tmp_path / "both"
    assert main(["ensemble", str(trained), "-o", str(out), "postprocess.operations=[largestt]"]) == 2
    message = capsys.readouterr().err
    assert "no operation 'largestt'" in message and "average out of fold" not in message
    assert not out.exists()


def by_hand(experiment, members, path):
    """Probabilities at model resolution and the shape of an image file."""
    grey = read_grey(path)
    image = torch.from_numpy(resize_grey(grey, (96, 96)))[None]
    return experiment.predictor(members, refined_classes(experiment))(image)[0].numpy(), grey.shape


def test_predicting_asks_for_thresholds_that_were_made_in_the_same_way(trained, words, phantom_root, capsys):
    """`submit` makes them; what only predicts says what differs and who makes them."""
    picture = str(next((phantom_root / "test").rglob("*.png")))
    assert main(["predict", picture, "-o", "out", *words, "windows.size=96"]) == 1
    message = capsys.readouterr().err
    assert f"{trained.name}/fold-0: is not predicted out of fold, or was in another way" in message
    assert "windows.size: None -> 96" in message
    assert "Run `bonepipe train-all` with the run's settings first" in message


STRATA = ["thresholds.by=stratum", "thresholds.margin=0", "strata.by=[wrist]", "strata.wrist=listed"]


def test_submit_applies_the_thresholds_of_an_images_stratum(trained, words, capsys):
    capsys.readouterr()
    assert main(["submit", *words, *STRATA]) == 0
    told = capsys.readouterr()
    assert "thresholds are chosen again" in told.err and "thresholds.by: None -> 'stratum'" in told.err
    assert "classes leave the common one" in told.out
    path, experiment = trained / "thresholds.json", Experiment(compose([*words, *STRATA]))
    record, classes = json.loads(path.read_text()), experiment.data.classes
    assert set(record["by_stratum"]) == set(experiment.cohort.stratum.values()) == {"rotated", "straight"}
    assert isinstance(json.loads((trained / "scores.json").read_text())["threshold_strata_gain"], float)
    levels = {"rotated": 0.03125, "straight": 0.25}
    for stratum, level in levels.items():
        record["by_stratum"][stratum]["thresholds"] = dict.fromkeys(classes, level)
    path.write_text(json.dumps(record))
    Steps(experiment).cross_validation().record()
    assert main(["submit", *words, *STRATA]) == 0
    assert "the test images are predicted again" in capsys.readouterr().err
    members, shape = [experiment.fold_model(fold) for fold in (0, 1)], experiment.windows.shape
    bent = set((experiment.data.path / "rotated.csv").read_text().split()[1:])
    rows = {row.key: row.rle for row in submission.stream(trained / "submission.csv")}
    for image in images_to_predict(experiment.data):
        grey, level = read_grey(image.path), levels["rotated" if image.patient in bent else "straight"]
        maps = experiment.predictor(members, ())(torch.from_numpy(resize_grey(grey, shape))[None])[0].numpy()
        for name, map_ in zip(classes, maps, strict=True):
            frame = upsample.upsample(map_, grey.shape)
            sure = np.abs(frame - level) > 1e-5  # the size of a batch decides in which order sums are taken
            mask = rle.decode(rows[image.name, name], grey.shape)
            np.testing.assert_array_equal(mask[sure], (frame >= level)[sure])
    assert main(["submit", *words, *STRATA, "strata.by=[sex]"]) == 0
    assert "strata.by: ['wrist'] -> ['sex']" in capsys.readouterr().err
    assert not set(json.loads(path.read_text())["by_stratum"]) & levels.keys()
    assert main(["train-all", *words, "thresholds.by=stratum", "strata.by=[]"]) == 2
    assert "strata.by names nothing" in capsys.readouterr().err


def test_a_test_image_of_another_stratum_is_predicted_again(trained, words, phantom_root, tmp_path, capsys):
    """Even where the thresholds stay as they are to the last bit."""
    root = shutil.copytree(phantom_root, tmp_path / "data")
    words = [*words, *STRATA, f"data.root={root}"]
    assert main(["submit", *words]) == 0
    before = (trained / "thresholds.json").read_bytes()
    bent = set((root / "rotated.csv").read_text().split()[1:])
    straight = min(image.patient for image in images_to_predict(root) if image.patient not in bent)
    with (root / "rotated.csv").open("a") as file:
        file.write(f"{straight}\n")
    capsys.readouterr()
    assert main(["submit", *words]) == 0
    assert (trained / "thresholds.json").read_bytes() == before
    assert "predicted again, because of\n  rotated.csv has changed" in capsys.readouterr().err
    assert main(["submit", *words, "strata.bend=20"]) == 0
    assert (trained / "thresholds.json").read_bytes() == before
    assert "predicted again, because of\n  strata has changed" in capsys.readouterr().err


def test_scores_by_size_equal_those_of_the_true_masks(trained, words):
    assert main(["train-all", *words, "thresholds.margin=1e9"]) == 0
    experiment, pairs = Experiment(compose(words)), []
    places = experiment.cohort.index
    for fold in (0, 1):
        with (trained / f"fold-{fold}" / "oof_dice.csv").open() as file:
            for row in csv.DictReader(file):
                truth = experiment.cohort.store.truth(places[row["image_name"]])
                area = cutout.area(truth[experiment.data.classes.index(row["class"])])
                pairs.append((area, float(row["dice"])))
    areas, dice = np.array([pair for pair in pairs if pair[0]]).T
    low, high = np.quantile(areas, [1 / 3, 2 / 3])
    expected = [dice[areas <= low].mean(), dice[(areas > low) & (areas <= high)].mean(), dice[areas > high].mean()]
    scores = json.loads((trained / "scores.json").read_text())["oof_dice_by_size"]
    assert scores == pytest.approx(dict(zip(("small", "medium", "large"), expected, strict=True)), abs=1e-6)


def test_mean_iou_and_pixel_accuracy_out_of_fold_equal_those_of_the_pixels(trained, words):
    assert main(["train-all", *words, "thresholds.margin=1e9"]) == 0
    experiment, ious, shares = Experiment(compose(words)), [], []
    cohort, classes = experiment.cohort, experiment.data.classes
    rows = {row.key: row.rle for fold in (0, 1) for row in submission.stream(trained / f"fold-{fold}" / "oof.csv")}
    for index, image in enumerate(cohort.images):
        shape = cohort.store.shape(index)
        true = np.stack([cutout.to_mask(mask, shape) for mask in cohort.store.truth(index)])
        said = np.stack([rle.decode(rows[image.name, label], shape) for label in classes])
        either = (true | said).sum((1, 2))
        ious += np.where(either, (true & said).sum((1, 2)) / np.maximum(either, 1), 1).tolist()
        shares.append((true == said).all(0)[(true | said).any(0)].mean())
    scores = json.loads((trained / "scores.json").read_text())
    assert scores["oof_miou"] == pytest.approx(np.mean(ious), abs=1e-5)
    assert scores["oof_pixel_accuracy_at_half"] == pytest.approx(np.mean(shares), abs=1e-9)
    assert 0 < scores["oof_miou"] < scores["oof_dice"]


def test_windows_change_the_predictions_and_not_the_weights(windowed):
    folder, before, recorded = windowed
    assert (folder / "fold-0" / "weights.safetensors").read_bytes() == before["weights.safetensors"]
    assert (folder / "fold-0" / "oof_dice.csv").read_bytes() != before["oof_dice.csv"]
    assert "postprocess" not in recorded
    now = json.loads((folder / "thresholds.json").read_text())
    assert set(now["postprocess"]) == set(now["thresholds"])
    scores = json.loads((folder / "scores.json").read_text())
    kept = {name: gain for name, gain in now["postprocess_gain"].items() if now["postprocess"][name]}
    assert scores["postprocess_gain"] == pytest.approx(sum(kept.values()) / len(now["thresholds"]))
    moved = sum(now["cross_fitted_gain"][name] for name in now["kept"]) / len(now["thresholds"])
    assert moved > 0 and kept
    # What submit does out of fold: thresholds, then the repairs of the masks that they make.
    assert scores["oof_dice"] == pytest.approx(scores["oof_dice_at_half"] + moved + scores["postprocess_gain"])
    assert np.mean(list(scores["oof_dice_per_class"].values())) == pytest.approx(scores["oof_dice"])


def test_out_of_fold_windows_look_at_the_image_file(windowed, words):
    folder, *_ = windowed
    experiment = Experiment(compose([*words, *WINDOWS]))
    assert len(experiment.windows) > 1
    store, (index, *_) = experiment.cohort.store, experiment.cohort.indices(1)[1]
    maps, shape = by_hand(experiment, [experiment.fold_model(1)], experiment.cohort.images[index].path)
    masks = upsample.cutouts(maps, [0.5] * len(maps), shape)
    expected = upsample.dice_scores(masks, store.truth(index))
    with (folder / "fold-1" / "oof_dice.csv").open() as file:
        rows = [float(row["dice"]) for row in csv.DictReader(file) if row["image_name"] == store.names[index]]
    np.testing.assert_allclose(rows, expected, atol=1e-6)
    assert sum(map(cutout.area, masks)) > 0


def test_submit_applies_windows_thresholds_and_operations(windowed, words, capsys):
    folder, *_ = windowed
    experiment = Experiment(compose([*words, *WINDOWS]))
    classes, record = experiment.data.classes, json.loads((folder / "thresholds.json").read_text())
    record["thresholds"] = dict.fromkeys(classes, 0.125)
    record["postprocess"] = {name: ["largest"] if number % 2 else [] for number, name in enumerate(classes)}
    (folder / "thresholds.json").write_text(json.dumps(record))
    Steps(experiment).cross_validation().record()
    assert main(["submit", *words, *WINDOWS]) == 0
    assert f"x {len(experiment.windows)} windows" in capsys.readouterr().err
    members = [experiment.fold_model(fold) for fold in (0, 1)]
    image = images_to_predict(experiment.data)[0]
    rows = {row.label: row.rle for row in submission.stream(folder / "submission.csv") if row.image == image.name}
    maps, shape = by_hand(experiment, members, image.path)
    parts = []
    for number, (name, map_) in enumerate(zip(classes, maps, strict=True)):
        plain = upsample.cutout(map_, 0.125, shape)
        done = experiment.postprocess.apply(["largest"] if number % 2 else [], plain, shape)
        np.testing.assert_array_equal(rle.decode(rows[name], shape), cutout.to_mask(done, shape))
        parts.append(cutout.area(plain) - cutout.area(done))
    assert sum(parts[1::2]) > 0
    assert sum(parts[::2]) == 0
    shapes = {image.name: read_grey(image.path).shape for image in images_to_predict(experiment.data)}
    assert submission.faults(submission.read(folder / "submission.csv"), shapes, classes) == []
    capsys.readouterr()
    assert main(["submit", *words, *WINDOWS, "postprocess.operations=[largest]"]) == 0
    told = capsys.readouterr().err
    assert "postprocess.operations: " in told and "-> ['largest']" in told and "out of fold:" not in told
    kept = json.loads((folder / "thresholds.json").read_text())["postprocess"].values()
    assert {operation for row in kept for operation in row} <= {"largest"}


def test_a_window_larger_than_the_image_is_refused_before_anything_runs(trained, words, capsys):
    assert main(["train", "fold=0", *words, "name=other", "windows=sliding", "windows.window=65"]) == 2
    assert "windows.window=65: larger than the image, 64 pixels" in capsys.readouterr().err
    assert not (trained.parent / "other").exists()


@pytest.fixture
def other_data(copied_run, phantom_root, tmp_path):
    """A finished run and its overrides on a copy of the data that may be damaged; the last of its test images."""
    _, words = copied_run
    root = shutil.copytree(phantom_root, tmp_path / "data")
    return [*words, f"data.root={root}"], images_to_predict(root)[-1].path


def test_an_image_is_what_its_content_says(other_data, rows_of, capsys):
    """JPEG bytes in a PNG's name: predicted, taken by the check, and done when asked again."""
    words, path = other_data
    path.write_bytes(cv2.imencode(".jpg", cv2.imread(str(path)))[1].tobytes())
    assert main(["submit", *words]) == 0
    experiment = Experiment(compose(words))
    rows = rows_of(experiment.folder / "submission.csv")
    assert [name for name, label in rows if label == "Ulna"] == [i.name for i in images_to_predict(experiment.data)]
    assert main(["check", str(experiment.folder / "submission.csv"), "--data", experiment.data.root]) == 0
    capsys.readouterr()
    assert main(["submit", *words]) == 0
    assert "submission.csv: done already" in capsys.readouterr().err


def test_an_image_that_cannot_be_read_is_named_before_any_is_predicted(other_data, capsys):
    words, path = other_data
    path.write_bytes(path.read_bytes()[:-20])
    assert main(["submit", *words]) == 1
    told = capsys.readouterr().err
    assert f"{path}: truncated PNG" in told
    assert "submission:" not in told, "the bar of the prediction"


def test_what_would_be_refused_is_kept(other_data, rows_of):
    words, _ = other_data
    assert main(["submit", *words]) == 0
    experiment = Experiment(compose(words))
    path, target = experiment.folder / "submission.csv", read_test_set(experiment)
    first, before = target.images[0], path.read_bytes()
    with pytest.raises(BonepipeError, match=r"submission\.refused\.csv: is not a valid submission: line 31: .* again"):
        write_submission(require_finished(experiment), target._replace(images=[first, first]))
    assert path.read_bytes() == before
    kept = rows_of(path.with_name("submission.refused.csv"))
    assert kept == {key: code for key, code in rows_of(path).items() if key[0] == first.name}


@pytest.mark.parametrize("command", ["split", "train-all", "submit"])
def test_a_name_that_no_csv_can_hold_is_refused_before_anything_runs(other_data, command, capsys):
    words, path = other_data
    path.rename(path.with_name(os.fsdecode(b"\xbc\xd5.png")))
    before = sorted(Experiment(compose(words)).folder.rglob("*"))
    capsys.readouterr()
    assert main([command, *words]) == 1
    assert capsys.readouterr().err.endswith("/\\udcbc\\udcd5.png: its path is not UTF-8 (CP949, perhaps); rename it\n")
    assert sorted(Experiment(compose(words)).folder.rglob("*")) == before
