"""What a training size costs: the Dice of a prediction that knows everything the pixels of that size can hold."""

import math

import numpy as np
from numpy.typing import NDArray

from bonepipe.labels.cutout import Box, Cutout, area, inside
from bonepipe.labels.dice import dice
from bonepipe.labels.histogram import HALF
from bonepipe.labels.upsample import spread, upsample

Shape = tuple[int, int]


def ceiling(mask: Cutout, shape: Shape, size: Shape) -> float:
    """The Dice of a perfect prediction of a mask at another size.

    Its probabilities are the shares of the pixels that the mask covers; like any prediction they are upsampled, and
    what reaches 0.5 is the mask. A size at which no side shrinks loses nothing.

    Args:
        mask: at the image's size; an empty one has no ceiling, which is NaN.
        shape: of the image, height and width.
        size: of the image as a model sees it.
    """
    truth = area(mask)
    if not truth:
        return math.nan
    if size[0] >= shape[0] and size[1] >= shape[1]:
        return 1.0
    box, shares = coverage(mask, shape, size)
    low = np.zeros(size, np.float32)
    low[box.slices] = shares
    here = spread(box, size, shape)
    predicted = upsample(low, shape, here) >= HALF
    both = np.count_nonzero(predicted & inside(mask, here))
    return float(dice(both, np.count_nonzero(predicted), truth))


def coverage(mask: Cutout, shape: Shape, size: Shape) -> tuple[Box, NDArray[np.float32]]:
    """The share of each pixel at another size that a mask covers, float32, and the box of pixels that it can cover."""
    box, values = mask.box, mask.mask.astype(np.float32)
    top, down = _shrunk(values, box.top, shape[0], size[0])
    left, both = _shrunk(down.T, box.left, shape[1], size[1])
    shares = both.T
    return Box(top, left, top + shares.shape[0], left + shares.shape[1]), shares


def _shrunk(values: NDArray[np.float32], start: int, full: int, size: int) -> tuple[int, NDArray[np.float32]]:
    """Means of rows `[h, w]`, which start at row `start` of `full` ones, over each of `size` rows that they reach.

    Returns the first of those rows, and `[k, w]`. The mean over a span is the difference of the sums up to its ends.
    """
    step = full / size
    first, last = math.floor(start / step), min(math.ceil((start + len(values)) / step), size)
    ends = (np.arange(first, last + 1) * step - start).clip(0, len(values))
    below = np.minimum(ends.astype(int), len(values) - 1)
    sums = np.zeros((len(values) + 1, values.shape[1]), np.float32)
    np.cumsum(values, axis=0, out=sums[1:])
    at = sums[below] + (ends - below).astype(np.float32)[:, None] * values[below]
    return first, np.diff(at, axis=0) / np.float32(step)
