"""Code in the documents does what they say."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from bonepipe.data import submission
from bonepipe.data.image import read_shape
from bonepipe.labels import cutout, rle, upsample
from bonepipe.pipeline.experiment import Experiment


@pytest.fixture
def notebook(tmp_path, phantom_root, monkeypatch):
    """The code of docs/notebook.md, and an empty folder with the tiny phantom where `make data` would put one."""
    (code,) = re.findall(r"```python\n(.*?)```", Path("docs/notebook.md").read_text(), re.DOTALL)
    (tmp_path / "conf").symlink_to(Path("conf").resolve())
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "phantom").symlink_to(phantom_root)
    monkeypatch.chdir(tmp_path)
    return code


def test_the_notebook_trains_tests_predicts_and_loads(notebook):
    """The block word for word; its test Dice is that of the maps it predicts, and the loaded module makes the same."""
    names = {}
    exec(compile(notebook, "docs/notebook.md", "exec"), names)
    experiment, data, maps = names["experiment"], names["datamodule"], torch.cat(names["maps"]).numpy()
    assert isinstance(experiment, Experiment)
    assert names["trainer"].current_epoch == 2
    classes, images = experiment.data.classes, experiment.cohort.test_images
    assert maps.shape == (len(images), len(classes), *experiment.data.shape)
    quiet = pl.Trainer(logger=False, enable_progress_bar=False)
    (tested,) = quiet.test(names["again"], datamodule=data, verbose=False)
    answer = {row.key: row.rle for row in submission.stream(experiment.data.path / "answer.csv")}
    scores = []
    for image, probabilities in zip(images, maps, strict=True):
        shape = read_shape(image.path)
        for label, mask in zip(classes, upsample.cutouts(probabilities, [0.5] * len(classes), shape), strict=True):
            scores.append(rle.dice(rle.encode(cutout.to_mask(mask, shape)), answer[image.name, label]))
    assert tested["test/dice"] == pytest.approx(np.mean(scores))
    assert len(tested) == 1 + len(classes)
    assert (torch.cat(quiet.predict(names["again"], datamodule=data)).numpy() == maps).all()


def test_importing_the_package_and_a_cohort_is_cheap():
    """Neither loads torch, which takes seconds."""
    code = "import sys, bonepipe, bonepipe.data.cohort; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
