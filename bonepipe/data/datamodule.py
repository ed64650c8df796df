"""Batches of bytes: `image` uint8 [B, h, w], `planes` uint8 [B, h, w, P] and `index` int64 [B] into the store.

A training batch has `weight` float32 [B, 1, h, w] as well where the loss asks for pixel weights.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from bonepipe.data.augment import Augmentation
from bonepipe.data.store import Store

Batch = dict[str, torch.Tensor]
Draw = tuple[int, int]  # index into the store, augmentation seed
PixelWeights = Callable[[np.ndarray], np.ndarray]  # planes [h, w, P] to weights float32 [h, w]


class EpochSampler(Sampler[Draw]):
    """Each epoch a shuffle and one augmentation seed an image, all functions of (seed, epoch).

    Nothing is remembered between epochs, so a resumed run draws what an undisturbed one would have drawn, and the
    number of workers changes nothing. Lightning calls `set_epoch`.
    """

    def __init__(self, indices: Sequence[int], seed: int) -> None:
        self.indices, self.seed, self.epoch = np.asarray(indices), seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration draws."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Draw]:
        generator = np.random.default_rng((self.seed, self.epoch))
        order = generator.permutation(self.indices)
        return iter(zip(order.tolist(), generator.integers(2**31, size=len(order)).tolist(), strict=True))

    def __len__(self) -> int:
        return len(self.indices)


class TrainingImages(Dataset[dict[str, Any]]):
    """Augmented images and planes from the store, by draw, and the pixel weights of the augmented planes.

    Weights are made here and not kept in the store. Measured at 512 x 512 with 29 classes, U-Net's weights take a core
    4.9 ms an image this way; kept, augmenting them would take 0.4 ms as a map of their own, 2.8 ms as a fifth plane.
    But distances do not survive scaling and elastic deformation: kept weights were wrong by up to 2 of 10, and
    each choice of their settings would need a store of its own.
    """

    def __init__(self, store: Store, augmentation: Augmentation, pixel_weights: PixelWeights | None = None) -> None:
        self.store, self.augmentation, self.pixel_weights = store, augmentation, pixel_weights

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        index, seed = draw
        image, planes = self.augmentation(np.array(self.store.images[index]), np.array(self.store.planes[index]), seed)
        sample = {"image": np.ascontiguousarray(image), "planes": np.ascontiguousarray(planes), "index": index}
        if self.pixel_weights is not None:
            sample["weight"] = self.pixel_weights(planes)[None]
        return sample


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
        pixel_weights: makes the weights of a training image's pixels of its augmented planes, or None.
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
        pixel_weights: PixelWeights | None = None,
    ) -> None:
        self.store, self.batch_size = store, batch_size
        self.workers = min(8, os.cpu_count() or 1) if workers is None else workers
        self.sampler = EpochSampler(training, seed)
        self.training = TrainingImages(store, augmentation, pixel_weights)
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
