"""Thumbnails of radiographs: which show one picture twice, which are negatives, which are exposed unlike the rest."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bonepipe.data.image import resize_grey

Thumbnails = NDArray[np.float32]  # [N, SIDE, SIDE], mean grey values of an image's parts
SIDE = 32  # pixels
# Correlation of two thumbnails' gradients. One picture saved again (JPEG of quality 10, half the size, gamma 0.8) has
# more than 0.985; of 190,000 pairs of phantom hands none has more than 0.95, of 946 pairs of real chests 0.6.
SAME = 0.98
NEGATIVE = -0.2  # correlation with the usual picture; above 0.3 for hands and chests, below -0.3 for their negatives
FAR = 1.6  # a mean grey so many times beyond the middle half of the images is unusual
BLOCK = 1024  # images that are compared with the others at a time


def thumbnail(grey: np.ndarray) -> NDArray[np.float32]:
    """The mean grey values of an image uint8 `[H, W]` in SIDE x SIDE parts, float32."""
    if min(grey.shape) > 16 * SIDE:  # bytes are averaged faster, and so far their rounding averages out
        grey = resize_grey(grey, (8 * SIDE, 8 * SIDE))
    return resize_grey(grey.astype(np.float32), (SIDE, SIDE))


def copies(thumbnails: Thumbnails) -> Iterator[tuple[int, int]]:
    """Pairs of images (number, number of an earlier one) that show the same picture, in order.

    A picture stays the same when it is compressed, resized, brightened a little or turned into its negative; not when
    it is mirrored, turned or cut. Blank images are never the same.
    """
    sketches = _sketches(thumbnails)
    for start in range(0, len(sketches), BLOCK):
        block = sketches[start : start + BLOCK]
        alike = np.abs(block @ sketches[: start + len(block)].T) >= SAME
        yield from ((start + row, column) for row, column in np.argwhere(alike).tolist() if column < start + row)


def _sketches(thumbnails: Thumbnails) -> NDArray[np.float32]:
    """Gradients as rows of length 1: what differs between two hands, where their grey values hardly do."""
    across, down = np.diff(thumbnails, axis=2)[:, :-1], np.diff(thumbnails, axis=1)[:, :, :-1]
    return _normalised(np.concatenate([across, down], axis=2).reshape(-1, 2 * (SIDE - 1) ** 2))


def _normalised(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    centred = rows - rows.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(length, 1e-3), np.float32)


@dataclass(frozen=True)
class Usual:
    """How the images of a dataset look as a rule.

    Attributes:
        picture: the median thumbnail, float32 `[SIDE, SIDE]`.
        low, high: mean grey values (0 to 255) between which half of the images lie.
    """

    picture: NDArray[np.float32]
    low: float
    high: float

    @classmethod
    def of(cls, thumbnails: Thumbnails) -> "Usual":
        """What is usual among at least one image."""
        low, high = np.quantile(thumbnails.mean(axis=(1, 2)), [0.25, 0.75]).tolist()
        return cls(np.median(thumbnails, axis=0), low, high)

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> "Usual":
        """As `plain` gives it."""
        picture = np.array(values["picture"], np.float32).reshape(SIDE, SIDE)
        return cls(picture, float(values["low"]), float(values["high"]))

    @property
    def range(self) -> str:
        """The usual mean grey values in words."""
        return f"{self.low:.1f} to {self.high:.1f}"

    def plain(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return {"picture": np.rint(self.picture).astype(int).ravel().tolist(), "low": self.low, "high": self.high}

    def negatives(self, thumbnails: Thumbnails) -> NDArray[np.bool_]:
        """Which images have dark and bright exchanged, against most images."""
        rows = _normalised(thumbnails.reshape(len(thumbnails), -1))
        likeness = rows @ _normalised(self.picture.reshape(1, -1))[0]
        return np.asarray(likeness < NEGATIVE)

    def misexposed(self, thumbnails: Thumbnails) -> NDArray[np.bool_]:
        """Which images are far darker or brighter than the others; negatives, which always are, are none."""
        far = max(FAR, (self.high / max(self.low, 1.0)) ** 2)
        means = thumbnails.mean(axis=(1, 2))
        strange = (means < self.low / far) | (means > self.high * far)
        return np.asarray(strange & ~self.negatives(thumbnails))
