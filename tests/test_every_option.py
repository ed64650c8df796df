"""Every option of every group and every experiment, end to end: two training steps, then a fold's predictions."""

import csv
import inspect
import shutil

import pytest
import yaml

from bonepipe import cli
from bonepipe import config as configs
from bonepipe.report import options

# Widths at which a network of any size takes two steps in a moment.
NARROW = {"width": 4, "growth": 4, "growth_rate": 4, "settings": None}
CHANGES_NOTHING_HERE = ("data", "executor", "tracking", "search", "cam")  # tested where they do something
MODELS = [path.stem for path in options.paths("model")]
OPTIONS = [
    f"{group}={path.stem}"
    for group in configs.GROUPS
    if group not in (*CHANGES_NOTHING_HERE, "model")
    for path in options.paths(group)
]
# For options that have nothing to do with the model: writing a ResNet's checkpoint takes longer than training it.
LIGHT = ("model.encoder=tu-mobilenetv3_small_050", "model.settings.decoder_channels=[16,8,8,8,8]")
VALIDATION_IMAGES, CLASSES = 4, 29  # of a fifth of the ten patients, both hands
OWN_CLASSES = ("chest", "wrist")  # tested where their data is
EXPERIMENTS = [path.stem for path in options.paths("experiment") if path.stem not in OWN_CLASSES]


@pytest.fixture(scope="module")
def train(phantom_root, tmp_path_factory):
    """Train a fold for two steps at 64 pixels and predict its validation images: the Dice of each image and class."""
    folder = tmp_path_factory.mktemp("options")

    def run(name, *words):
        fixed = (
            f"data.root={phantom_root}", "data.size=64", f"runs={folder}", f"name={name}", "tracking=none",
            "device=cpu", "trainer.epochs=1", "trainer.validate_every=1", "trainer.batch_size=2",
            "trainer.accumulate=1", "trainer.train_batches=2", "trainer.val_batches=1", "trainer.workers=0",
            "trainer.precision=auto", f"folds.file={folder}/{name}.csv",
        )  # fmt: skip
        assert cli.main(["train", *words, *fixed]) == 0
        with (folder / name / "fold-0" / "oof_dice.csv").open() as file:
            dice = [float(row["dice"]) for row in csv.DictReader(file)]
        shutil.rmtree(folder / name)  # the checkpoints of all models together would fill gigabytes
        return dice

    return run


def assert_predicted(dice):
    """Every class of each of the fold's validation images has a Dice."""
    assert len(dice) == VALIDATION_IMAGES * CLASSES
    assert all(0 <= value <= 1 for value in dice)


def smaller(model):
    """Overrides that leave out pretrained weights and narrow a network as far as its settings allow."""
    node = yaml.safe_load((configs.conf_dir() / "model" / f"{model}.yaml").read_text())
    known = inspect.signature(configs.locate(node["_target_"])).parameters
    words = [f"model.{key}={value}" for key, value in NARROW.items() if key in known and value]
    return words + ["model.encoder_weights=null"] * ("encoder_weights" in known)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_trains_and_predicts(train, model):
    assert_predicted(train(model, "experiment=debug", f"model={model}", *smaller(model)))


@pytest.fixture
def needed(tmp_path):
    """What an option needs beside itself: a policy to train with, an augmentation that shows its views."""
    path = tmp_path / "policy.yaml"
    path.write_text("transforms: [{name: Affine, rotate: [-20, 20], p: 1.0}]")
    return {"augment=searched": [f"augment.file={path}"], "tta=twelve": ["augment=both_flips"]}


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_trains_and_predicts(train, needed, option):
    assert_predicted(
        train(option.replace("=", "-"), "experiment=debug", *LIGHT, "tta=none", option, *needed.get(option, []))
    )


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_trains_and_predicts(train, experiment):
    assert_predicted(train(f"experiment-{experiment}", f"experiment={experiment}", "model.encoder_weights=null"))


@pytest.mark.parametrize("group", CHANGES_NOTHING_HERE)
def test_every_other_option_composes(group):
    for path in options.paths(group):
        words = ["data.root=nowhere"] if group == "data" else []
        assert configs.compose([f"{group}={path.stem}", *words])[group]["_target_"].startswith("bonepipe.")


def test_the_list_of_options_is_that_of_the_files(capsys):
    listed = (configs.conf_dir().parent / "docs" / "options.md").read_text(encoding="utf-8")
    assert cli.main(["options"]) == 0
    assert capsys.readouterr().out.strip() in listed, "docs/options.md is old; run `make docs`"


def test_a_group_that_is_not_there_is_refused(capsys):
    assert cli.main(["options", "lossy"]) == 2
    assert "no group 'lossy'; did you mean 'loss'?" in capsys.readouterr().err
