"""A second look from two tiny runs to a submission."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from bonepipe.cli import main
from bonepipe.commands import secondlook
from bonepipe.commands.secondlook import FirstStage, open_run
from bonepipe.config import conf_dir, load, save
from bonepipe.data.catalog import test_images as images_to_predict
from bonepipe.data.image import read_grey, resize_grey
from bonepipe.data.region import cut
from bonepipe.inference import submission
from bonepipe.inference.outoffold import read_curves
from bonepipe.inference.secondlook import WEIGHTS, find
from bonepipe.labels import rle, upsample
from bonepipe.report.comparison import read_run

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


def by_hand(first, second, image, weight):
    """Full-frame probabilities of the region's classes, from every fold's models, and the crop."""
    grey, region = read_grey(image.path), second.data.region
    members = [[one.member(fold) for fold in (0, 1)] for one in (first, second)]
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
    first, second = FirstStage(open_run(runs / "demo")), open_run(runs / "wrist")
    found = secondlook.out_of_fold(first, second, [1])
    names, curves = read_curves(runs / "demo/fold-1/histograms.npz", first.experiment.data.classes)
    assert found.names == names
    assert {first.experiment.assignment[name] for name in names} == {1}
    assert (found.mixed[:, 0] == curves[:, second.data.region_classes]).all()
    assert (found.mixed[:, 1:] != found.mixed[:, :1]).any()


def test_the_masks_are_those_of_the_full_frame(looked):
    first, second = FirstStage(open_run(looked / "demo")), open_run(looked / "wrist")
    result = open_run(looked / "demo")
    result.config["name"] = "demo-wrist"
    limits = json.loads((looked / "demo-wrist/thresholds.json").read_text())["thresholds"]
    classes, image = first.experiment.data.classes, images_to_predict(first.experiment.data)[0]
    weights = np.where(np.isin(classes, second.data.region.classes), 0.75, 0)
    (_, texts), *_ = secondlook._masks(first, second, result, [image], weights)
    for label, frame in by_hand(first.experiment, second, image, 0.75).items():
        expected = frame >= np.float32(limits[classes[label]])
        assert expected.any()
        assert (rle.decode(texts[label], frame.shape) == expected).all()


def test_runs_that_do_not_belong_together_are_refused(runs, capsys):
    demo, wrist = str(runs / "demo"), str(runs / "wrist")
    for words, reason in (
        (["secondlook", demo, demo], "the second run needs data.region"),
        (["secondlook", wrist, wrist], "sees only the part of an image that data.region names"),
        (["secondlook", demo, wrist, "-o", demo], "holds one of the two runs"),
    ):
        capsys.readouterr()
        assert main(words) == 2
        assert reason in capsys.readouterr().err
    assert main(["secondlook", demo, str(runs / "nothing")]) == 1
    assert "no run here" in capsys.readouterr().err


def test_other_folds_are_refused_naming_an_image(runs, capsys):
    folds = Path(open_run(runs / "demo").folds.file)
    text = folds.read_text().splitlines()
    swapped = [text[0], *(line[:-1] + str(1 - int(line[-1])) for line in text[1:])]
    Path("swapped.csv").write_text("\n".join(swapped) + "\n")
    shutil.copytree(runs / "wrist", runs / "swapped")
    for fold in (0, 1):
        path = runs / "swapped" / f"fold-{fold}" / "config.yaml"
        config = load(path)
        config["folds"]["file"] = "swapped.csv"
        save(config, path)
    assert main(["secondlook", str(runs / "demo"), str(runs / "swapped")]) == 2
    assert "validates fold" in capsys.readouterr().err
    shutil.rmtree(runs / "swapped")


def test_a_run_of_a_region_is_not_for_whole_images(runs, words, capsys):
    for command in ("submit", "suspects", "pseudo"):
        capsys.readouterr()
        assert main([command, "experiment=wrist", *words]) == 2
        assert "sees only the part of an image" in capsys.readouterr().err
    assert main(["train", "experiment=wrist", *words, "name=windows", "windows.size=96"]) == 2
    assert "windows.size=(96, 96): with data.region it must be data.size" in capsys.readouterr().err
