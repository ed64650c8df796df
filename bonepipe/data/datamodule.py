"""Batches of bytes: `image` uint8 [B, h, w], `planes` uint8 [B, h, w, P] and `index` int64 [B] into the store.

A training batch has `weight` float32 [B, 1, h, w] as well where the loss asks for pixel weights, `ignored` uint8
[B, h, w, P] where the labels of some pixels do not count, and `share` float32 [B] where images weigh differently.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from bonepipe.data.augment import Augmentation
from bonepipe.data.store import Store
from bonepipe.data.strata import Mix, uncovered, weights
from bonepipe.parallel import cores

Batch = dict[str, torch.Tensor]
Draw = tuple[int, int]  # index into the store, augmentation seed
PixelWeights = Callable[[np.ndarray], np.ndarray]  # planes [h, w, P] to weights float32 [h, w]
TRIES = 8  # augmentations of one image, at the most, to find one with foreground


@dataclass(frozen=True, kw_only=True)
class SamplerSpec:
    """Which training images come up, and how often.

    Attributes:
        balance: None shows every image once an epoch. `test` draws with replacement, strata as often as the test set
            has them, those that it has not never; a dictionary gives factors by stratum, 1 for a stratum that it does
            not name.
        foreground: probability that an augmented image without any foreground is drawn again.
    """

    balance: Literal["test"] | dict[str, float] | None = None
    foreground: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.foreground <= 1:
            raise ValueError(f"foreground={self.foreground}: a probability from 0 to 1")
        if isinstance(self.balance, Mapping) and (not self.balance or min(self.balance.values()) <= 0):
            raise ValueError(f"balance={self.balance}: factors by stratum, all above 0")


def draw_weights(spec: SamplerSpec, labels: Sequence[str], mix: Mix) -> np.ndarray | None:
    """How often each image is drawn relative to the others, float64 `[N]`; None for each once.

    Args:
        spec: of the sampler.
        labels: the stratum of each training image.
        mix: shares of the strata in the test set; only `balance=test` looks at them.

    Raises:
        ValueError: a stratum of the test set, or one that a factor names, has no training image.
    """
    if spec.balance is None:
        return None
    factors = mix if spec.balance == "test" else spec.balance
    missing = uncovered(labels, factors)
    if missing:
        raise ValueError(
            f"balance: no training image is of the stratum {', '.join(missing)}; there are "
            f"{', '.join(sorted(set(labels)))} (coarser strata: strata.by; other folds: folds=stratified_group)"
        )
    if spec.balance == "test":
        return weights(labels, mix)
    return np.array([factors.get(label, 1.0) for label in labels])


class EpochSampler(Sampler[Draw]):
    """Each epoch a shuffle and one augmentation seed an image, all functions of (seed, epoch).

    With weights, the epoch's images are drawn with replacement instead, as many as there are.

    Nothing is remembered between epochs, so a resumed run draws what an undisturbed one would have drawn, and the
    number of workers changes nothing. Lightning calls `set_epoch`. A fixed sampler draws its first epoch every time.
    """

    def __init__(
        self, indices: Sequence[int], seed: int, weights: np.ndarray | None = None, fixed: bool = False
    ) -> None:
        self.indices, self.seed, self.epoch, self.fixed = np.asarray(indices), seed, 0, fixed
        self.shares = None if weights is None else weights / weights.sum()

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration draws."""
        self.epoch = 0 if self.fixed else epoch

    def __iter__(self) -> Iterator[Draw]:
        generator = np.random.default_rng((self.seed, self.epoch))
        if self.shares is None:
            order = generator.permutation(self.indices)
        else:
            order = generator.choice(self.indices, len(self.indices), p=self.shares)
        return iter(zip(order.tolist(), generator.integers(2**31, size=len(order)).tolist(), strict=True))

    def __len__(self) -> int:
        return len(self.indices)


class TrainingImages(Dataset[dict[str, Any]]):
    """Augmented images and planes from the store, by draw, and the pixel weights of the augmented planes.

    Pixel weights are made here and not kept in the store. Measured at 512 x 512 with 29 classes, U-Net's take a core
    4.9 ms an image this way; kept, augmenting them would take 0.4 ms as a map of their own, 2.8 ms as a fifth plane.
    But distances do not survive scaling and elastic deformation: kept weights were wrong by up to 2 of 10, and
    each choice of their settings would need a store of its own.

    Args:
        store: all training images.
        augmentation: applied to each draw.
        foreground: probability that an augmented image without any label is augmented anew.
        pixel_weights: makes the weights of an image's pixels of its augmented planes, or None.
        shares: weight of each of the store's images in the loss, float32 `[N]`; None where all count alike.
    """

    def __init__(
        self,
        store: Store,
        augmentation: Augmentation,
        foreground: float = 0.0,
        pixel_weights: PixelWeights | None = None,
        shares: np.ndarray | None = None,
    ) -> None:
        self.store, self.augmentation, self.foreground = store, augmentation, foreground
        self.pixel_weights, self.shares = pixel_weights, shares

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        index, seed = draw
        image, planes, ignored = self._augmented(index, seed)
        if self.foreground:
            generator = np.random.default_rng((seed, 2))  # another stream than those of augmentation and jitter
            for again in generator.integers(2**31, size=TRIES - 1).tolist():
                if planes.any() or generator.random() >= self.foreground:
                    break
                image, planes, ignored = self._augmented(index, again)
        sample = {"image": np.ascontiguousarray(image), "planes": np.ascontiguousarray(planes), "index": index}
        if self.pixel_weights is not None:
            sample["weight"] = self.pixel_weights(planes)[None]
        if ignored is not None:
            sample["ignored"] = np.ascontiguousarray(ignored)
        if self.shares is not None:
            sample["share"] = self.shares[index]
        return sample

    def _augmented(self, index: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Image, planes of the labels, and planes of the pixels that do not count, all warped alike."""
        image, planes, ignored = self.store.drawn(index, seed)
        if ignored is None:
            return *self.augmentation(image, planes, seed), None
        image, both = self.augmentation(image, np.concatenate([planes, ignored], axis=-1), seed)
        count = planes.shape[-1]
        return image, both[..., :count], _still_whole(ignored, both[..., count:])


def _still_whole(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The augmented planes `[h, w, P]` of what does not count; a class that counted nowhere still does so nowhere.

    Turning and shrinking bring a border into view, where the planes are empty and such a class would come to count.
    """
    if not before.any() or (before != before[0, 0]).any():
        return after
    classes = np.bitwise_or.reduce(after[::4, ::4].reshape(-1, after.shape[-1]))  # a grid of pixels tells
    return np.broadcast_to(classes, after.shape)


class ValidationImages(Dataset[dict[str, Any]]):
    """Images as they are; their truth is compared at the original size, outside the loader."""

    def __init__(self, store: Store, indices: Sequence[int]) -> None:
        self.store, self.indices = store, list(indices)

    def __getitem__(self, position: int) -> dict[str, Any]:
        index = self.indices[position]
        return {"image": np.array(self.store.images[index]), "index": index}

    def __len__(self) -> int:
        return len(self.indices)


class FoldData:
    """Training and validation batches of one fold.

    Args:
        store: all training images.
        training, validation: indices into the store.
        augmentation: applied to training images only.
        batch_size: images a batch.
        workers: loader processes; None for one a core, at most 8. Their number never changes the result.
        seed: of shuffling and augmentation.
        weights: how often each training image is drawn relative to the others; None for each once an epoch.
        foreground: probability that an augmented image without any label is augmented anew.
        fixed: every epoch has the very batches of the first, for debugging.
        pixel_weights: makes the weights of a training image's pixels of its augmented planes, or None.
        shares: weight of each of the store's images in the loss, float32 `[N]`; None where all count alike.
    """

    def __init__(
        self,
        store: Store,
        training: Sequence[int],
        validation: Sequence[int],
        augmentation: Augmentation,
        *,
        batch_size: int,
        workers: int | None,
        seed: int,
        weights: np.ndarray | None = None,
        foreground: float = 0.0,
        pixel_weights: PixelWeights | None = None,
        fixed: bool = False,
        shares: np.ndarray | None = None,
    ) -> None:
        self.store, self.batch_size = store, batch_size
        self.workers = min(8, cores()) if workers is None else workers
        self.sampler = EpochSampler(training, seed, weights, fixed)
        self.training = TrainingImages(store, augmentation, foreground, pixel_weights, shares)
        self.validation = ValidationImages(store, validation)

    def _loader(self, dataset: Dataset[Any], **arguments: Any) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            num_workers=self.workers,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.workers > 0,
            worker_init_fn=_one_thread,
            **arguments,
        )

    def train_dataloader(self) -> DataLoader[Any]:
        """Augmented batches in this epoch's order; the last may be smaller."""
        return self._loader(self.training, sampler=self.sampler)

    def val_dataloader(self) -> DataLoader[Any]:
        """Validation batches in a fixed order."""
        return self._loader(self.validation)


def _one_thread(worker: int) -> None:
    """Workers are as many as cores; OpenCV's own threads in each would only get in each other's way."""
    cv2.setNumThreads(0)
