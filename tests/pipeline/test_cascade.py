"""A cascade from two tiny runs to a submission."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from bonepipe.cli import main
from bonepipe.config import compose, conf_dir
from bonepipe.data import submission
from bonepipe.data.catalog import test_images as images_to_predict
from bonepipe.data.image import read_grey, resize_grey
from bonepipe.data.region import cut
from bonepipe.digests import digest
from bonepipe.inference import calibration
from bonepipe.inference.cascade import WEIGHTS, find_region
from bonepipe.inference.oof.results import read_curves
from bonepipe.labels import cutout, rle, upsample
from bonepipe.labels.dice import dice
from bonepipe.labels.histogram import dice_curve
from bonepipe.pipeline import cascade
from bonepipe.pipeline import submission as submitting
from bonepipe.pipeline.comparison import read_dice, read_run
from bonepipe.pipeline.experiment import Experiment
from bonepipe.pipeline.predictors.base import masks
from bonepipe.pipeline.predictors.cascade import CascadePredictor, open_cascade
from bonepipe.pipeline.predictors.run import Run, open_run
from bonepipe.pipeline.run_folder import FINGERPRINT, read_fingerprint
from bonepipe.pipeline.steps import Steps

BONES = ("Capitate", "Radius", "Ulna")  # three that a tiny net finds soon


@pytest.fixture(scope="module")
def root(phantom_root, tmp_path_factory):
    """The tiny phantom, with a truth of three bones."""
    root = tmp_path_factory.mktemp("three") / "data"
    shutil.copytree(phantom_root, root)
    header, *rows = (root / "answer.csv").read_text().splitlines()
    (root / "answer.csv").write_text("\n".join([header, *(row for row in rows if row.split(",")[1] in BONES)]) + "\n")
    return root


@pytest.fixture(scope="module")
def words(root):
    with (conf_dir() / "data" / "hand.yaml").open() as file:
        others = [name for name in yaml.safe_load(file)["classes"] if name not in BONES]
    return [
        "data.size=64", "data.name=phantom", "folds.count=2", "trainer.epochs=8", "trainer.validate_every=8",
        "trainer.batch_size=2", "averaging=none", "tta=none", "device=cpu", "tracking=none", f"data.root={root}",
        f"data.classes=[{','.join(BONES)}]", f"data.others=[{','.join(others)}]", "data.palette=[]",
        "model.encoder=tu-mobilenetv3_small_050", "model.settings.decoder_channels=[16,8,8,8,8]",
        "model.full_resolution=null",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory, words):
    """A folder with two runs of two folds: the second sees the region of the three bones."""
    folder = tmp_path_factory.mktemp("stages")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for experiment in ("experiment=demo", "experiment=wrist"):
            for fold in (0, 1):
                assert main(["train", f"fold={fold}", experiment, *words]) == 0
            assert main(["train-all", experiment, *words]) == 0
        yield folder / "runs"


@pytest.fixture(scope="module")
def cascaded(runs):
    """The same folder after the command."""
    assert main(["cascade", str(runs / "demo"), str(runs / "wrist")]) == 0
    return runs


def by_hand(first, second, image, weight, folds=(0, 1)):
    """Full-frame probabilities of the region's classes, from these folds' models."""
    grey, region = read_grey(image.path), second.data.region
    models = [[stage.fold_model(fold) for fold in folds] for stage in (first, second)]
    small = torch.from_numpy(resize_grey(grey, (64, 64)))[None]
    maps = first.predictor(models[0], ())(small)[0].numpy()
    labels = second.data.region_classes
    crop = region.crop(find_region(maps[labels], grey.shape), (64, 64))
    shown = torch.from_numpy(resize_grey(cut(grey, crop), (64, 64)))[None]
    close = second.predictor(models[1], ())(shown)[0].numpy()
    whole = {}
    for label in labels:
        frame = np.pad(upsample.upsample(maps[label], grey.shape), 500)
        place = slice(crop.top + 500, crop.bottom + 500), slice(crop.left + 500, crop.right + 500)
        near = upsample.upsample(close[label], (crop.height, crop.width))
        frame[place] = np.float32(1 - weight) * frame[place] + np.float32(weight) * near
        whole[label] = frame[500:-500, 500:-500]
    return whole


def test_it_writes_weights_thresholds_scores_and_a_submission(cascaded, root):
    folder = cascaded / "demo-wrist"
    record = json.loads((folder / "cascade.json").read_text())
    assert tuple(record["classes"]) == BONES
    assert all(row["weight"] in WEIGHTS for row in record["classes"].values())
    assert record["box"]["images"] == 20
    assert record["box"]["found"] > 10
    assert 0.2 < record["box"]["iou"] <= 1
    scores = json.loads((folder / "scores.json").read_text())
    assert {"oof_dice", "oof_dice_weighted", "test_dice", "public", "private"} <= scores.keys()
    table, answer = submission.read(folder / "submission.csv"), submission.read(root / "answer.csv")
    assert scores["test_dice"] == pytest.approx(submission.score_tables(table, answer)["dice"])


def test_what_is_cross_validated_is_not_cross_validated_again(cascaded, capsys):
    stages = [str(cascaded / name) for name in ("demo", "wrist")]
    files = [path for path in (cascaded / "demo-wrist").iterdir() if path.is_file() and path.name != ".lock"]
    before = {path: path.stat().st_mtime_ns for path in files}
    capsys.readouterr()
    assert main(["cascade", *stages]) == 0
    told = capsys.readouterr()
    assert "demo-wrist: is cross-validated already" in told.err and "submission.csv: done already" in told.err
    assert "test_dice" in told.out and "at threshold 0.5" not in told.out
    assert {path: path.stat().st_mtime_ns for path in files} == before
    assert main(["cascade", str(cascaded / "demo-wrist"), stages[1]]) == 2
    assert "demo-wrist: is a cascade already; name its first stage" in capsys.readouterr().err


@pytest.mark.parametrize(("content", "reason"), [("{", "cascade.json: cannot be read"), (None, "no run here")])
def test_a_damaged_record_of_a_cascade_is_named(cascaded, root, tmp_path, capsys, content, reason):
    shutil.copytree(cascaded / "demo-wrist", tmp_path / "copy")
    (tmp_path / "copy" / "cascade.json").unlink()
    if content:
        (tmp_path / "copy" / "cascade.json").write_text(content)
    picture = str(next((root / "test").rglob("*.png")))
    assert main(["predict", picture, "-o", str(tmp_path / "out"), "--run", str(tmp_path / "copy")]) == 1
    assert reason in capsys.readouterr().err


def test_the_first_runs_dice_stands_beside_the_blend(cascaded):
    record = json.loads((cascaded / "demo-wrist" / "cascade.json").read_text())
    first, second = read_run(cascaded / "demo"), read_run(cascaded / "wrist")
    names = sorted({name for name, _ in first.dice})
    for label, row in record["classes"].items():
        assert row["first"] == pytest.approx(np.mean([first.dice[name, label] for name in names]), abs=1e-6)
        if row["weight"] == 0:
            assert row["blend"] == row["first"]
        else:
            assert row["cross_fitted_gain"] > 0
    at_truth = np.mean([second.dice[name, label] for name in names for label in record["classes"]])
    assert record["box"]["dice_at_true_box"] == pytest.approx(at_truth)


def test_how_networks_predict_reaches_both_stages(cascaded, monkeypatch):
    """Out of fold and on the test set."""
    used, submit = [], submitting.submit

    def submitted(predictor, extra):
        used.append(predictor)
        return submit(predictor, extra)

    monkeypatch.setattr(submitting, "submit", submitted)
    words = ["prediction.batch_size=1", "prediction.precision=bf16"]
    out = shutil.copytree(cascaded / "demo-wrist", cascaded / "narrow")
    used.append(cascade.assemble(cascaded / "demo", cascaded / "wrist", out, words))
    assert main(["cascade", str(cascaded / "demo"), str(cascaded / "wrist"), "-o", str(out), *words]) == 0
    assert len(used) == 2
    for predictor in used:
        specs = [predictor.first.experiment.prediction, predictor.second.prediction, predictor.experiment.prediction]
        assert {(spec.batch_size, spec.precision) for spec in specs} == {(1, "bf16")}


def test_weight_0_everywhere_is_the_first_runs_submission(runs, words):
    """With a margin that nothing reaches, thresholds stay at 0.5 as well."""
    assert main(["submit", "experiment=demo", *words, "thresholds.margin=1e9"]) == 0
    submitted = (runs / "demo" / "submission.csv").read_bytes()
    assert main(["train-all", "experiment=demo", *words]) == 0
    stages = [str(runs / name) for name in ("demo", "wrist")]
    assert main(["cascade", *stages, "-o", str(runs / "same"), "thresholds.margin=1e9"]) == 0
    assert {row["weight"] for row in json.loads((runs / "same/cascade.json").read_text())["classes"].values()} == {0}
    assert (runs / "same" / "submission.csv").read_bytes() == submitted


def test_out_of_fold_each_image_is_seen_by_models_that_were_not_trained_on_it(runs):
    first, second = open_run(runs / "demo"), open_run(runs / "wrist")
    found = cascade.predict_both(Run(first), second)
    for fold in (0, 1):
        names, curves = read_curves(runs / f"demo/fold-{fold}/histograms.npz", first.data.classes)
        rows = [found.first.names.index(name) for name in names]
        assert {first.cohort.assignment[name] for name in names} == {fold} == set(found.first.folds[rows])
        assert (dice_curve(found.mixed[rows, 0]) == curves[:, second.data.region_classes]).all()
    assert (found.mixed[:, 1:] != found.mixed[:, :1]).any()
    number = next(row for row, kept in enumerate(found.kept) if kept is not None)
    name, fold = found.first.names[number], int(found.first.folds[number])
    image = next(image for image in first.cohort.own_images if image.name == name)
    for row, label in enumerate(second.data.region_classes):  # by each stage's model of that fold alone
        frame = by_hand(first, second, image, 1.0, [fold])[label]
        truth = cutout.to_mask(first.cohort.store.truth(first.cohort.index[name])[label], frame.shape)
        expected = dice(((frame >= 0.5) & truth).sum(), (frame >= 0.5).sum(), truth.sum())
        assert found.dice[number, -1, row] == pytest.approx(expected, abs=0.02)  # bytes


def test_the_masks_are_those_of_the_full_frame(cascaded):
    first, second = open_run(cascaded / "demo"), open_run(cascaded / "wrist")
    limits = json.loads((cascaded / "demo-wrist/thresholds.json").read_text())["thresholds"]
    classes, image = first.data.classes, images_to_predict(first.data)[0]
    weights = np.where(np.isin(classes, second.data.region.classes), 0.75, 0).tolist()
    both = CascadePredictor(Run(first), second, first.placed(cascaded / "demo-wrist"), weights)
    ((_, texts),) = masks(both, [image])
    for label, frame in by_hand(first, second, image, 0.75).items():
        limit = limits[classes[label]]
        mask, sure = rle.decode(texts[label], frame.shape), np.abs(frame - limit) > 1e-5
        assert (frame >= limit).any()
        assert (mask == (frame >= np.float32(limit)))[sure].all()


def test_what_is_written_belongs_together(cascaded):
    """oof.csv, oof_dice.csv, the histograms and the scores tell the same."""
    folder = cascaded / "demo-wrist"
    scores, table = json.loads((folder / "scores.json").read_text()), read_dice(folder / "oof_dice.csv")
    assert np.mean(list(table.values())) == pytest.approx(scores["oof_dice_at_half"], abs=1e-6)
    store = open_run(cascaded / "demo").cohort.store
    texts = {row.key: row.rle for row in submission.stream(folder / "oof.csv")}
    classes = open_run(cascaded / "demo").data.classes
    for index, name in enumerate(store.names):
        for label, truth in zip(classes, store.truth(index), strict=True):
            mask = cutout.from_runs(rle.parse(texts[name, label]), store.shape(index))
            (own,) = upsample.dice_scores([mask], [truth])
            assert own == pytest.approx(table[name, label], abs=0.02)  # bytes
    assert all((folder / name).stat().st_size for name in ("examples.jpg", "thresholds.png"))


def test_an_ensemble_of_one_run_is_the_same_first_stage(cascaded):
    assert main(["ensemble", str(cascaded / "demo"), "-o", str(cascaded / "one"), "--no-test"]) == 0
    assert main(["cascade", str(cascaded / "one"), str(cascaded / "wrist")]) == 0
    for name in ("submission.csv", "thresholds.json", "oof.csv", "oof_dice.csv", "histograms.npz"):
        assert (cascaded / "one-wrist" / name).read_bytes() == (cascaded / "demo-wrist" / name).read_bytes(), name


def test_an_ensemble_that_was_only_selected_is_not_ready(cascaded, capsys):
    folder = cascaded / "selected"
    folder.mkdir()
    (folder / "ensemble.yaml").write_text(f"members: [{{run: {cascaded / 'demo'}}}]\n")
    assert main(["cascade", str(folder), str(cascaded / "wrist")]) == 1
    assert f"run `bonepipe ensemble {folder / 'ensemble.yaml'} -o {folder}`" in capsys.readouterr().err


def test_predict_takes_a_cascade(cascaded, root, tmp_path, capsys):
    words = ["predict", str(root / "test" / "DCM"), "-o", str(tmp_path / "out"), "--run", str(cascaded / "demo-wrist")]
    assert main(words) == 0
    predicted, submitted = (
        {row.key: row.rle for row in submission.stream(path)}
        for path in (tmp_path / "out" / "predictions.csv", cascaded / "demo-wrist" / "submission.csv")
    )
    assert predicted == submitted
    assert any(predicted.values())
    source = read_fingerprint(tmp_path / "out")["predictions"]["inputs"]
    assert source["first"]["files"].keys() == source["second"]["files"].keys()
    for stage, name in (("first", "demo"), ("second", "wrist")):
        experiment = open_run(cascaded / name)
        paths = {f"fold-{fold}/weights.safetensors": experiment.weights(fold) for fold in (0, 1)}
        assert source[stage]["files"] == Steps(experiment).digests(paths)
    assert main(words) == 0  # and knows its own results again
    assert "finished already" in capsys.readouterr().err
    assert main([*words[:4], "--run", str(cascaded / "demo")]) == 1
    assert "holds predictions of other weights" in capsys.readouterr().err
    assert main([*words, "tta=none"]) == 2
    assert f"--run {cascaded / 'demo-wrist'}: tta is what its results were made with" in capsys.readouterr().err
    assert main([*words[:4], "--run", str(cascaded / "demo-wist")]) == 1
    assert "did you mean 'demo-wrist'?" in capsys.readouterr().err


def test_pseudo_labels_of_a_cascade(cascaded, root):
    """Sure is what the masks hold at the confidence; calibrated limits come from what was right out of fold."""
    folder, classes = cascaded / "demo-wrist", open_run(cascaded / "demo").data.classes
    assert main(["pseudo", "--raw", "--confidence", "0.6", "--run", str(folder)]) == 0
    with (folder / "pseudo.csv").open(newline="") as file:
        rows = {(row["image_name"], row["class"]): row for row in csv.DictReader(file)}
    predictor = open_cascade(folder)
    for image, blend in predictor.predictions(images_to_predict(predictor.experiment.data)):
        sure, possible = (blend.cutouts([limit] * len(classes)) for limit in (0.6, 0.4))
        for label, inner, outer in zip(classes, sure, possible, strict=True):
            row = rows[image.name, label]
            assert rle.parse(row["rle"]).tolist() == cutout.runs(inner, blend.shape[1]).tolist()
            both = rle.union(row["rle"], row["ambiguous"])
            assert both.tolist() == cutout.runs(outer, blend.shape[1]).tolist()
    assert main(["pseudo", "--run", str(folder)]) == 0
    facts = json.loads((folder / "pseudo.json").read_text())
    sure, possible = calibration.limits(predictor.out_of_fold().counts.sum(0), 0.9)
    assert facts["sure_from"] == pytest.approx(dict(zip(classes, sure, strict=True)))
    assert facts["possible_from"] == pytest.approx(dict(zip(classes, possible, strict=True)))
    assert {row["weight"] for row in json.loads((folder / "cascade.json").read_text())["classes"].values()} == {
        facts["weights"][name] for name in BONES
    }


def test_annotations_are_judged_by_what_a_cascade_says(cascaded, capsys):
    """With the annotations themselves as its masks nothing is suspected; what the first run says does not matter."""
    folder = cascaded / "judged"
    shutil.copytree(cascaded / "demo-wrist", folder)
    assert main(["label-errors", "--run", str(folder)]) == 0
    header, *candidates = (folder / "label_errors.csv").read_text().splitlines()
    assert header.startswith("rank,image_name")
    assert candidates
    experiment = open_cascade(folder).experiment
    store = experiment.cohort.store
    rows = [
        (name, label, rle.format_runs(cutout.runs(mask, store.shape(index)[1])))
        for index, name in enumerate(store.names)
        for label, mask in zip(experiment.data.classes, store.truth(index), strict=True)
    ]
    submission.write(folder / "oof.csv", rows)
    assert main(["label-errors", "--run", str(folder)]) == 1
    assert "judged: is not finished (oof.csv is missing or not as it was written)" in capsys.readouterr().err
    entries = read_fingerprint(folder)
    outputs = entries["cross_validation"]["outputs"]
    outputs["oof.csv"] = digest(folder / "oof.csv")
    (folder / FINGERPRINT).write_text(json.dumps(entries))
    assert main(["label-errors", "--run", str(folder)]) == 0
    assert (folder / "label_errors.csv").read_text().splitlines() == [header]


def test_post_processing_and_strata_are_chosen_for_the_blend(cascaded, words):
    """The first run's settings name what is to be tried; what is chosen is applied to the blend's masks."""
    assert main(["train-all", "experiment=demo", *words, "postprocess=standard"]) == 0
    out = cascaded / "repaired"
    assert (
        main(["cascade", str(cascaded / "demo"), str(cascaded / "wrist"), "-o", str(out), "thresholds.by=stratum"]) == 0
    )
    record = json.loads((out / "thresholds.json").read_text())
    assert set(record["postprocess"]) == set(BONES)
    assert set(record["by_stratum"]) == {"rotated", "straight"}
    predictor = open_cascade(out)
    assert predictor.experiment.config["thresholds"]["by"] == "stratum"
    texts = {row.key: row.rle for row in submission.stream(out / "submission.csv")}
    assert texts == {
        (image.name, label): text
        for image, found in masks(predictor, images_to_predict(predictor.experiment.data))
        for label, text in zip(BONES, found, strict=True)
    }


def test_runs_that_do_not_belong_together_are_refused(runs, capsys):
    demo, wrist = str(runs / "demo"), str(runs / "wrist")
    for words, reason in (
        (["cascade", demo, demo], "the second run needs data.region"),
        (["cascade", wrist, wrist], "sees only the part of an image that data.region names"),
        (["cascade", demo, wrist, "-o", demo], "holds a run"),
        (["ensemble", demo, wrist, "-o", str(runs / "mixed")], "sees only the part of an image that data.region names"),
        (["select", demo, wrist, "-o", str(runs / "mixed")], "sees only the part of an image that data.region names"),
    ):
        capsys.readouterr()
        assert main(words) == 2
        assert reason in capsys.readouterr().err
    assert main(["cascade", demo, str(runs / "nothing")]) == 1
    assert f"{runs / 'nothing'}: no such folder; name that of a run" in capsys.readouterr().err
    (runs / "empty").mkdir()
    assert main(["cascade", demo, str(runs / "empty")]) == 1
    assert "empty: no run here" in capsys.readouterr().err


def test_mixtures_of_runs_with_other_labels_are_selected(runs, capsys):
    """Annotations name classes that the runs do not learn; Dice counts those that they do."""
    shutil.copytree(runs / "demo", runs / "twin")
    capsys.readouterr()
    assert main(["select", str(runs / "demo"), str(runs / "twin"), "-o", str(runs / "twins"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["mixtures"]["demo"] == pytest.approx(np.mean(list(read_run(runs / "demo").dice.values())), abs=0.01)
    files = [path for name in ("demo", "twin") for path in (runs / name).glob("fold-*/probabilities.npz")]
    assert found["stored_bytes"] == sum(path.stat().st_size for path in files) > 0


def test_other_folds_are_refused_naming_an_image(runs, capsys):
    shutil.copytree(runs / "wrist", runs / "swapped")
    for path in (runs / "swapped").glob(f"fold-*/{FINGERPRINT}"):
        entries = json.loads(path.read_text())
        folds = entries["training"]["inputs"]["folds"]
        folds.update({image: 1 - fold for image, fold in folds.items()})
        path.write_text(json.dumps(entries))
    assert main(["cascade", str(runs / "demo"), str(runs / "swapped")]) == 2
    message = capsys.readouterr().err
    assert f"{runs / 'swapped'}: " in message and " validated fold " in message and ".png" in message
    assert f"train it with folds.file={open_run(runs / 'demo').folds.file}" in message
    shutil.rmtree(runs / "swapped")


def test_what_both_were_trained_on_counts_whatever_a_fold_file_says_today(cascaded, root, tmp_path):
    """A fold file that was moved or swapped later changes nothing for folds that are trained."""
    file = Path(open_run(cascaded / "demo").folds.file)
    text = file.read_text()
    header, *rows = text.splitlines()
    picture = str(next((root / "test").rglob("*.png")))
    try:
        file.write_text("\n".join([header, *(row[:-1] + str(1 - int(row[-1])) for row in rows)]) + "\n")
        assert main(["predict", picture, "-o", str(tmp_path / "out"), "--run", str(cascaded / "demo-wrist")]) == 0
    finally:
        file.write_text(text)


def test_a_cascade_whose_first_stage_changed_is_refused(cascaded, root, words, tmp_path, capsys):
    given = words
    picture = str(next((root / "test").rglob("*.png")))
    words = ["predict", picture, "-o", str(tmp_path / "out"), "--run", str(cascaded / "moved")]
    shutil.copytree(cascaded / "demo", cascaded / "first")
    assert main(["cascade", str(cascaded / "first"), str(cascaded / "wrist"), "-o", str(cascaded / "moved")]) == 0
    assert main(words) == 0
    shutil.copy(cascaded / "first/fold-0/weights.safetensors", cascaded / "first/fold-1/weights.safetensors")
    assert main(words) == 1
    assert "first/fold-1/weights.safetensors: is not the file that training wrote" in capsys.readouterr().err
    again = ["experiment=demo", "name=first", f"runs={cascaded}", *given]
    Steps(Experiment(compose(again))).training(1).record()
    assert main(["train-all", *again]) == 0
    assert main(words) == 1
    message = capsys.readouterr().err
    assert "moved: its thresholds were chosen from other predictions" in message
    assert "files.fold-1/weights.safetensors has changed" in message
    assert f"Run `bonepipe cascade {cascaded / 'first'} {cascaded / 'wrist'} -o {cascaded / 'moved'}` again" in message
    for name in ("first", "moved"):
        shutil.rmtree(cascaded / name)


def test_a_run_of_a_region_is_not_for_whole_images(runs, words, capsys):
    for command in ("submit", "label-errors", "pseudo"):
        capsys.readouterr()
        assert main([command, "experiment=wrist", *words]) == 2
        assert "sees only the part of an image" in capsys.readouterr().err
    assert main(["train", "experiment=wrist", *words, "name=windows", "windows.size=96"]) == 2
    assert "windows.size=(96, 96): with data.region it must be data.size" in capsys.readouterr().err


def histogram_of(right, wrong_or_missed):
    """Counts [2, 256] of a mask at one half: pixels outside and inside the truth by probability."""
    counts = np.zeros((2, 256), np.int32)
    counts[1, 200], counts[0, 200] = right, wrong_or_missed - right
    counts[1, 50], counts[0, 50] = wrong_or_missed - right, 1000
    return counts


def test_what_a_cascade_says_it_gains_was_not_chosen_on_the_same_images(runs, monkeypatch):
    """Every image is scored with the weights that the other fold chooses, in the table, the scores and oof_dice.csv."""
    both = cascade.predict_both(Run(open_run(runs / "demo")), open_run(runs / "wrist"))
    for weight in range(1, 5):  # the folds disagree about the best weight of the first class
        for fold, best in ((0, 1), (1, 4)):
            right = 90 if weight == best else 80
            both.mixed[both.first.folds == fold, weight, 0] = histogram_of(right, 100)
    monkeypatch.setattr(cascade, "predict_both", lambda *_: both)
    stages = [str(runs / name) for name in ("demo", "wrist")]
    assert main(["cascade", *stages, "-o", str(runs / "gain"), "thresholds.margin=0", "--no-test"]) == 0
    record = json.loads((runs / "gain" / "cascade.json").read_text())["classes"]
    folds, gains, differ = both.first.folds, {}, 0
    for label, (name, row) in enumerate(record.items()):
        dice = both.dice[:, :, label]
        tried = np.zeros(len(folds), int)
        for fold in (0, 1):
            tried[folds == fold] = dice[folds != fold].mean(0).argmax()
        gain = (dice[np.arange(len(folds)), tried] - dice[:, 0]).mean()
        assert row["cross_fitted_gain"] == pytest.approx(gain)
        gains[name] = gain if row["weight"] else 0.0
        assert row["blend"] - row["first"] == pytest.approx(gains[name])
        differ += bool(row["weight"]) and len(set(tried)) > 1
    assert differ and any(gains.values())
    scores = json.loads((runs / "gain" / "scores.json").read_text())
    before = dice_curve(both.first.counts)[..., 128]
    assert scores["oof_dice_at_half"] == pytest.approx(before.mean() + sum(gains.values()) / before.shape[1])
    written = list(read_run(runs / "gain").dice.values())
    assert np.mean(written) == pytest.approx(scores["oof_dice_at_half"], abs=1e-6)
