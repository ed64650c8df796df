"""Out-of-fold probabilities as bytes inside the boxes where a class can be: what mixtures of models are chosen from.

A probability p is kept as floor(256 p), the bin that it has in the histograms. A class occupies about 1% of a
radiograph, so its box holds all that is not 0.
"""

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bonepipe.errors import BonepipeError
from bonepipe.files import replacing
from bonepipe.labels.cutout import Box, bounds

LEVELS = 256


@dataclass(frozen=True)
class Compact:
    """Probabilities of several images at one size.

    Attributes:
        names: image names, N of them.
        shape: height and width of the maps in pixels.
        boxes: int32 `[N, C, 4]`: top, left, bottom, right.
        values: uint8, the pixels of all boxes, one box after the other.
    """

    names: list[str]
    shape: tuple[int, int]
    boxes: NDArray[np.int32]
    values: NDArray[np.uint8]

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.boxes.nbytes + self.values.nbytes

    def maps(self, index: int) -> NDArray[np.float32]:
        """Probabilities float32 `[C, h, w]` of an image: the middle of each byte's bin, 0 for byte 0."""
        result = np.zeros((self.boxes.shape[1], *self.shape), np.float32)  # untouched pages cost nothing
        for label, map_ in enumerate(result):
            box, levels = self.piece(index, label)
            map_[box.slices] = _MIDDLES[levels]
        return result

    def map(self, index: int, label: int) -> NDArray[np.float32]:
        """Probabilities float32 `[h, w]` of one class in an image, see `maps`."""
        box, levels = self.piece(index, label)
        result = np.zeros(self.shape, np.float32)
        result[box.slices] = _MIDDLES[levels]
        return result

    def piece(self, index: int, label: int) -> tuple[Box, NDArray[np.uint8]]:
        """The box of one class in an image and its bytes `[box.height, box.width]`, not copied."""
        box, end = Box(*self.boxes[index, label].tolist()), self._ends[index * self.boxes.shape[1] + label]
        return box, self.values[end - box.height * box.width : end].reshape(box.height, box.width)

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        sides = self.boxes[..., 2:].astype(np.int64) - self.boxes[..., :2]
        return sides.prod(-1).cumsum()


_MIDDLES = np.where(np.arange(LEVELS) > 0, (np.arange(LEVELS) + 0.5) / LEVELS, 0).astype(np.float32)


def pack(maps: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Boxes int32 `[C, 4]` and their bytes uint8, flat, of an image's probabilities `[C, h, w]`."""
    levels = np.clip(maps * LEVELS, 0, LEVELS - 1).astype(np.uint8)
    boxes = [bounds(level) for level in levels]
    pieces = [level[box.slices].ravel() for level, box in zip(levels, boxes, strict=True)]
    return np.array(boxes, np.int32), np.concatenate(pieces)


def write(
    path: Path,
    names: Sequence[str],
    classes: Sequence[str],
    shape: tuple[int, int],
    packed: Sequence[tuple[NDArray[np.int32], NDArray[np.uint8]]],
) -> None:
    """Write what `pack` made of each image, compressed and whole."""
    boxes, pieces = zip(*packed, strict=True)
    with replacing(path) as part:
        np.savez_compressed(
            part,
            names=np.array(names),
            classes=np.array(classes),
            shape=np.array(shape),
            boxes=np.stack(boxes),
            values=np.concatenate(pieces),
        )


def take(sources: Sequence[Compact], picked: Sequence[int]) -> list[tuple[NDArray[np.int32], NDArray[np.uint8]]]:
    """What `write` takes, each class's boxes and bytes those of the source picked for it, unchanged.

    Args:
        sources: of the same images and classes.
        picked: index into the sources of each class.
    """
    packed = []
    for index in range(len(sources[0].names)):
        pieces = [sources[source].piece(index, label) for label, source in enumerate(picked)]
        boxes, values = zip(*pieces, strict=True)
        packed.append((np.array(boxes, np.int32), np.concatenate([value.ravel() for value in values])))
    return packed


def read(path: Path, classes: Sequence[str]) -> Compact:
    """Read probabilities.

    Raises:
        BonepipeError: the file is missing, broken, or of other classes.
    """
    with _opened(path, classes) as file:
        height, width = file["shape"].tolist()
        return Compact(file["names"].tolist(), (height, width), file["boxes"], file["values"])


def read_names(path: Path, classes: Sequence[str]) -> list[str]:
    """Only the image names; raises as `read`."""
    with _opened(path, classes) as file:
        names: list[str] = file["names"].tolist()
        return names


def read_shape(path: Path, classes: Sequence[str]) -> tuple[int, int]:
    """Only the height and width of the maps; raises as `read`."""
    with _opened(path, classes) as file:
        height, width = file["shape"].tolist()
        return height, width


@contextmanager
def _opened(path: Path, classes: Sequence[str]) -> Iterator[Any]:
    try:
        with np.load(path, allow_pickle=False) as file:
            labels = file["classes"].tolist()
            if labels != list(classes):
                raise BonepipeError(f"{path}: was written for other classes ({', '.join(labels)})")
            yield file
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BonepipeError(f"{path}: cannot be read ({error}); train this fold again") from error
