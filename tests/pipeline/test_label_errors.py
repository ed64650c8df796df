"""Suspicious annotations, ranked by predictions near the truth, and what is suggested in their place."""

import csv
import json
import shutil

import cv2
import numpy as np
import pytest

from bonepipe import cli
from bonepipe import config as configs
from bonepipe.data.phantom.annotation import PERMUTATION
from bonepipe.labels import bitplane
from bonepipe.pipeline.experiment import Experiment
from bonepipe.pipeline.steps import Steps


def plant(root, copy):
    """A copy of the phantom in which one image's labels are permuted, one lacks a bone, and one has a ring."""
    shutil.copytree(root, copy)
    paths = sorted((copy / "train" / "outputs_json").rglob("*.json"))[2:9:3]
    contents = [json.loads(path.read_text()) for path in paths]
    for entry in contents[0]["annotations"]:
        entry["label"] = PERMUTATION.get(entry["label"], entry["label"])
    contents[1]["annotations"] = [e for e in contents[1]["annotations"] if e["label"] != "Radius"]
    bone = next(e for e in contents[2]["annotations"] if e["label"] == "finger-14")
    points = np.array(bone["points"])
    inner = np.rint(points.mean(0) + (points - points.mean(0)) * 0.4).astype(int)
    contents[2]["annotations"].append({**bone, "points": inner.tolist()})
    for path, content in zip(paths, contents, strict=True):
        path.write_text(json.dumps(content))
    known = zip(("permuted", "missing", "ring"), (" ".join(PERMUTATION), "Radius", "finger-14"), paths, strict=True)
    rows = [f"{path.stem}.png,x,{kind},{labels}" for kind, labels, path in known]
    (copy / "planted.csv").write_text("\n".join(["image_name,patient,kind,classes", *rows]) + "\n")
    return [path.with_suffix(".png").name for path in paths]


@pytest.fixture
def spoiled(copied_run, phantom_root, tmp_path):
    """The finished experiment after somebody spoiled three annotations; the predictions stay."""
    folder, words = copied_run
    names = plant(phantom_root, tmp_path / "spoiled")
    return names, [*words, f"data.root={tmp_path / 'spoiled'}"], folder / "runs" / "demo"


def test_label_errors_ranks_planted_annotations_first(spoiled, capsys):
    names, words, run = spoiled
    assert cli.main(["label-errors", *words]) == 0
    with (run / "label_errors.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["image_name"], row["kind"]) for row in rows[:3]} == set(
        zip(names, ("permuted", "missing", "extra"), strict=True)
    )
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert [row["rank"] for row in rows] == [str(number) for number in range(1, len(rows) + 1)]
    missing = next(row for row in rows if row["kind"] == "missing")
    assert (missing["class"], missing["suggestion"]) == ("Radius", "replace")
    assert all(
        cv2.imread(str(path)) is not None for path in [run / "label_errors.jpg", *(run / "label_errors").iterdir()]
    )
    assert len(list((run / "label_errors").iterdir())) == min(40, len(rows))
    page = (run / "label_errors.html").read_text()
    assert page.count('<img src="data:image/webp;base64,') == min(40, len(rows))
    assert f"bonepipe view {run}" in page and "permuted: 1 of 1 among the first 6 candidates" in page
    told = capsys.readouterr().out
    assert names[0] in told
    assert "planted.csv: permuted: 1 of 1 among the first 6 candidates, 1 mended by permuting labels" in told
    assert "planted.csv: all: 3 of 3 among the first 6 candidates" in told


def test_suggested_corrections_mend_the_training_labels(spoiled, phantom_root):
    """The permuted image gets the labels of the unspoiled dataset, bit for bit; the missing bone comes back."""
    names, words, run = spoiled
    assert cli.main(["label-errors", *words]) == 0
    stores = [
        Experiment(configs.compose(more)).cohort.store
        for more in (
            words,
            [*words, f"data.corrections={run / 'corrections.csv'}"],
            [*words, f"data.root={phantom_root}"],
        )
    ]
    wrong, mended, right = (
        [bitplane.unpack(store.planes[store.names.index(name)], 29) for name in names] for store in stores
    )
    assert (mended[0] == right[0]).all()
    assert (wrong[0] != right[0]).any()
    radius = 27
    assert not wrong[1][..., radius].any()
    common = (mended[1] & right[1])[..., radius].sum()
    assert 2 * common / (mended[1][..., radius].sum() + right[1][..., radius].sum()) > 0.8
    assert (mended[2] == right[2]).all()


def test_corrections_that_somebody_edited_are_kept(spoiled, capsys):
    names, words, run = spoiled
    (run / "corrections.csv").write_text("image_name,class,action,value\n")
    assert cli.main(["label-errors", *words]) == 0
    assert "corrections.new.csv" in capsys.readouterr().err
    assert (run / "corrections.csv").read_text() == "image_name,class,action,value\n"
    assert names[0] in (run / "corrections.new.csv").read_text()


def test_a_dropped_image_is_validated_and_not_trained_on(drawn_run, tmp_path):
    _, words = drawn_run
    experiment = Experiment(configs.compose(words))
    name = experiment.cohort.images[3].name
    path = tmp_path / "c.csv"
    path.write_text(f"image_name,class,action,value\n{name},,drop,\n")
    mended = Experiment(configs.compose([*words, f"data.corrections={path}"]))
    for fold in (0, 1):
        (training, validation), (fewer, same) = experiment.cohort.indices(fold), mended.cohort.indices(fold)
        assert same == validation
        assert set(training) - set(fewer) == ({3} - set(validation))


def test_label_errors_need_predictions_of_this_data(copied_run, capsys):
    folder, words = copied_run
    path = folder / "runs" / "demo" / "fold-1" / "oof.csv"
    path.write_text(path.read_text().replace("Ulna", "Elbow"))
    assert cli.main(["label-errors", *words]) == 1
    message = capsys.readouterr().err
    assert "fold-1: is not predicted out of fold, or was in another way:\n  oof.csv\n" in message
    assert "Run `bonepipe train-all` with the run's settings first" in message
    steps = Steps(Experiment(configs.compose(words)))
    steps.out_of_fold(1).record()
    steps.cross_validation().record()
    assert cli.main(["label-errors", *words]) == 1
    assert f"{path}: lacks Ulna of" in capsys.readouterr().err
    path.unlink()
    assert cli.main(["label-errors", *words]) == 1
    message = capsys.readouterr().err
    assert "fold-1: is not predicted out of fold" in message and "oof.csv" in message and "train-all" in message
