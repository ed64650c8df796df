"""What every mixture of several runs scores, from the pixels that the runs disagree about.

A weighted mean lies between the smallest and the largest of its values. Where all runs are below the lowest threshold
of interest no mixture holds the pixel, and where all reach the highest every mixture does: such pixels are only
counted. Of the others, a thin rim, the M probabilities are kept, in 16 bits.

The ensemble itself averages floats at the common resolution and enlarges once. Both differ only where a mean lies
within 1 / 65536 of a threshold, so a mixture's Dice here is what `bonepipe ensemble` finds but for such pixels: on maps
of pure noise less than 0.0005 apart, of an image of 96 x 80 pixels. Both read the bytes that folds keep; what a run's
own scores.json says comes from probabilities before they became bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bonepipe.inference.oof import byte_maps
from bonepipe.inference.oof.byte_maps import LEVELS, ImageBytes
from bonepipe.labels.cutout import Box, Cutout, area, bounds, hull, inside
from bonepipe.labels.dice import dice
from bonepipe.labels.histogram import HALF_BIN
from bonepipe.labels.upsample import Shape, sources, spread, upsample

Counts = tuple[int, ...]  # how often each run is in a mixture: its weight
FINE = 1 << 16  # steps from probability 0 to 1 that are told apart
STEP = FINE // LEVELS  # of them in one of the bytes' bins
MAX_WEIGHT = FINE - 1  # of a whole mixture: its sums stay in 32 bits


class Band(NamedTuple):
    """The lowest and the highest threshold, in 1 / 256, for which mixtures can be scored; at least 1."""

    low: int = HALF_BIN
    high: int = HALF_BIN


class ImagePixels(NamedTuple):
    """One class of one image.

    Attributes:
        rows: uint16 `[M, R]`, the undecided pixels in 1 / FINE: first the background's, then the foreground's.
        background: how many of them are background.
        held: pixels of background and foreground that every mixture holds.
        area: pixels of the truth.
    """

    rows: NDArray[np.uint16]
    background: int
    held: tuple[int, int]
    area: int


def split_pixels(levels: NDArray[np.uint16], truth: NDArray[np.bool_], true_area: int, band: Band) -> ImagePixels:
    """Sort the pixels of a box.

    Args:
        levels: the runs' probabilities in 1 / FINE `[M, h, w]`; outside the box no run reaches the band.
        truth: bool `[h, w]`.
        true_area: pixels of the truth, inside the box or not.
        band: thresholds of interest.
    """
    least, most = levels.min(0), levels.max(0)
    held = least >= band.high * STEP
    undecided = (most >= band.low * STEP) & ~held
    background, foreground = levels[:, undecided & ~truth], levels[:, undecided & truth]
    held_truth = int(np.count_nonzero(held & truth))
    counts = int(np.count_nonzero(held)) - held_truth, held_truth
    return ImagePixels(np.concatenate([background, foreground], 1), background.shape[1], counts, true_area)


@dataclass(frozen=True)
class ClassPixels:
    """One class in N images.

    Attributes:
        rows: uint16 `[M, R]`, the undecided pixels, image by image, in each the background first.
        starts: int64 `[2N + 1]`, where background and foreground of each image start.
        held: int64 `[N, 2]`, pixels of background and foreground that every mixture holds.
        area: int64 `[N]`, pixels of the truth.
    """

    rows: NDArray[np.uint16]
    starts: NDArray[np.int64]
    held: NDArray[np.int64]
    area: NDArray[np.int64]

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.rows.nbytes + self.starts.nbytes + self.held.nbytes + self.area.nbytes

    def dice(self, counts: Counts, thresholds: Sequence[int]) -> NDArray[np.float64]:
        """Dice `[N, T]` of the masks where the mean of the kept probabilities, weighted, is at least k / 256.

        Args:
            counts: M weights, not negative, together from 1 to MAX_WEIGHT.
            thresholds: T integers k in the band that the rows were kept for.
        """
        total = np.zeros(self.rows.shape[1], np.uint32)
        for row, count in zip(self.rows, counts, strict=True):
            if count:
                total += np.multiply(row, count, dtype=np.uint32)
        masks = (total >= k * STEP * sum(counts) for k in thresholds)
        holds = np.stack([self._per_image(mask) for mask in masks], 1)
        return np.asarray(dice(holds[..., 1], holds.sum(-1), self.area[:, None]), np.float64)

    def _per_image(self, mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Pixels of background and foreground `[N, 2]` in the mask, whose undecided pixels are given."""
        undecided = [np.count_nonzero(mask[start:end]) for start, end in pairwise(self.starts.tolist())]
        return self.held + np.reshape(undecided, (-1, 2))


def join_images(pieces: Sequence[ImagePixels]) -> ClassPixels:
    """Put the pieces of one class in all images together."""
    lengths = np.array([(p.background, p.rows.shape[1] - p.background) for p in pieces], np.int64)
    return ClassPixels(
        rows=np.concatenate([piece.rows for piece in pieces], 1),
        starts=np.append(0, np.cumsum(lengths)),
        held=np.array([piece.held for piece in pieces], np.int64),
        area=np.array([piece.area for piece in pieces], np.int64),
    )


def pixels_of_image(
    images: Sequence[ImageBytes], common: Shape, shape: Shape, truth: Sequence[Cutout], band: Band
) -> list[ImagePixels]:
    """The pieces, one a class, of an image whose size is `shape`.

    Every map is brought to the common resolution first, as an ensemble averages there, and then to the image's size.

    Args:
        images: one a run.
        common: the largest height and width of the runs' maps of the image.
        shape: height and width of the image in pixels.
        truth: one mask a class, at the image's size.
        band: thresholds of interest.
    """
    pieces = []
    for label, mask in enumerate(truth):
        box, levels = align(images, label, common, shape, band.low)
        pieces.append(split_pixels(levels, inside(mask, box), area(mask), band))
    return pieces


def align(
    images: Sequence[ImageBytes], label: int, common: Shape, shape: Shape, low: int
) -> tuple[Box, NDArray[np.uint16]]:
    """The box at the image's size where any run might reach byte `low`, and all runs' probabilities `[M, h, w]` in it.

    They are in 1 / FINE: rounded to bytes as they are stored, they would move every border of a noisy map.
    """
    reached = [(_reached(image, label, low), image.shape) for image in images]
    box = hull(spread(spread(near, size, common), common, shape) for near, size in reached)
    if not box.height:  # and no width
        return box, np.zeros((len(images), 0, 0), np.uint16)
    near = sources(box, common, shape)
    maps = (_at_common(byte_maps.expand(image.pieces[label], image.shape), common, near) for image in images)
    return box, np.stack([np.rint(upsample(map_, shape, box) * FINE).astype(np.uint16) for map_ in maps])


def _reached(image: ImageBytes, label: int, low: int) -> Box:
    """The box, at the run's own size, of the bytes from `low` upwards."""
    box, levels = image.pieces[label]
    return bounds(levels >= low).moved(box.top, box.left)


def _at_common(map_: NDArray[np.float32], common: Shape, near: Box) -> NDArray[np.float32]:
    """The map at the common size, right inside `near`."""
    if map_.shape == common:
        return map_
    result = np.zeros(common, np.float32)  # untouched pages cost nothing
    result[near.slices] = upsample(map_, common, near)
    return result
