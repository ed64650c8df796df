"""U-Net's pixel weights: pixels between two objects that nearly touch count more (Ronneberger 2015, equation 2)."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from bonepipe.labels.bitplane import Planes
from bonepipe.labels.cutout import Box
from bonepipe.labels.distance import distance_to_zero

REACH = 6  # deviations; beyond, exp(-6 ** 2 / 2) = 1.5e-8 is less than single precision can add to 1


def weight_map(planes: Planes, classes: int, weight: float, sigma: float) -> NDArray[np.float32]:
    """Weights `1 + weight * exp(-(d1 + d2)^2 / (2 sigma^2))` float32 `[h, w]` of planes uint8 `[h, w, P]`.

    d1 and d2 are the distances in pixels to the nearest and the second nearest object: 0 inside an object, so a pixel
    that two objects share has the largest weight. All that is labelled with one class is one object. The paper's
    class balance is 1 everywhere, since Dice-like terms and focal loss see to that.

    Each object's distances are computed only where they can matter, in its box and a margin around it.

    Args:
        planes: labels; classes: their number.
        weight: w0 of the paper, what is added where two objects touch.
        sigma: width of the rise, pixels.
    """
    shape = planes.shape[:2]
    nearest = np.full(shape, np.inf, np.float32)
    second = np.full(shape, np.inf, np.float32)
    for box, outside in _objects(planes, classes, int(np.ceil(REACH * sigma))):
        distance = distance_to_zero(outside)
        first, next_ = nearest[box.slices], second[box.slices]
        np.minimum(next_, np.maximum(first, distance), out=next_)
        np.minimum(first, distance, out=first)
    return (1 + weight * np.exp(-((nearest + second) ** 2) / (2 * sigma**2))).astype(np.float32)


def _objects(planes: Planes, classes: int, margin: int) -> Iterator[tuple[Box, NDArray[np.uint8]]]:
    """Each class that occurs: its box with a margin, clipped, and there uint8 `[h, w]`, 0 inside the class."""
    rows, columns = _bits_by_row(planes), _bits_by_row(planes.swapaxes(0, 1))
    frame = Box(0, 0, *planes.shape[:2])
    for label in range(classes):
        plane, bit = label // 8, 1 << label % 8
        inside_rows, inside_columns = (np.flatnonzero(bits[:, plane] & bit) for bits in (rows, columns))
        if not len(inside_rows):
            continue
        (top, bottom), (left, right) = inside_rows[[0, -1]].tolist(), inside_columns[[0, -1]].tolist()
        box = Box(top - margin, left - margin, bottom + 1 + margin, right + 1 + margin).overlap(frame)
        assert box is not None
        yield box, ((planes[(*box.slices, plane)] & bit) == 0).astype(np.uint8)


def _bits_by_row(planes: Planes) -> NDArray[np.uint8]:
    """The bits that occur in each row, uint8 `[h, P]`; halving the width is many times faster than NumPy's reduce."""
    while (width := planes.shape[1]) > 1:
        half = (width + 1) // 2
        planes = planes[:, :half] | planes[:, width - half :]
    return planes[:, 0]
