"""A second look from two tiny runs to a submission."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from bonepipe.cli import main
from bonepipe.commands import secondlook
from bonepipe.commands.look import SecondLook, open_look
from bonepipe.commands.predictor import Run, masks, open_run, placed
from bonepipe.config import conf_dir, load, save
from bonepipe.data import submission
from bonepipe.data.catalog import test_images as images_to_predict
from bonepipe.data.image import read_grey, resize_grey
from bonepipe.data.region import cut
from bonepipe.inference import calibration
from bonepipe.inference.cascade import WEIGHTS, find
from bonepipe.inference.oof.results import read_curves
from bonepipe.labels import cutout, rle, upsample
from bonepipe.labels.dice import dice
from bonepipe.labels.histogram import dice_curve
from bonepipe.report.comparison import read_dice, read_run

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
    ]  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory, words):
    """A folder with two runs of two folds: the second sees the region of the three bones."""
    folder = tmp_path_factory.mktemp("looks")
    (folder / "conf").symlink_to(Path("conf").resolve())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for experiment in ("experiment=demo", "experiment=wrist"):
            for fold in (0, 1):
                assert main(["train", f"fold={fold}", experiment, *words]) == 0
            assert main(["train-all", experiment, *words]) == 0
        yield folder / "runs"


@pytest.fixture(scope="module")
def looked(runs):
    """The same folder after the command."""
    assert main(["secondlook", str(runs / "demo"), str(runs / "wrist")]) == 0
    return runs


def by_hand(first, second, image, weight, folds=(0, 1)):
    """Full-frame probabilities of the region's classes, from these folds' models."""
    grey, region = read_grey(image.path), second.data.region
    members = [[one.member(fold) for fold in folds] for one in (first, second)]
    small = torch.from_numpy(resize_grey(grey, (64, 64)))[None]
    maps = first.predictor(members[0])(small)[0].numpy()
    labels = second.data.region_classes
    crop = region.crop(find(maps[labels], grey.shape), (64, 64))
    shown = torch.from_numpy(resize_grey(cut(grey, crop), (64, 64)))[None]
    close = second.predictor(members[1])(shown)[0].numpy()
    whole = {}
    for label in labels:
        frame = np.pad(upsample.upsample(maps[label], grey.shape), 500)
        place = slice(crop.top + 500, crop.bottom + 500), slice(crop.left + 500, crop.right + 500)
        near = upsample.upsample(close[label], (crop.height, crop.width))
        frame[place] = np.float32(1 - weight) * frame[place] + np.float32(weight) * near
        whole[label] = frame[500:-500, 500:-500]
    return whole


def test_it_writes_weights_thresholds_scores_and_a_submission(looked, root):
    folder = looked / "demo-wrist"
    record = json.loads((folder / "secondlook.json").read_text())
    assert tuple(record["classes"]) == BONES
    assert all(row["weight"] in WEIGHTS for row in record["classes"].values())
    assert record["box"]["images"] == 20
    assert record["box"]["found"] > 10
    assert 0.2 < record["box"]["iou"] <= 1
    scores = json.loads((folder / "scores.json").read_text())
    assert {"oof_dice", "oof_dice_weighted", "test_dice", "public", "private"} <= scores.keys()
    table, answer = submission.read(folder / "submission.csv"), submission.read(root / "answer.csv")
    assert scores["test_dice"] == pytest.approx(submission.score_tables(table, answer)["dice"])


def test_the_first_runs_dice_stands_beside_the_blend(looked):
    record = json.loads((looked / "demo-wrist" / "secondlook.json").read_text())
    first, second = read_run(looked / "demo"), read_run(looked / "wrist")
    names = sorted({name for name, _ in first.dice})
    for label, row in record["classes"].items():
        assert row["first"] == pytest.approx(np.mean([first.dice[name, label] for name in names]), abs=1e-6)
        if row["weight"] == 0:
            assert row["blend"] == row["first"]
        else:
            assert row["cross_fitted_gain"] > 0
    at_truth = np.mean([second.dice[name, label] for name in names for label in record["classes"]])
    assert record["box"]["dice_at_true_box"] == pytest.approx(at_truth)


def test_weight_0_everywhere_is_the_first_runs_submission(runs, words):
    """With a margin that nothing reaches, thresholds stay at 0.5 as well."""
    thresholds = json.loads((runs / "demo" / "thresholds.json").read_text())
    thresholds["thresholds"] = dict.fromkeys(thresholds["thresholds"], 0.5)
    kept = (runs / "demo" / "thresholds.json").read_bytes()
    (runs / "demo" / "thresholds.json").write_text(json.dumps(thresholds))
    assert main(["submit", "experiment=demo", *words]) == 0
    (runs / "demo" / "thresholds.json").write_bytes(kept)
    assert (
        main(["secondlook", *(str(runs / n) for n in ("demo", "wrist")), "-o", str(runs / "same"), "--margin", "1e9"])
        == 0
    )
    assert {row["weight"] for row in json.loads((runs / "same/secondlook.json").read_text())["classes"].values()} == {0}
    assert (runs / "same" / "submission.csv").read_bytes() == (runs / "demo" / "submission.csv").read_bytes()


def test_out_of_fold_each_image_is_seen_by_models_that_were_not_trained_on_it(runs):
    first, second = open_run(runs / "demo"), open_run(runs / "wrist")
    found = secondlook.gather(Run(first), second)
    for fold in (0, 1):
        names, curves = read_curves(runs / f"demo/fold-{fold}/histograms.npz", first.data.classes)
        rows = [found.whole.names.index(name) for name in names]
        assert {first.cohort.assignment[name] for name in names} == {fold} == set(found.whole.folds[rows])
        assert (dice_curve(found.mixed[rows, 0]) == curves[:, second.data.region_classes]).all()
    assert (found.mixed[:, 1:] != found.mixed[:, :1]).any()
    number = next(row for row, kept in enumerate(found.kept) if kept is not None)
    name, fold = found.whole.names[number], int(found.whole.folds[number])
    image = next(image for image in first.cohort.own_images if image.name == name)
    for row, label in enumerate(second.data.region_classes):  # by each stage's model of that fold alone
        frame = by_hand(first, second, image, 1.0, [fold])[label]
        truth = cutout.to_mask(first.cohort.store.truth(first.cohort.index[name])[label], frame.shape)
        expected = dice(((frame >= 0.5) & truth).sum(), (frame >= 0.5).sum(), truth.sum())
        assert found.dice[number, -1, row] == pytest.approx(expected, abs=0.02)  # bytes


def test_the_masks_are_those_of_the_full_frame(looked):
    first, second = open_run(looked / "demo"), open_run(looked / "wrist")
    limits = json.loads((looked / "demo-wrist/thresholds.json").read_text())["thresholds"]
    classes, image = first.data.classes, images_to_predict(first.data)[0]
    weights = np.where(np.isin(classes, second.data.region.classes), 0.75, 0).tolist()
    both = SecondLook(Run(first), second, placed(first.config, looked / "demo-wrist"), weights)
    ((_, texts),) = masks(both, [image])
    for label, frame in by_hand(first, second, image, 0.75).items():
        limit = limits[classes[label]]
        mask, sure = rle.decode(texts[label], frame.shape), np.abs(frame - limit) > 1e-5
        assert (frame >= limit).any()
        assert (mask == (frame >= np.float32(limit)))[sure].all()


def test_what_is_written_belongs_together(looked):
    """oof.csv, oof_dice.csv, the histograms and the scores tell the same."""
    folder = looked / "demo-wrist"
    scores, table = json.loads((folder / "scores.json").read_text()), read_dice(folder / "oof_dice.csv")
    assert np.mean(list(table.values())) == pytest.approx(scores["oof_dice_at_half"], abs=1e-6)
    store = open_run(looked / "demo").cohort.store
    texts = {row.key: row.rle for row in submission.stream(folder / "oof.csv")}
    classes = open_run(looked / "demo").data.classes
    for index, name in enumerate(store.names):
        for label, truth in zip(classes, store.truth(index), strict=True):
            mask = cutout.from_runs(rle.parse(texts[name, label]), store.shape(index))
            (own,) = upsample.dice_scores([mask], [truth])
            assert own == pytest.approx(table[name, label], abs=0.02)  # bytes
    assert all((folder / name).stat().st_size for name in ("examples.jpg", "thresholds.png"))


def test_an_ensemble_of_one_run_is_the_same_first_stage(looked):
    assert main(["ensemble", str(looked / "demo"), "-o", str(looked / "one"), "--no-test"]) == 0
    assert main(["secondlook", str(looked / "one"), str(looked / "wrist")]) == 0
    for name in ("submission.csv", "thresholds.json", "oof.csv", "oof_dice.csv", "histograms.npz"):
        assert (looked / "one-wrist" / name).read_bytes() == (looked / "demo-wrist" / name).read_bytes(), name


def test_an_ensemble_that_was_only_selected_is_not_ready(looked, capsys):
    folder = looked / "selected"
    folder.mkdir()
    (folder / "ensemble.yaml").write_text(f"members: [{{run: {looked / 'demo'}}}]\n")
    assert main(["secondlook", str(folder), str(looked / "wrist")]) == 1
    assert f"run `bonepipe ensemble {folder / 'ensemble.yaml'} -o {folder}`" in capsys.readouterr().err


def test_predict_takes_a_second_look(looked, root, tmp_path, capsys):
    words = ["predict", str(root / "test" / "DCM"), "-o", str(tmp_path / "out"), "--run", str(looked / "demo-wrist")]
    assert main(words) == 0
    predicted, submitted = (
        {row.key: row.rle for row in submission.stream(path)}
        for path in (tmp_path / "out" / "predictions.csv", looked / "demo-wrist" / "submission.csv")
    )
    assert predicted == submitted
    assert any(predicted.values())
    source = json.loads((tmp_path / "out" / "source.json").read_text())
    assert source["second"]["experiment"] == "wrist" and source["first"]["experiment"] == "demo"
    assert main(words) == 0  # and knows its own results again
    assert "finished already" in capsys.readouterr().err
    assert main([*words[:4], "--run", str(looked / "demo")]) == 1
    assert "holds predictions of other weights" in capsys.readouterr().err
    assert main([*words, "tta=none"]) == 2
    assert "has settings of its own; leave out tta=none" in capsys.readouterr().err
    assert main([*words[:4], "--run", str(looked / "demo-wist")]) == 1
    assert "did you mean 'demo-wrist'?" in capsys.readouterr().err


def test_pseudo_labels_of_a_second_look(looked, root):
    """Sure is what the masks hold at the confidence; calibrated limits come from what was right out of fold."""
    folder, classes = looked / "demo-wrist", open_run(looked / "demo").data.classes
    assert main(["pseudo", "--raw", "--confidence", "0.6", "--run", str(folder)]) == 0
    with (folder / "pseudo.csv").open(newline="") as file:
        rows = {(row["image_name"], row["class"]): row for row in csv.DictReader(file)}
    look = open_look(folder)
    for image, blend in look.predictions(images_to_predict(look.experiment.data)):
        sure, possible = (blend.cutouts([limit] * len(classes)) for limit in (0.6, 0.4))
        for label, inner, outer in zip(classes, sure, possible, strict=True):
            row = rows[image.name, label]
            assert rle.parse(row["rle"]).tolist() == cutout.runs(inner, blend.shape[1]).tolist()
            both = rle.union(row["rle"], row["ambiguous"])
            assert both.tolist() == cutout.runs(outer, blend.shape[1]).tolist()
    assert main(["pseudo", "--run", str(folder)]) == 0
    facts = json.loads((folder / "pseudo.json").read_text())
    sure, possible = calibration.limits(look.out_of_fold().counts.sum(0), 0.9)
    assert facts["sure_from"] == pytest.approx(dict(zip(classes, sure, strict=True)))
    assert facts["possible_from"] == pytest.approx(dict(zip(classes, possible, strict=True)))
    assert {row["weight"] for row in json.loads((folder / "secondlook.json").read_text())["classes"].values()} == {
        facts["second_look"][name] for name in BONES
    }


def test_annotations_are_judged_by_what_a_second_look_says(looked):
    """With the annotations themselves as its masks nothing is suspected; what the first run says does not matter."""
    folder = looked / "judged"
    shutil.copytree(looked / "demo-wrist", folder)
    assert main(["suspects", "--run", str(folder)]) == 0
    header, *candidates = (folder / "suspects.csv").read_text().splitlines()
    assert header.startswith("rank,image_name")
    assert candidates
    experiment = open_look(folder).experiment
    store = experiment.cohort.store
    rows = [
        (name, label, rle.format_runs(cutout.runs(mask, store.shape(index)[1])))
        for index, name in enumerate(store.names)
        for label, mask in zip(experiment.data.classes, store.truth(index), strict=True)
    ]
    submission.write(folder / "oof.csv", rows)
    assert main(["suspects", "--run", str(folder)]) == 0
    assert (folder / "suspects.csv").read_text().splitlines() == [header]


def test_repairs_and_strata_are_chosen_for_the_blend(looked, words):
    """The first run's settings name what is to be tried; what is chosen is applied to the blend's masks."""
    assert main(["train-all", "experiment=demo", *words, "postprocess=standard"]) == 0
    out = looked / "repaired"
    assert main(["secondlook", str(looked / "demo"), str(looked / "wrist"), "-o", str(out), "--by-stratum"]) == 0
    record = json.loads((out / "thresholds.json").read_text())
    assert set(record["postprocess"]) == set(BONES)
    assert set(record["by_stratum"]) == {"rotated", "straight"}
    look = open_look(out)
    assert look.experiment.config["ensemble"]["thresholds_by"] == "stratum"
    texts = {row.key: row.rle for row in submission.stream(out / "submission.csv")}
    assert texts == {
        (image.name, label): text
        for image, found in masks(look, images_to_predict(look.experiment.data))
        for label, text in zip(BONES, found, strict=True)
    }


def test_runs_that_do_not_belong_together_are_refused(runs, capsys):
    demo, wrist = str(runs / "demo"), str(runs / "wrist")
    for words, reason in (
        (["secondlook", demo, demo], "the second run needs data.region"),
        (["secondlook", wrist, wrist], "sees only the part of an image that data.region names"),
        (["secondlook", demo, wrist, "-o", demo], "holds a run"),
        (["ensemble", demo, wrist, "-o", str(runs / "mixed")], "sees only the part of an image that data.region names"),
        (["select", demo, wrist, "-o", str(runs / "mixed")], "sees only the part of an image that data.region names"),
    ):
        capsys.readouterr()
        assert main(words) == 2
        assert reason in capsys.readouterr().err
    assert main(["secondlook", demo, str(runs / "nothing")]) == 1
    assert "no run here" in capsys.readouterr().err


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
    folds = Path(open_run(runs / "demo").folds.file)
    text = folds.read_text().splitlines()
    swapped = [text[0], *(line[:-1] + str(1 - int(line[-1])) for line in text[1:])]
    Path("swapped.csv").write_text("\n".join(swapped) + "\n")
    shutil.copytree(runs / "wrist", runs / "swapped")
    for path in (runs / "swapped").rglob("config.yaml"):
        config = load(path)
        config["folds"]["file"] = "swapped.csv"
        save(config, path)
    assert main(["secondlook", str(runs / "demo"), str(runs / "swapped")]) == 2
    assert "validates fold" in capsys.readouterr().err
    shutil.rmtree(runs / "swapped")


def test_a_second_look_whose_first_stage_changed_is_refused(looked, root, tmp_path, capsys):
    picture = str(next((root / "test").rglob("*.png")))
    words = ["predict", picture, "-o", str(tmp_path / "out"), "--run", str(looked / "moved")]
    shutil.copytree(looked / "demo", looked / "first")
    assert main(["secondlook", str(looked / "first"), str(looked / "wrist"), "-o", str(looked / "moved")]) == 0
    assert main(words) == 0
    shutil.copy(looked / "first/fold-0/weights.safetensors", looked / "first/fold-1/weights.safetensors")
    assert main(words) == 1
    assert "first.weights.fold-1 is not what it was; run `bonepipe secondlook" in capsys.readouterr().err
    for name in ("first", "moved"):
        shutil.rmtree(looked / name)


def test_a_run_of_a_region_is_not_for_whole_images(runs, words, capsys):
    for command in ("submit", "suspects", "pseudo"):
        capsys.readouterr()
        assert main([command, "experiment=wrist", *words]) == 2
        assert "sees only the part of an image" in capsys.readouterr().err
    assert main(["train", "experiment=wrist", *words, "name=windows", "windows.size=96"]) == 2
    assert "windows.size=(96, 96): with data.region it must be data.size" in capsys.readouterr().err
