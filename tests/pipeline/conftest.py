"""Folds with drawn weights: what follows training, without the training."""

import pytest
import torch

from bonepipe.pipeline.experiment import seed_everything
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
