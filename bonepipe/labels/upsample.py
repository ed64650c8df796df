"""From probabilities at model resolution to masks at the image's size, touching only what can matter.

Bilinear, pixel centres aligned (`align_corners=False`): every value of the large image is a mean of at most four
neighbours, so it cannot reach a threshold that none of the four reaches. Outside the box of output pixels with such a
neighbour nothing has to be computed. All values are computed element by element, so that a box holds the very bits
that the full frame would hold there.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bonepipe.labels import histogram as histograms
from bonepipe.labels.axis import axis, cells
from bonepipe.labels.cells import level_counts
from bonepipe.labels.counts import byte_counts
from bonepipe.labels.cutout import Box, Cutout, area, bounds, empty, inside, intersection_area
from bonepipe.labels.dice import dice

Shape = tuple[int, int]
BAND = 1 << 17  # pixels at a time: they stay in a core's cache until they are compared or counted
CHANNELS = 64  # that cv2.merge is given at the most


def reach(probability: NDArray[np.float32], threshold: float, shape: Shape) -> Box | None:
    """The box of pixels at `shape` where the upsampled map `[h, w]` might reach a threshold; None where nowhere."""
    reached = bounds(probability >= np.float32(threshold))
    return spread(reached, (probability.shape[0], probability.shape[1]), shape) if reached.height else None


def spread(box: Box, low: Shape, high: Shape) -> Box:
    """The box of output pixels at `high` that draw on any input pixel of a box at `low`; empty where none does."""
    if not (box.height and box.width):
        return Box(0, 0, 0, 0)
    top, bottom = _span(box.top, box.bottom - 1, low[0], high[0])
    left, right = _span(box.left, box.right - 1, low[1], high[1])
    return Box(top, left, bottom, right)


def sources(box: Box, low: Shape, high: Shape) -> Box:
    """The box of input pixels at `low` that the output pixels of a box, not empty, at `high` draw on."""
    (row, next_row, _), (column, next_column, _) = axis(low[0], high[0]), axis(low[1], high[1])
    last = int(next_row[box.bottom - 1]), int(next_column[box.right - 1])
    return Box(int(row[box.top]), int(column[box.left]), last[0] + 1, last[1] + 1)


def _span(first: int, last: int, low: int, high: int) -> tuple[int, int]:
    """The output positions (half open) that draw on any input position first..last."""
    nearer, farther, _ = axis(low, high)
    return int(np.searchsorted(farther, first, "left")), int(np.searchsorted(nearer, last, "right"))


def upsample(probability: NDArray[np.float32], shape: Shape, box: Box | None = None) -> NDArray[np.float32]:
    """Bilinear interpolation of a map `[h, w]` to `shape`, or to the part of it inside a box."""
    box = box or Box(0, 0, *shape)
    result = np.empty((box.height, box.width), np.float32)
    for rows, values in bands(probability, shape, box):
        result[rows] = values
    return result


def bands(probability: NDArray[np.float32], shape: Shape, box: Box) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """The part of the upsampled map inside a box, some rows at a time, with where in the box these are.

    The values are the caller's until the next are asked for.
    """
    if not box.height or not box.width:
        return
    row, next_row, weight = (part[box.top : box.bottom] for part in axis(probability.shape[0], shape[0]))
    columns = cells(probability.shape[1], shape[1])
    slots = columns.slots[box.left : box.right]
    first, last = int(slots[0]) // columns.most, int(slots[-1]) // columns.most + 1
    near = np.arange(first - 1, last).clip(0, probability.shape[1] - 1)
    crop = probability[row[0] : next_row[-1] + 1].take(near, axis=1)  # row by row in memory, as an index would not be
    spread_columns = _Columns(columns.weights[:, first:last], slots - columns.most * first, box.height)
    for top in range(0, box.height, spread_columns.height):
        here = slice(top, top + spread_columns.height)
        upper, lower = crop[row[here] - row[0]], crop[next_row[here] - row[0]]
        lower -= upper
        lower *= weight[here, None]
        upper += lower
        yield here, spread_columns(upper)


class _Columns:
    """Interpolation along rows, in memory of its own: fresh memory would cost more than the arithmetic.

    Args:
        weights: of each place in each cell, float32 `[K, w]`.
        slots: of each pixel of a row, K * cell + place.
        rows: that there are.
    """

    def __init__(self, weights: NDArray[np.float32], slots: NDArray[np.intp], rows: int) -> None:
        places, width = weights.shape
        self.height = max(1, min(BAND // len(slots), rows))
        self.weights, self.across = weights, np.empty((self.height, width), np.float32)
        self.places = np.empty((places, self.height, width), np.float32)
        self.merged = np.empty((self.height, width, places), np.float32)
        contiguous = slots[-1] - slots[0] == len(slots) - 1
        self.taken: Any = slice(slots[0], slots[-1] + 1) if contiguous else slots

    def __call__(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The pixels of rows `[h, W]` from values `[h, w + 1]`, `here + weight * (there - here)`."""
        height, here = len(values), values[:, :-1]
        across, places, merged = self.across[:height], self.places[:, :height], self.merged[:height]
        np.subtract(values[:, 1:], here, out=across)
        for place, weight in zip(places, self.weights, strict=True):
            np.multiply(across, weight, out=place)
            np.add(place, here, out=place)
        if 1 < len(places) <= CHANNELS:  # with vector instructions; NumPy would take ten times as long
            cv2.merge(list(places), dst=merged)
        else:
            merged[:] = np.moveaxis(places, 0, -1)
        return merged.reshape(height, -1)[:, self.taken]


def cutout(probability: NDArray[np.float32], threshold: float, shape: Shape) -> Cutout:
    """The mask at `shape` where the upsampled map `[h, w]` is at or above a threshold."""
    box = reach(probability, threshold, shape)
    if box is None:
        return empty()
    mask = np.empty((box.height, box.width), np.bool_)
    for rows, values in bands(probability, shape, box):
        np.greater_equal(values, np.float32(threshold), out=mask[rows])
    return Cutout(box, mask)


def cutouts(probabilities: NDArray[np.float32], thresholds: Sequence[float], shape: Shape) -> list[Cutout]:
    """One mask a class from maps `[C, h, w]` and a threshold a class."""
    return [cutout(map_, threshold, shape) for map_, threshold in zip(probabilities, thresholds, strict=True)]


def histogram(probability: NDArray[np.float32], truth: Cutout, shape: Shape) -> NDArray[np.int64]:
    """Counts int64 `[2, 256]` of the upsampled map's values over background and foreground, all pixels at `shape`.

    Those below `histogram.FLOOR` are together in bin 0.
    """
    counted = level_counts(probability, histograms.FLOOR, shape)
    foreground = _foreground(probability, truth, shape)
    return histograms.completed(counted, foreground, shape[0] * shape[1], area(truth))


def _foreground(probability: NDArray[np.float32], truth: Cutout, shape: Shape) -> NDArray[np.int64]:
    """Count int64 [256] the true pixels of an upsampled map from `histogram.FLOOR` on, and some of those below."""
    counts = np.zeros(histograms.BINS, np.int64)
    near = reach(probability, histograms.FLOOR, shape)
    box = near and near.overlap(truth.box)
    if box is not None:
        true = inside(truth, box)
        for rows, values in bands(probability, shape, box):
            counts += byte_counts(histograms.levels(values), mask=true[rows])
    return counts


def count(values: NDArray[np.float32], box: Box, truth: Cutout, shape: Shape) -> NDArray[np.int64]:
    """The same of a map at `shape`, from its values inside a box; it is below the floor outside."""
    levels = histograms.levels(values)
    foreground = byte_counts(levels, mask=inside(truth, box))
    return histograms.completed(byte_counts(levels), foreground, shape[0] * shape[1], area(truth))


def dice_scores(predicted: Sequence[Cutout], truth: Sequence[Cutout]) -> NDArray[np.float64]:
    """Dice `[C]` of an image's masks, one a class."""
    pairs = list(zip(predicted, truth, strict=True))
    return np.array([dice(intersection_area(a, b), area(a), area(b)) for a, b in pairs], np.float64)
