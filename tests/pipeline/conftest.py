"""Runs with drawn weights: what follows training, without the training."""

import json
import os
import shutil

import cv2
import numpy as np
import pytest
import torch

from bonepipe import config as configs
from bonepipe.data import submission
from bonepipe.data.thumbnails import Usual
from bonepipe.inference.oof.predict import Validation, predict_fold
from bonepipe.labels import bitplane
from bonepipe.pipeline.experiment import Experiment, seed_everything
from bonepipe.pipeline.steps import Steps
from bonepipe.training.fit import save_weights

FACTS = {"augmentations": ["HorizontalFlip"]}


def tiny_network(experiment, seed):
    """Unlike new weights, these say yes in some places and no in others."""
    seed_everything(seed)
    model = experiment.model()
    *_, head = (layer for layer in model.modules() if isinstance(layer, torch.nn.Conv2d))
    with torch.no_grad():
        head.weight.mul_(8)
        head.bias.fill_(-0.5)
    return model


@pytest.fixture(scope="session")
def draw_weights():
    """Write weights into an experiment's folds, also as those of these epochs, as if they had been trained."""

    def draw(experiment, seed=0, epochs=()):
        for fold in range(experiment.folds.count):
            folder = experiment.fold_folder(fold)
            folder.mkdir(parents=True)
            files = {"weights": seed, **{f"epoch-{epoch}": seed + 10 * (epoch - 2) for epoch in epochs}}
            for name, number in files.items():
                save_weights(tiny_network(experiment, number + fold), folder / f"{name}.safetensors", FACTS)
            (folder / "metrics.csv").touch()
            Steps(experiment).training(fold).record()

    return draw


def settings(root, folder):
    return [
        "experiment=demo", f"data.root={root}", "data.size=64", "folds.count=2", f"folds.file={folder / 'folds.csv'}",
        "model=mobile_unet", "model.encoder_weights=null", f"runs={folder / 'runs'}", "tracking=none", "device=cpu",
        "tta=none",
    ]  # fmt: skip


def blurred_truth(experiment, fold):
    """A stand-in for a trained network out of fold: the true mask, blurred, as a probability a little too small."""
    store, (_, validation) = experiment.cohort.store, experiment.cohort.indices(fold)
    done = iter(validation)

    def predict(images):
        maps = []
        for _ in range(len(images)):
            mask = bitplane.unpack(store.planes[next(done)], len(experiment.data.classes)).astype(np.float32)
            maps.append(0.8 * np.stack([cv2.GaussianBlur(mask[..., c], (3, 3), 0) for c in range(mask.shape[2])]))
        return torch.from_numpy(np.stack(maps))

    return predict, validation


def undecided(model):
    """Probabilities on both sides of one half: a new network starts far below."""
    head = model.network.segmentation_head[0]
    head.bias.data.zero_()
    head.weight.data.mul_(40)
    return model


def set_thresholds(words, value):
    """Have all classes the same threshold, as if the cross-validation had chosen it."""
    experiment = Experiment(configs.compose(words))
    content = {"thresholds": dict.fromkeys(experiment.data.classes, value)}
    (experiment.folder / "thresholds.json").write_text(json.dumps(content))
    configs.save(experiment.config, experiment.folder / "config.yaml")
    Steps(experiment).cross_validation().record()


@pytest.fixture(scope="session", name="set_thresholds")
def the_setter():
    """The function of that name."""
    return set_thresholds


@pytest.fixture(scope="session")
def drawn_run(tmp_path_factory, phantom_root):
    """A folder with a run of two folds, weights as drawn, out-of-fold predictions near the truth; and its words."""
    folder = tmp_path_factory.mktemp("drawn")
    words = settings(phantom_root, folder)
    experiment = Experiment(configs.compose(words))
    classes, usual = experiment.data.classes, Usual.of(experiment.cohort.store.thumbnails).plain()
    for fold in (0, 1):
        seed_everything(fold)
        here = experiment.fold_folder(fold)
        configs.save(experiment.config, here / "config.yaml")
        facts = {"classes": classes, "augmentations": experiment.augmentation.names, "fold": fold, "aspects": [1, 1]}
        facts["usual"] = usual
        save_weights(undecided(experiment.model()), here / "weights.safetensors", facts)
        (here / "metrics.csv").write_text("epoch\n")
        Steps(experiment).training(fold).record()
        predict, validation = blurred_truth(experiment, fold)
        predict_fold(predict, Validation(experiment.cohort.store, validation, classes, here, 4))
        Steps(experiment).out_of_fold(fold).record()
    (experiment.folder / "scores.json").write_text("{}")
    set_thresholds(words, 0.52)
    return folder, words


def copy_or_link(source, target):
    """Weights and stores are large and never written again."""
    (os.link if source.endswith((".safetensors", ".npy", ".npz")) else shutil.copy2)(source, target)


@pytest.fixture
def copied_run(drawn_run, tmp_path):
    """A copy that may be changed, and its overrides."""
    folder, words = drawn_run
    shutil.copytree(folder, tmp_path / "copy", copy_function=copy_or_link)
    return tmp_path / "copy", [*words, f"runs={tmp_path / 'copy' / 'runs'}"]


@pytest.fixture(scope="session")
def rows_of():
    """Read a table of masks: (image, class) -> run lengths."""
    return lambda path: {row.key: row.rle for row in submission.stream(path)}
