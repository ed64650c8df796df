"""A few small images with rectangular bones, and networks that train on them in milliseconds."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from bonepipe.data.augment import Augmentation
from bonepipe.data.datamodule import FoldDataModule
from bonepipe.data.spec import DataSpec
from bonepipe.data.store import Store
from bonepipe.labels import bitplane, polygon
from bonepipe.training.losses import BinaryCrossEntropy
from bonepipe.training.mixing import unmixed
from bonepipe.training.module import SegmentationModule

CLASSES = ("Radius", "Ulna")


def _store(count, size, original, seed):
    rng = np.random.default_rng(seed)
    images, planes, points = [], [], []
    for _ in range(count):
        grey = rng.integers(0, 60, original)
        outlines = []
        for label in range(len(CLASSES)):
            top, left = rng.integers(0, original[0] // 2), rng.integers(0, original[1] // 2)
            bottom, right = top + rng.integers(8, original[0] // 2), left + rng.integers(8, original[1] // 2)
            outlines.append(np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.int32))
            grey[top : bottom + 1, left : right + 1] += 60 + 60 * label
        large = polygon.rasterise(enumerate(outlines), original, len(CLASSES))
        planes.append(bitplane.resize(large, size))
        rows, columns = (np.linspace(0, o - 1, s).round().astype(int) for o, s in zip(original, size, strict=True))
        images.append(grey[np.ix_(rows, columns)].clip(0, 255).astype(np.uint8))
        points += outlines
    labels = len(CLASSES)
    return {
        "names": tuple(f"image{number}.png" for number in range(count)),
        "images": np.stack(images),
        "planes": np.stack(planes),
        "shapes": np.array([original] * count, np.int64),
        "points": np.concatenate(points),
        "starts": np.arange(0, 4 * labels * count + 1, 4),
        "classes": np.tile(np.arange(labels), count),
        "owners": np.repeat(np.arange(count), labels),
        "class_count": labels,
    }


class ConvNet(nn.Module):
    """Three small convolutions; `bias` is that of the logits."""

    def __init__(self, norm=False, dropout=0.0, bias=0.0, width=4):
        super().__init__()
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width) if norm else nn.Identity()
        self.drop = nn.Dropout(dropout)
        self.last = nn.Conv2d(width, len(CLASSES), 1)
        nn.init.constant_(self.last.bias, bias)

    def forward(self, images):
        return self.last(torch.relu(self.norm(self.drop(self.first(images)))))


@pytest.fixture(scope="session")
def make_store(tmp_path_factory):
    """Make a store of `count` images at 24 x 20 pixels, 40 x 36 originally."""

    def make(count, size=(24, 20), original=(40, 36), seed=0):
        return Store(folder=tmp_path_factory.mktemp("store"), **_store(count, size, original, seed))

    return make


@pytest.fixture(scope="session")
def make_module():
    """Make a module around a ConvNet; its first weights depend on nothing but its arguments."""

    def make(
        *, lr=0.2, seed=7, schedule=None, momentum=0.0, loss=None, mixing=unmixed, model=None, hold=None, **network
    ):
        torch.manual_seed(3)
        return SegmentationModule(
            model or ConvNet(**network),
            loss or BinaryCrossEntropy(),
            lambda model: torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum),
            schedule or (lambda optimizer, steps, hold: LambdaLR(optimizer, lambda step: 1 - 0.5 * step / steps)),
            classes=CLASSES,
            mean=0.3,
            std=0.2,
            seed=seed,
            mixing=mixing,
            hold=hold,
        )

    return make


@pytest.fixture(scope="session")
def make_data(stored_cohort):
    """Make a fold's data: the last `held_out` images validate."""

    def make(
        store, *, batch_size=4, held_out=2, transforms=({"name": "HorizontalFlip", "p": 0.5},), seed=5, weights=None,
        workers=0,
    ):  # fmt: skip
        spec = DataSpec(name="tiny", root="nowhere", classes=CLASSES, size=32)
        count = len(store.names)
        data = FoldDataModule(
            stored_cohort(store, range(count - held_out), range(count - held_out, count)),
            0,
            Augmentation(spec, transforms=transforms),
            batch_size=batch_size,
            workers=workers,
            seed=seed,
            pixel_weights=weights,
        )
        data.setup("fit")
        return data

    return make


@pytest.fixture(scope="session")
def same_weights():
    """Whether two state dicts hold the same bytes under the same keys."""

    def same(a, b):
        return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)

    return same
