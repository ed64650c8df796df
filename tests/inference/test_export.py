"""Modules that are traced against the functions that predict."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bonepipe.data.frame import Frame
from bonepipe.data.image import resize_grey
from bonepipe.data.spec import DataSpec
from bonepipe.inference.export import AnySize, Averaged, Mixed
from bonepipe.inference.fold_model import FoldModel, mean_probabilities
from bonepipe.inference.tta import Views
from bonepipe.labels import upsample

SPEC = DataSpec(
    name="d", root="", classes=("left", "right", "other"), size=64, swaps={"horizontal": [("left", "right")]}
)
MANY = [{"name": "HorizontalFlip"}, {"name": "Rotate90", "angles": [0, 90]}, {"name": "Scale", "scales": [1.0, 0.75]}]


def network(seed):
    torch.manual_seed(seed)
    return nn.Conv2d(1, 3, 5, padding=2).eval()


@pytest.mark.parametrize("weights", [None, [8, 7, 6, 5, 4, 3, 2, 1]])
def test_models_and_views_average_as_in_prediction(weights):
    """Flips that swap classes, quarter turns and scales of a frame that is no square, weighted."""
    models, views = [network(0), network(1)], Views(SPEC, transforms=MANY, weights=weights)
    images = torch.randint(0, 256, (3, 48, 64), dtype=torch.uint8)
    expected = mean_probabilities([FoldModel(Path(), model, {}) for model in models], views, images, 0.4, 0.3, "32")
    with torch.inference_mode():
        maps = Averaged(models, views, 0.4, 0.3)(images[:, None])
    torch.testing.assert_close(maps, expected, atol=1e-6, rtol=0)
    assert maps.std() > 1e-3  # far above the tolerance


def test_members_of_an_ensemble_count_as_their_weights_say():
    images, views = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8), Views(SPEC)
    members = [Averaged([network(seed)], views, 0.5, 0.25) for seed in (0, 1)]
    weights = torch.tensor([[1.0, 0.25, 0.0], [0.0, 0.75, 1.0]])
    with torch.inference_mode():
        first, second = (member(images) for member in members)
        maps = Mixed(members, weights)(images)
    torch.testing.assert_close(maps[:, 0], first[:, 0])
    torch.testing.assert_close(maps[:, 1], 0.25 * first[:, 1] + 0.75 * second[:, 1])
    torch.testing.assert_close(maps[:, 2], second[:, 2])


class Grey(nn.Module):
    def forward(self, images):
        return images / 255


@pytest.mark.parametrize("fit", ["pad", "stretch"])
@pytest.mark.parametrize("shape", [(192, 256), (300, 200), (97, 500), (96, 128), (1000, 700), (50, 80), (500, 33)])
def test_any_size_is_placed_and_brought_back_as_by_the_pipeline(fit, shape):
    """The very bytes where nothing is enlarged on the way in; else one level, as OpenCV's weights are coarse."""
    grey = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    frame = Frame((96, 128), fit)
    shown = frame.content(frame.place(grey, resize_grey).astype(np.float32) / 255, shape)
    with torch.inference_mode():
        maps = AnySize(Grey(), frame)(torch.from_numpy(grey)[None, None])[0, 0].numpy()
    grows = any(side < inside for side, inside in zip(shape, shown.shape, strict=True))
    mixed = grows and any(side > inside for side, inside in zip(shape, shown.shape, strict=True))
    assert np.abs(maps - upsample.upsample(shown, shape)).max() * 255 <= (2.01 if mixed else 1.01 if grows else 1e-3)
