"""Every option of every group and every experiment, end to end: two training steps, then a fold's predictions."""

import csv
import gc
import inspect
import shutil

import pytest
import yaml

from bonepipe import cli
from bonepipe import config as configs
from bonepipe.report import options

# What lets a network take two steps in a moment; tests/models/test_options.py has all of them in their own size.
NARROW = {"width": 4, "growth": 4, "first": 8}
SMALLER = {  # encoders, of the same kind where the option is the encoder; a checkpoint would have hundreds of megabytes
    "resnet34": "tu-test_resnet", "resnet50": "resnet18", "resnet101": "tu-test_resnet", "vgg16_bn": "vgg11_bn",
    "tu-vit_small_patch16_224": "tu-test_vit", "tu-hrnet_w18": "tu-hrnet_w18_small", "hrnet_w18": "hrnet_w18_small",
    "hrnet_w48": "hrnet_w18_small_v2",
}  # fmt: skip
DECODERS = {  # settings of an architecture
    **{key: ["decoder_channels=[16,8,8,8,8]"] for key in ("Unet", "UnetPlusPlus", "MAnet")},
    "UPerNet": ["decoder_channels=32"],
    "DPT": ["decoder_intermediate_channels=[8,8,8,8]", "decoder_fusion_channels=8"],
}
CHANGES_NOTHING_HERE = ("data", "executor", "tracking", "search", "cam")  # tested where they do something
NEEDED = {"tta=twelve": {"augment": "both_flips"}}  # an augmentation that shows its views
# For options that have nothing to do with the model: writing a ResNet's checkpoint takes longer than training it.
LIGHT = ("model.encoder=tu-mobilenetv3_small_050", "model.settings.decoder_channels=[16,8,8,8,8]")
VALIDATION_IMAGES, CLASSES = 4, 29  # of a fifth of the ten patients, both hands
OWN_CLASSES = ("chest", "wrist")  # tested where their data is
EXPERIMENTS = [path for path in options.paths("experiment") if path.stem not in OWN_CLASSES]
OF_EXPERIMENTS = {
    words["override /model"]
    for path in EXPERIMENTS
    for words in yaml.safe_load(path.read_text())["defaults"]
    if "override /model" in words
}
MODELS = [path.stem for path in options.paths("model") if path.stem not in OF_EXPERIMENTS]


def combined():
    """Every option of every group but the model: as few trainings as possible, each with one option a group."""
    trainings = []
    for group in (group for group in configs.GROUPS if group not in (*CHANGES_NOTHING_HERE, "model")):
        for path in options.paths(group):
            words = {group: path.stem, **NEEDED.get(f"{group}={path.stem}", {})}
            fitting = [training for training in trainings if {**training, **words} == {**words, **training}]
            if not fitting:
                trainings += (fitting := [{}])
            fitting[0].update(words)
    return [" ".join(f"{group}={option}" for group, option in training.items()) for training in trainings]


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
        gc.collect()  # a Trainer and its network hold each other
        return dice

    return run


def assert_predicted(dice):
    """Every class of each of the fold's validation images has a Dice."""
    assert len(dice) == VALIDATION_IMAGES * CLASSES
    assert all(0 <= value <= 1 for value in dice)


def smaller(model):
    """Overrides that leave out pretrained weights and make a network as small as its settings allow."""
    node = yaml.safe_load((configs.conf_dir() / "model" / f"{model}.yaml").read_text())
    known = inspect.signature(configs.locate("model", node["_target_"])).parameters
    words = [f"model.{key}={value}" for key, value in NARROW.items() if key in known]
    words += [f"model.{key}={SMALLER[value]}" for key, value in node.items() if str(value) in SMALLER]
    words += [f"++model.settings.{setting}" for setting in DECODERS.get(node.get("architecture"), [])]
    return words + ["model.encoder_weights=null"] * ("encoder_weights" in known)


@pytest.mark.parametrize("model", MODELS)
def test_every_other_model_trains_and_predicts(train, model):
    assert_predicted(train(model, "experiment=debug", f"model={model}", *smaller(model)))


@pytest.mark.parametrize("together", combined())
def test_every_option_trains_and_predicts(train, tmp_path, together):
    words = together.split()
    if "augment=searched" in words:
        path = tmp_path / "policy.yaml"
        path.write_text("transforms: [{name: Affine, rotate: [-20, 20], p: 1.0}]")
        words.append(f"augment.file={path}")
    assert_predicted(train(tmp_path.name, "experiment=debug", *LIGHT, "tta=none", *words))


@pytest.mark.parametrize("experiment", [path.stem for path in EXPERIMENTS])
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
