"""Exported graphs, run by ONNX Runtime and by torch alone, give the masks that `bonepipe predict` writes."""

import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from bonepipe import cli
from bonepipe import config as configs
from bonepipe.data.catalog import test_images as find_test_images
from bonepipe.errors import BonepipeError, UsageError
from bonepipe.inference.ensemble.members import read as read_ensemble
from bonepipe.labels import rle
from bonepipe.pipeline import export as pipeline_export
from bonepipe.pipeline.experiment import Experiment, with_group
from bonepipe.pipeline.export import build, export, open_exportable
from bonepipe.pipeline.predictors.ensemble import assemble
from bonepipe.pipeline.predictors.run import Run

SCRIPT = Path("docs/export.md")


def dice_of(rows, others):
    return np.mean([rle.dice(text, others[key]) for key, text in rows.items()])


@pytest.fixture(scope="module")
def predicted(drawn_run, phantom_root, tmp_path_factory, rows_of):
    """What `bonepipe predict` says of two test images, and their paths."""
    _, words = drawn_run
    out = tmp_path_factory.mktemp("predicted")
    paths = [str(image.path) for image in find_test_images(phantom_root)[:2]]
    assert cli.main(["predict", *paths, "-o", str(out), *words]) == 0
    return paths, rows_of(out / "predictions.csv")


@pytest.fixture(scope="module")
def run(drawn_run):
    return str(drawn_run[0] / "runs" / "demo")


def test_the_script_of_the_docs_gives_the_masks_of_predict(run, predicted, rows_of, tmp_path, capsys):
    """Word for word, in a process of its own, without bonepipe; its PNGs are its run lengths."""
    paths, expected = predicted
    model = tmp_path / "model.onnx"
    assert cli.main(["export", run, "-o", str(model), "--any-size"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"model\.onnx: 2 models x 1 views, [\d.]+ MB", said), said
    (code,) = re.findall(r"```python\n(.*?)```", SCRIPT.read_text(), re.DOTALL)
    (tmp_path / "run.py").write_text(code)
    subprocess.run([sys.executable, "run.py", "model.onnx", "out", *paths], cwd=tmp_path, check=True, env={})
    rows = rows_of(tmp_path / "out" / "predictions.csv")
    assert rows.keys() == expected.keys()
    assert any(expected.values())
    assert dice_of(rows, expected) >= 1 - 1e-4
    (name, label), text = max(rows.items(), key=lambda row: len(row[1]))
    png = cv2.imread(str(tmp_path / "out" / f"{Path(name).stem} {label}.png"), cv2.IMREAD_GRAYSCALE)
    assert (rle.decode(text, png.shape) == (png > 0)).all()


def test_a_fold_alone_as_a_program_of_torch(run, drawn_run, predicted, tmp_path, capsys):
    """Any number of images; the facts are beside it, and its probabilities are those of that fold."""
    model = tmp_path / "model.pt2"
    assert cli.main(["export", run, "-o", str(model), "--fold", "1"]) == 0
    assert "1 models x 1 views" in capsys.readouterr().out
    extra = {"bonepipe.json": ""}
    program = torch.export.load(model, extra_files=extra).module()
    facts = json.loads(extra["bonepipe.json"])
    assert facts["thresholds"] == [0.52] * 29
    assert facts["size"] == [64, 64]
    images = torch.randint(0, 256, (3, 1, 64, 64), dtype=torch.uint8)
    maps = program(images)
    assert maps.shape == (3, 29, 64, 64)
    assert torch.allclose(program(images[1:2])[0], maps[1], atol=1e-6)


def test_what_no_graph_holds_is_refused(run, tmp_path, capsys):
    assert cli.main(["export", run, "-o", str(tmp_path / "model.h5")]) == 2
    assert ".onnx or .pt2" in capsys.readouterr().err
    assert cli.main(["export", run, "-o", str(tmp_path / "no" / "model.onnx")]) == 2
    assert cli.main(["export", str(tmp_path / "nothing"), "-o", str(tmp_path / "model.onnx")]) == 1
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_it_is_named(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert cli.main(["export", run, "-o", str(tmp_path / "model.onnx")]) == 1
    assert "pip install 'bonepipe[export]'" in capsys.readouterr().err


def test_an_ensemble_is_one_graph_where_its_runs_see_one_size(drawn_run, tmp_path):
    """Two entries of one run that differ in folds and weight: at 3 to 1 their mean, by torch alone."""
    _, words = drawn_run
    experiment = Experiment(configs.compose(words))
    text = f"members: [{{run: {experiment.folder}, weight: 3, folds: [0]}}, {{run: {experiment.folder}, folds: [1]}}]"
    (tmp_path / "ensemble.yaml").write_text(text)
    predictor = assemble(read_ensemble(tmp_path / "ensemble.yaml"), tmp_path / "best", [])
    written = export(predictor, tmp_path / "best.pt2")
    assert written.dice > 1 - 1e-4
    images = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
    alone = [build(open_exportable(experiment.folder, fold, [])).module(images) for fold in (0, 1)]
    maps = torch.export.load(tmp_path / "best.pt2").module()(images)
    torch.testing.assert_close(maps, 0.75 * alone[0] + 0.25 * alone[1], atol=1e-5, rtol=0)


def test_a_graph_that_predicts_otherwise_is_not_written(drawn_run, tmp_path, monkeypatch):
    """As a broken exporter would make it."""
    honest = pipeline_export._write_pt2

    def broken(*arguments):
        run = honest(*arguments)
        return lambda images: run(images) + 0.01

    monkeypatch.setattr(pipeline_export, "_write_pt2", broken)
    run = open_exportable(drawn_run[0] / "runs" / "demo", 0, [])
    with pytest.raises(BonepipeError, match="otherwise than the pipeline"):
        export(run, tmp_path / "model.pt2")
    assert list(tmp_path.iterdir()) == []


def test_windows_are_refused_with_the_way_out(drawn_run, tmp_path):
    run = open_exportable(drawn_run[0] / "runs" / "demo", 0, [])
    windowed = Run(with_group(run.experiment, "windows", window=32))
    with pytest.raises(UsageError, match="windows=none"):
        export(windowed, tmp_path / "model.onnx")


def test_what_the_mean_of_an_ensemble_leaves_out_is_no_difference():
    nothing, low, high = (np.full((1, 4, 4), value, np.float32) for value in (0, 0.0036, 0.6))
    assert pipeline_export.largest_difference(low, nothing, several=True) == 0
    assert pipeline_export.largest_difference(low, nothing, several=False) == pytest.approx(0.0036)
    for several in (True, False):
        assert pipeline_export.largest_difference(high, high - 0.01, several=several) == pytest.approx(0.01, rel=1e-4)
    assert pipeline_export.largest_difference(high, nothing, several=True) > 0.5
