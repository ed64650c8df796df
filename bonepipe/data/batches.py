"""Batches of bytes: `image` uint8 [B, h, w], `planes` uint8 [B, h, w, S * P] and `index` int64 [B] into the store.

The planes of a pixel's S sub-pixels lie side by side, see `labels.bitplane.to_subpixels`; S is 1 where the data asks
for no supersampling.

A training batch has `weight` float32 [B, 1, h, w] as well where the loss asks for pixel weights, `ignored` uint8
[B, h, w, S * P] where the labels of some pixels do not count, and `share` float32 [B] where images weigh differently.
Batches to predict have the images' original `shape` int64 [B, 2], those of files a list `name` and `thumbnail` float32
[B, s, s] too, and batches to compare with a list `truth` of `Truth`.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, default_collate

from bonepipe.data import submission
from bonepipe.data.augment import Augmentation
from bonepipe.data.catalog import Radiograph
from bonepipe.data.frame import Frame, Shape
from bonepipe.data.image import resize_grey
from bonepipe.data.sampling import Draw
from bonepipe.data.store import Store
from bonepipe.data.thumbnails import thumbnail
from bonepipe.errors import BonepipeError
from bonepipe.labels import bitplane, cutout
from bonepipe.labels.cutout import Cutout

Batch = dict[str, Any]
PixelWeights = Callable[[np.ndarray], np.ndarray]  # planes [h, w, P] to weights float32 [h, w]
TRIES = 8  # augmentations of one image, at the most, to find one with foreground


class TrainingImages(Dataset[dict[str, Any]]):
    """Augmented images and planes from the store, by draw, and the pixel weights of the augmented planes.

    Pixel weights are made here and not kept in the store. Measured at 512 x 512 with 29 classes, U-Net's take a core
    4.9 ms an image this way; kept, augmenting them would take 0.4 ms as a map of their own, 2.8 ms as a fifth plane.
    But distances do not survive scaling and elastic deformation: kept weights were wrong by up to 2 of 10, and
    each choice of their settings would need a store of its own.

    Args:
        store: all training images.
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
        shape = self.store.frame.shape
        image = np.ascontiguousarray(resize_grey(image, shape))
        sample = {"image": image, "planes": self._gathered(planes), "index": index}
        if self.pixel_weights is not None:
            sample["weight"] = self.pixel_weights(bitplane.resize(planes, shape))[None]
        if ignored is not None:
            sample["ignored"] = self._gathered(ignored)
        if self.shares is not None:
            sample["share"] = self.shares[index]
        return sample

    def _gathered(self, planes: np.ndarray) -> np.ndarray:
        """Planes as drawn, with those of a pixel's sub-pixels side by side."""
        return np.ascontiguousarray(bitplane.to_subpixels(planes, self.store.supersample))

    def _augmented(self, index: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Image, planes of the labels, and planes of the pixels that do not count, all warped alike."""
        image, planes, ignored = self.store.drawn(index, seed)
        uncounted = [layer for layer in (ignored, self.store.padding(index)) if layer is not None]
        if not uncounted:
            return *self.augmentation(image, planes, seed), None
        if nowhere := ignored is not None and (classes := bitplane.everywhere(ignored)).any():
            # Turning and shrinking bring a border into view, where the planes are empty and these would come to count.
            uncounted.append(np.broadcast_to(classes, planes.shape))
        image, joined = self.augmentation(image, np.concatenate([planes, *uncounted], axis=-1), seed)
        planes, *warped = np.split(joined, 1 + len(uncounted), axis=-1)
        if nowhere:  # a grid of pixels tells which classes these are now that a flip may have swapped them
            warped[-1] = np.bitwise_or.reduce(warped[-1][::4, ::4], axis=(0, 1))
        return image, planes, np.bitwise_or.reduce(np.broadcast_arrays(*warped))


class ValidationImages(Dataset[dict[str, Any]]):
    """Images of the store as they are, with their original shape and their index."""

    def __init__(self, store: Store, indices: Sequence[int]) -> None:
        self.store, self.indices = store, list(indices)

    def __getitem__(self, position: int) -> dict[str, Any]:
        index = self.indices[position]
        return {
            "image": np.array(self.store.images[index]),
            "shape": torch.from_numpy(self.store.shapes[index]),
            "index": index,
        }

    def __len__(self) -> int:
        return len(self.indices)


class TestImages(Dataset[dict[str, Any]]):
    """Images as a model sees them, with name, original shape and thumbnail; for several models all from one decoding.

    Args:
        frame: how they are shown; or several in a frozenset, and `image` is a dictionary with an image of each.
    """

    __test__ = False  # not a test case, whatever its name

    def __init__(self, images: Sequence[Radiograph], frame: Frame | frozenset[Frame]) -> None:
        self.images, self.frame = images, frame

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = self.images[index]
        grey = image.read()
        size, little = torch.tensor(grey.shape), thumbnail(grey)
        return {"image": self._shown(grey), "shape": size, "index": index, "name": image.name, "thumbnail": little}

    def _shown(self, grey: np.ndarray) -> Any:
        if isinstance(self.frame, frozenset):
            return {frame: frame.place(grey, resize_grey) for frame in self.frame}
        return self.frame.place(grey, resize_grey)

    def __len__(self) -> int:
        return len(self.images)


class Truth:
    """What the prediction of an image is compared with.

    Neither tuple nor dataclass: those Lightning and torch would take apart on a batch's way to the device.

    Attributes:
        shape: original height and width of the image, pixels.
        masks: the true mask of every class at that size.
        frame: how the model is shown the image.
    """

    def __init__(self, shape: Shape, masks: list[Cutout], frame: Frame) -> None:
        self.shape, self.masks, self.frame = shape, masks, frame

    def content(self, maps: Any) -> Any:
        """The part of maps `[C, h, w]` that shows the image."""
        return self.frame.content(maps, self.shape)


class WithTruth(Dataset[dict[str, Any]]):
    """Images (samples with an `index`) with their `truth`, which is drawn here, in the loader's process."""

    def __init__(self, images: Any, truth: Callable[[Mapping[str, Any]], Truth]) -> None:
        self.images, self.truth = images, truth

    def __getitem__(self, position: int) -> dict[str, Any]:
        sample = self.images[position]
        return {**sample, "truth": self.truth(sample)}

    def __len__(self) -> int:
        return len(self.images)


def annotated_truth(store: Store, sample: Mapping[str, Any]) -> Truth:
    """The masks of a store's image as they were annotated."""
    return Truth(store.shape(sample["index"]), store.truth(sample["index"]), store.frame)


class Answer:
    """The truth of test images from a CSV of run-length codes.

    Args:
        path: the CSV; images and classes that are not asked for are passed over.
        names: of the images, in the order of their indices.
        frame: how the model is shown them.

    Raises:
        BonepipeError: the file cannot be read or lacks a row; when called, a code that does not fit its image.
    """

    def __init__(self, path: Path, names: Sequence[str], classes: Sequence[str], frame: Frame) -> None:
        self.path, self.frame, rows = path, frame, {row.key: row for row in submission.stream(path)}
        wanted = [[(name, label) for label in classes] for name in names]
        for name, label in (key for keys in wanted for key in keys if key not in rows):
            raise BonepipeError(f"{path}: no row of {name}, {label}; an absent class has an empty code")
        self.rows = [[rows[key] for key in keys] for keys in wanted]

    def __call__(self, sample: Mapping[str, Any]) -> Truth:
        """The masks of a sample with `index` and `shape`."""
        height, width = sample["shape"].tolist()
        masks = [self._mask(row, (height, width)) for row in self.rows[sample["index"]]]
        return Truth((height, width), masks, self.frame)

    def _mask(self, row: submission.Row, shape: Shape) -> Cutout:
        return cutout.from_runs(submission.runs(self.path, row, shape), shape)


def collate(samples: list[dict[str, Any]]) -> Batch:
    """Stack samples into a batch; every `truth` stays as it is, in a list."""
    truth = [sample.pop("truth") for sample in samples]
    return {**default_collate(samples), "truth": truth}
