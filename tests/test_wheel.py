"""The wheel: built from the checkout, installed into an environment of its own, and used in an empty folder."""

import csv
import json
import os
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"
TINY = (
    "experiment=debug", "data.root=hands", "data.name=hands", "folds=holdout", "device=cpu",
    "trainer.epochs=1", "trainer.train_batches=1",
    "model.encoder=tu-mobilenetv3_small_050", "model.settings.decoder_channels=[16,8,8,8,8]",
)  # fmt: skip
EXECUTE = """
import sys, nbclient, nbformat
nbclient.NotebookClient(nbformat.read(sys.argv[1], 4), kernel_name="python3").execute()
"""
COMPOSE = """
from pathlib import Path
import bonepipe
from bonepipe import config
from bonepipe.pipeline import ablation
home = Path(bonepipe.__file__).parent
assert home.is_relative_to(ENVIRONMENT), home
assert config.conf_dir().is_relative_to(home), config.conf_dir()
config.compose(["experiment=debug"])
print(*(len(ablation.read(ablation.find(name)).rows) for name in ("steps", "techniques")))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The built wheel's file."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """An environment that holds the wheel, and this one's packages but not the checkout."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    install = [sys.executable, "-m", "pip", "--python", folder, "install", "-q", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # A path in a .pth file is searched, but the .pth files in it, and so the checkout, are not.
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return folder


@pytest.fixture(scope="module")
def run(environment, tmp_path_factory):
    """Run a program of the environment in a folder that was empty, and give what it prints."""
    folder = tmp_path_factory.mktemp("empty")
    variables = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "BONEPIPE_CONF")}

    def run(program, *words):
        command = [environment / "bin" / program, *words]
        done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run.folder = folder
    return run


def test_the_pages_of_the_viewer_are_there(environment):
    (static,) = environment.glob("lib/python*/site-packages/bonepipe/report/view/static")
    checkout = ROOT / "bonepipe" / "report" / "view" / "static"
    assert {path.name for path in static.iterdir()} == {path.name for path in checkout.iterdir()} > {"index.html"}


def test_every_module_and_option_is_there(run, environment):
    """They are the checkout's, byte for byte, of which other tests compose each."""
    steps, techniques = map(int, run("python", "-c", f"ENVIRONMENT={str(environment)!r}{COMPOSE}").split())
    assert steps > 10
    assert techniques > 10
    (package,) = environment.glob("lib/python*/site-packages/bonepipe")
    for installed, here, kind in ((package / "conf", CONF, "*.yaml"), (package, ROOT / "bonepipe", "*.py")):
        there, known = (
            {path.relative_to(root): path.read_bytes() for path in root.rglob(kind)} for root in (installed, here)
        )
        assert there == known


def test_help_and_options_can_be_read(run):
    assert "\n  ablation " in run("bonepipe", "--help")
    assert "`loss=dice_focal`" in run("bonepipe", "options")
    assert "usage: bonepipe train" in run("python", "-m", "bonepipe", "help", "train")


def test_a_dataset_is_made_and_a_submission_handed_in(run):
    run("bonepipe", "phantom", "hands", "--patients", "6", "--test-patients", "2", "--size", "64")
    run("bonepipe", "doctor", "data.root=hands", "data.name=hands", "data.size=64")
    run("bonepipe", "submit", *TINY)
    scores = json.loads((run.folder / "runs" / "debug" / "scores.json").read_text())
    assert {"oof_dice", "test_dice"} <= scores.keys()
    with (run.folder / "runs" / "debug" / "submission.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 2 * 2 * 29
    assert run("bonepipe", "check", "runs/debug/submission.csv", "--data", "hands").startswith("ok: ")


def test_the_kaggle_notebook_installs_the_wheel_and_submits_a_finished_run(run, environment, wheel, tmp_path):
    """From top to bottom with the wheel, the data and the run in places of their own."""
    book = nbformat.read(ROOT / "docs" / "kaggle.ipynb", 4)
    trained, uploaded = run.folder / "runs" / "debug", tmp_path / "input" / "debug"
    leave = shutil.ignore_patterns("last.ckpt", "submission.csv", "wandb")
    shutil.copytree(trained, uploaded, ignore=leave)
    places = {"WHEELS": wheel.parent, "RUN": uploaded, "DATA": run.folder / "hands", "WORK": tmp_path / "working"}
    (cell,) = (cell for cell in book.cells if cell.source.startswith("WHEELS = "))
    cell.source = "\n".join(f"{name} = {str(path)!r}" for name, path in places.items())
    nbformat.write(book, tmp_path / "kaggle.ipynb")
    variables = {**os.environ, "PATH": f"{environment / 'bin'}:{os.environ['PATH']}"}
    variables.pop("PYTHONPATH", None)
    command = [environment / "bin" / "python", "-c", EXECUTE, tmp_path / "kaggle.ipynb"]
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    written = tmp_path / "working" / "submission.csv"
    assert written.read_bytes() == (trained / "submission.csv").read_bytes()
