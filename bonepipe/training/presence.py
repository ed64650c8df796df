"""Training a classifier on image-level labels alone: which classes a random crop shows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm import tqdm

from bonepipe.data.augment import Augmentation
from bonepipe.data.batches import TrainingImages
from bonepipe.data.loading import make_loader
from bonepipe.data.sampling import Draw, EpochSampler
from bonepipe.data.store import Store
from bonepipe.errors import BonepipeError
from bonepipe.labels import bitplane
from bonepipe.models.presence import PresenceNet
from bonepipe.ranges import Amount, Count, Portion, Positive
from bonepipe.training.batch_norm import calibration_images, recalibrate
from bonepipe.training.finite import require_finite
from bonepipe.training.module import normalise

SMALLEST = 32  # pixels; below, an encoder's last maps would have no inside


@dataclass(frozen=True, kw_only=True)
class CamSpec:
    """How the classifier is trained and its maps become masks.

    Attributes:
        encoder_weights: name of pretrained weights, or null to start from scratch.
        stride: image pixels a map's pixel (8, 16 or 32).
        steps, batch_size: of training.
        lr: largest learning rate; it warms up and falls along a cosine (one cycle).
        crop: side of the crops, a share of the image's.
        share: a class counts as shown when the crop holds this share of its pixels.
        threshold: a mask is where the normalised map (its maximum is 1) reaches this.
        smooth: deviation of a Gaussian over the maps, in pixels of the model's image; 0 for none.
    """

    encoder: str = "resnet18"
    encoder_weights: str | None = None
    stride: Count = 8
    steps: Count = 600
    batch_size: Count = 16
    lr: Positive = 2e-3
    crop: Portion = 0.4
    share: Portion = 0.5
    threshold: Portion = 0.5
    smooth: Amount = 0.0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"cam.{name}={getattr(self, name)}: at least 1")
        for name in ("crop", "share", "threshold"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"cam.{name}={getattr(self, name)}: above 0 and at most 1")
        if not (0 < self.lr < math.inf and 0 <= self.smooth < math.inf):
            raise ValueError(f"cam.lr={self.lr} must be above 0, and cam.smooth={self.smooth} not below")

    def crop_shape(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Height and width of a crop in pixels. Raises ValueError where they are too small to classify."""
        height, width = (round(self.crop * side) for side in shape)
        if min(height, width) < SMALLEST:
            raise ValueError(
                f"cam.crop={self.crop}: crops of {height} x {width} pixels are too small to classify (at least "
                f"{SMALLEST} a side); raise cam.crop or data.size"
            )
        return height, width


class Crops(Dataset[dict[str, Any]]):
    """Augmented images' random crops: `image` uint8 `[h, w]`, `present` float32 `[C]`, `known` float32 `[C]`.

    A class is unknown where nothing shows it and pixels of the crop do not count for it; those beside an image in its
    frame, which count for no class, hide none unless there are no others.
    """

    def __init__(self, store: Store, augmentation: Augmentation, shape: tuple[int, int], share: float) -> None:
        self.images, self.shape, self.share = TrainingImages(store, augmentation), shape, share

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        item, classes = self.images[draw], self.images.store.class_count
        generator = np.random.default_rng((draw[1], draw[0]))
        spare = [full - side for full, side in zip(item["image"].shape, self.shape, strict=True)]
        top, left = (int(generator.integers(most + 1)) for most in spare)
        part = np.s_[top : top + self.shape[0], left : left + self.shape[1]]
        present = presence(item["planes"], item["planes"][part], classes, self.share)
        known = np.ones_like(present)
        if "ignored" in item:
            known[_unsure(item["ignored"][part], classes) & (present == 0)] = 0
        return {"image": item["image"][part].copy(), "present": present, "known": known}


def presence(planes: np.ndarray, part: np.ndarray, classes: int, share: float) -> np.ndarray:
    """Float32 `[C]`: 1 where a part of the planes `[h, w, S * P]` holds at least `share` of a class, and some of it."""
    whole, inside = (_areas(p, classes) for p in (planes, part))
    return ((inside > 0) & (inside >= share * whole)).astype(np.float32)


def _unsure(ignored: np.ndarray, classes: int) -> np.ndarray:
    """Whether a class may hide among the pixels that do not count, planes `[h, w, S * P]`; bool `[C]`."""
    all_classes = bitplane.pack(np.ones(classes, np.bool_))
    pixels = ignored.reshape(len(ignored), -1, len(all_classes))
    beside = ((pixels & all_classes) == all_classes).all(-1, keepdims=True)
    return np.full(classes, beside.all()) | (_areas(np.where(beside, 0, pixels), classes) > 0)


def _areas(planes: np.ndarray, classes: int) -> np.ndarray:
    """The sub-pixels of each class, int64 `[C]`."""
    return bitplane.areas(np.ascontiguousarray(planes).reshape(len(planes), -1, bitplane.plane_count(classes)), classes)


def classifier(classes: int, spec: CamSpec, seed: int) -> PresenceNet:
    """A new classifier; its weights depend on the seed alone. Raises ValueError where the spec names none."""
    torch.manual_seed(seed)
    return PresenceNet(classes, spec.encoder, spec.encoder_weights, spec.stride)


def train_presence(
    model: PresenceNet,
    store: Store,
    indices: Sequence[int],
    augmentation: Augmentation,
    spec: CamSpec,
    *,
    shape: tuple[int, int],
    mean: float,
    std: float,
    seed: int,
    device: str,
) -> None:
    """Train a classifier on crops of these images, in place; no mask is used but to tell what a crop shows.

    Args:
        model: the classifier; afterwards it is on the device, in evaluation mode.
        store: training images; `indices` of those to learn from.
        augmentation: applied before the crop.
        shape: height and width of the crops, pixels.
        mean, std: of the grey values, on the scale 0 to 1.
        seed: of order, augmentation, crops and dropout.
    """
    torch.manual_seed(seed)
    model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=spec.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, spec.lr, total_steps=spec.steps)
    draws = _draws(indices, seed, spec.steps * spec.batch_size)
    loader = make_loader(Crops(store, augmentation, shape, spec.share), spec.batch_size, sampler=draws)
    with tqdm(loader, "presence", unit="step") as bar:
        for batch in bar:
            logits = model(normalise(batch["image"].to(device), mean, std))
            present, known = batch["present"].to(device), batch["known"].to(device)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, present, known)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            if not math.isfinite(value := loss.item()):
                raise BonepipeError(f"presence: the loss is {value} in step {bar.n + 1}; try a lower cam.lr")
            bar.set_postfix(loss=f"{value:.3f}", refresh=False)
    require_finite(model.state_dict(), "presence", "try a lower cam.lr")
    recalibrate(model, (normalise(grey.to(device), mean, std) for grey in calibration_images(loader)))
    model.eval()


def _draws(indices: Sequence[int], seed: int, count: int) -> list[Draw]:
    """As many draws as training needs, epoch after epoch."""
    sampler, draws = EpochSampler(indices, seed), []
    for epoch in range(math.ceil(count / len(indices))):
        sampler.set_epoch(epoch)
        draws += list(sampler)
    return draws[:count]
