"""Out-of-fold probabilities as bytes inside the boxes where a class can be: what mixtures of models are chosen from.

A probability p is kept as floor(256 p), the bin that it has in the histograms. A class occupies about 1% of a
radiograph, so its box holds all that is not 0.
"""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bonepipe.errors import BonepipeError
from bonepipe.files import replacing
from bonepipe.labels.cutout import Box

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
        label_count = self.boxes.shape[1]
        result = np.zeros((label_count, *self.shape), np.float32)
        ends = self._ends[index * label_count :]
        for label, box in enumerate(Box(*row) for row in self.boxes[index].tolist()):
            piece = self.values[ends[label] - box.height * box.width : ends[label]]
            result[label][box.slices] = _MIDDLES[piece].reshape(box.height, box.width)
        return result

    @property
    def _ends(self) -> NDArray[np.int64]:
        sides = self.boxes[..., 2:].astype(np.int64) - self.boxes[..., :2]
        return sides.prod(-1).cumsum()


_MIDDLES = np.where(np.arange(LEVELS) > 0, (np.arange(LEVELS) + 0.5) / LEVELS, 0).astype(np.float32)


def pack(maps: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Boxes int32 `[C, 4]` and their bytes uint8, flat, of an image's probabilities `[C, h, w]`."""
    levels = np.clip(maps * LEVELS, 0, LEVELS - 1).astype(np.uint8)
    boxes = [_box(level) for level in levels]
    pieces = [level[box.slices].ravel() for level, box in zip(levels, boxes, strict=True)]
    return np.array(boxes, np.int32), np.concatenate(pieces)


def _box(levels: NDArray[np.uint8]) -> Box:
    rows = np.flatnonzero(levels.any(1))
    if not rows.size:
        return Box(0, 0, 0, 0)
    columns = np.flatnonzero(levels[rows[0] : rows[-1] + 1].any(0))
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


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


def read(path: Path, classes: Sequence[str]) -> Compact:
    """Read probabilities.

    Raises:
        BonepipeError: the file is missing, broken, or of other classes.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            labels = file["classes"].tolist()
            height, width = file["shape"].tolist()
            found = Compact(file["names"].tolist(), (height, width), file["boxes"], file["values"])
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BonepipeError(f"{path}: cannot be read ({error}); train this fold again") from error
    if labels != list(classes):
        raise BonepipeError(f"{path}: was written for other classes ({', '.join(labels)})")
    return found
