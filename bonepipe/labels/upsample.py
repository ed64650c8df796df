"""From probabilities at model resolution to masks at the image's size, touching only what can matter.

Bilinear, pixel centres aligned (`align_corners=False`): every value of the large image is a mean of at most four
neighbours, so it cannot reach a threshold that none of the four reaches. Outside the box of output pixels with such a
neighbour nothing has to be computed. All values are computed element by element, so that a box holds the very bits
that the full frame would hold there.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bonepipe.labels import histogram as histograms
from bonepipe.labels.cutout import Box, Cutout, area, bounds, empty, inside, intersection_area
from bonepipe.labels.dice import dice

Shape = tuple[int, int]
ROUNDING = 1e-6  # a mean of four float32 values below a threshold may round up to it


@lru_cache(maxsize=64)
def _axis(low: int, high: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """For each of `high` output positions: the two input positions and the weight of the second."""
    position = np.clip((np.arange(high) + 0.5) * (low / high) - 0.5, 0, low - 1)
    first = position.astype(np.intp)
    return first, np.minimum(first + 1, low - 1), (position - first).astype(np.float32)


def reach(probability: NDArray[np.float32], threshold: float, shape: Shape) -> Box | None:
    """The box of pixels at `shape` where the upsampled map `[h, w]` might reach a threshold; None where nowhere."""
    reached = bounds(probability >= threshold - ROUNDING)
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
    (row, next_row, _), (column, next_column, _) = _axis(low[0], high[0]), _axis(low[1], high[1])
    last = int(next_row[box.bottom - 1]), int(next_column[box.right - 1])
    return Box(int(row[box.top]), int(column[box.left]), last[0] + 1, last[1] + 1)


def _span(first: int, last: int, low: int, high: int) -> tuple[int, int]:
    """The output positions (half open) that draw on any input position first..last."""
    nearer, farther, _ = _axis(low, high)
    return int(np.searchsorted(farther, first, "left")), int(np.searchsorted(nearer, last, "right"))


def upsample(probability: NDArray[np.float32], shape: Shape, box: Box | None = None) -> NDArray[np.float32]:
    """Bilinear interpolation of a map `[h, w]` to `shape`, or to the part of it inside a box."""
    top, left, bottom, right = box or Box(0, 0, *shape)
    row, next_row, row_weight = (part[top:bottom] for part in _axis(probability.shape[0], shape[0]))
    column, next_column, column_weight = (part[left:right] for part in _axis(probability.shape[1], shape[1]))
    if not row.size or not column.size:
        return np.zeros((row.size, column.size), np.float32)
    start = column[0]
    crop = probability[:, start : next_column[-1] + 1]
    tall = _between(crop[row], crop[next_row], row_weight[:, None])
    return _between(tall[:, column - start], tall[:, next_column - start], column_weight)


def _between(here: NDArray[np.float32], there: NDArray[np.float32], weight: Any) -> NDArray[np.float32]:
    """`here + weight * (there - here)`, written into both: fresh memory would cost more than the arithmetic."""
    there -= here
    there *= weight
    here += there
    return here


def cutout(probability: NDArray[np.float32], threshold: float, shape: Shape) -> Cutout:
    """The mask at `shape` where the upsampled map `[h, w]` is at or above a threshold."""
    box = reach(probability, threshold, shape)
    return empty() if box is None else Cutout(box, upsample(probability, shape, box) >= np.float32(threshold))


def cutouts(probabilities: NDArray[np.float32], thresholds: Sequence[float], shape: Shape) -> list[Cutout]:
    """One mask a class from maps `[C, h, w]` and a threshold a class."""
    return [cutout(map_, threshold, shape) for map_, threshold in zip(probabilities, thresholds, strict=True)]


def histogram(probability: NDArray[np.float32], truth: Cutout, shape: Shape) -> NDArray[np.int64]:
    """Counts int64 `[2, 256]` of the upsampled map's values over background and foreground, all pixels at `shape`."""
    box = reach(probability, 1 / 256, shape) or Box(0, 0, 0, 0)
    return count(upsample(probability, shape, box), box, truth, shape)


def count(values: NDArray[np.float32], box: Box, truth: Cutout, shape: Shape) -> NDArray[np.int64]:
    """Counts int64 `[2, 256]` of a map at `shape`, from its values inside a box; it is below 1 / 256 outside."""
    covered = inside(truth, box)
    foreground = area(truth) - int(covered.sum())
    background = shape[0] * shape[1] - covered.size - foreground
    return histograms.add_outside(histograms.histogram(values, covered), background, foreground)


def dice_scores(predicted: Sequence[Cutout], truth: Sequence[Cutout]) -> NDArray[np.float64]:
    """Dice `[C]` of an image's masks, one a class."""
    pairs = list(zip(predicted, truth, strict=True))
    return np.array([dice(intersection_area(a, b), area(a), area(b)) for a, b in pairs], np.float64)
