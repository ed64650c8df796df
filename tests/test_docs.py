"""Code in the documents does what it says."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

# What the notebook says of itself, asked by another way: its test Dice is that of the maps that it predicted, the
# loaded module makes the same maps, and the pipeline's fold is finished.
QUESTIONS = """
import numpy as np

from bonepipe.data import submission
from bonepipe.data.image import read_shape
from bonepipe.labels import cutout, rle

predicted = torch.cat(of_test).numpy()
assert predicted.shape == (len(cohort.test_images), len(classes), *experiment.data.shape)
answer = {row.key: row.rle for row in submission.stream(experiment.data.path / "answer.csv")}
scores = []
for image, probabilities in zip(cohort.test_images, predicted, strict=True):
    shape = read_shape(image.path)
    for label, mask in zip(classes, upsample.cutouts(probabilities, [0.5] * len(classes), shape), strict=True):
        scores.append(rle.dice(rle.encode(cutout.to_mask(mask, shape)), answer[image.name, label]))
assert abs(tested["test/dice"] - np.mean(scores)) < 1e-6
assert len(tested) == 1 + len(classes)
assert trainer.current_epoch == 3
quiet = pl.Trainer(logger=False, enable_progress_bar=False)
assert (torch.cat(quiet.predict(again, datamodule=datamodule)).numpy() == predicted).all()
assert not fold.run(experiment, 0)
assert maps.shape == predicted.shape[1:]
"""


@pytest.fixture(scope="module")
def notebook(tmp_path_factory, phantom_root):
    """docs/notebook.ipynb, run from top to bottom on the tiny phantom with two epochs in place of thirty."""
    folder = tmp_path_factory.mktemp("notebook")
    (folder / "notebook").mkdir()
    (folder / "notebook" / "hands").symlink_to(phantom_root)
    book = nbformat.read("docs/notebook.ipynb", 4)
    (settings,) = (cell for cell in book.cells if "SETTINGS =" in cell.source)
    settings.source = settings.source.replace("epochs=30", "epochs=2").replace("validate_every=5", "validate_every=1")
    assert "epochs=2" in settings.source
    settings.source = settings.source.replace('"folds.count=3"', '"folds.count=2", "data.size=64"')
    book.cells.append(nbformat.v4.new_code_cell(QUESTIONS))
    return NotebookClient(
        book, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()


def test_the_notebook_trains_predicts_and_shows(notebook):
    pictures = [output for cell in notebook.cells for output in cell.get("outputs", []) if "image/png" in str(output)]
    assert len(pictures) == 4


def test_the_notebooks_are_shown_with_what_they_print_and_no_path_of_a_machine():
    book = nbformat.read("docs/notebook.ipynb", 4)
    assert all(cell.outputs for cell in book.cells if "plt.show" in cell.source)
    for path in (Path("docs/notebook.ipynb"), Path("docs/kaggle.ipynb")):
        nbformat.validate(nbformat.read(path, 4))
        assert not any(word in path.read_text() for word in ("/home/", "/root", "/tmp", str(Path.cwd())))


def test_importing_the_package_and_a_cohort_is_cheap():
    """Neither loads torch, which takes seconds."""
    code = "import sys, bonepipe, bonepipe.data.cohort; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
