"""Counting the pixels of an upsampled map by probability, without making the map.

Between four neighbouring values of a map lies a cell: the pixels that bilinear interpolation draws from just these.
Pixels of the same place in their cells have the same weights, and to count them their order does not matter. So the
cells that might reach a threshold are gathered once, and all pixels of one place are computed in a few operations on
vectors: the operations of `labels.upsample`, and so the very same bits.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bonepipe.labels.axis import Cells, cells
from bonepipe.labels.counts import byte_counts
from bonepipe.labels.cutout import bounds
from bonepipe.labels.histogram import BINS

Shape = tuple[int, int]
Values = NDArray[np.float32]
CHUNK = 1 << 15  # cells at a time: their vectors stay in a core's cache
PIXELS = 1 << 20  # of these cells, at the most
DENSE = 0.3  # share of a strip's cells from which on it is cheaper to compute all than to gather some


class Places(NamedTuple):
    """The places of pixels in their cells along one axis.

    Attributes:
        weights: of each place, a number or one a cell.
        there: of each place, 1 for the cells that have it and 0 for others; None where all do.
    """

    weights: Sequence[Any]
    there: Sequence[Values] | None


class Piece(NamedTuple):
    """Some cells: their corners, float32 of any shape, and the places of their pixels."""

    corners: tuple[Values, Values, Values, Values]  # upper left, upper right, lower left, lower right
    rows: Places
    columns: Places


def level_counts(probability: Values, threshold: float, shape: Shape) -> NDArray[np.int64]:
    """Count int64 [256] the pixels at `shape` of a map `[h, w]` that are at or above a threshold.

    Args:
        threshold: k / 256. Some pixels below it are counted too, in the bins below k.
    """
    counts = np.zeros(BINS, np.int64)
    box = bounds(probability >= threshold)
    if not box.height:
        return counts
    (top, left, bottom, right), (height, width) = box, probability.shape
    near = probability.take(np.arange(top - 1, bottom + 1), axis=0, mode="clip")  # with all neighbours, or the border's
    near = near.take(np.arange(left - 1, right + 1), axis=1, mode="clip")
    near *= np.float32(BINS)  # a power of two: no bit is lost
    reached = _any_corner(near >= BINS * threshold)
    rows, columns = cells(height, shape[0]).part(top, bottom + 1), cells(width, shape[1]).part(left, right + 1)
    for piece in _pieces(near, reached, rows, columns):
        counts += _count(piece)
    return counts


def _any_corner(flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which cells `[h, w]` of flags `[h + 1, w + 1]` have a corner that is set."""
    pairs = flags[:-1] | flags[1:]
    return np.asarray(pairs[:, :-1] | pairs[:, 1:])


def _pieces(values: Values, reached: NDArray[np.bool_], rows: Cells, columns: Cells) -> Iterator[Piece]:
    """The reached cells `[h, w]` between values `[h + 1, w + 1]`: alike ones with common weights, then the others."""
    alike, chunk = (rows.alike, columns.alike), max(1, min(CHUNK, PIXELS // (rows.most * columns.most)))
    (top, bottom), (left, right) = ((part.start, part.stop) for part in alike)
    if top < bottom and left < right:
        regular = _common(rows), _common(columns)
        corners_of_pieces = _corners(values[top : bottom + 1, left : right + 1], reached[alike], chunk)
        yield from (Piece(corners, *regular) for corners in corners_of_pieces)
        reached[alike] = False
    down, across = np.nonzero(reached)
    for start in range(0, len(down), chunk):
        row, column = down[start : start + chunk], across[start : start + chunk]
        corners = (values[row, column], values[row, column + 1], values[row + 1, column], values[row + 1, column + 1])
        yield Piece(corners, _own(rows, row), _own(columns, column))


def _corners(values: Values, reached: NDArray[np.bool_], chunk: int) -> Iterator[tuple[Values, Values, Values, Values]]:
    """Corners of the reached cells `[h, w]` between values `[h + 1, w + 1]`, and of some others below the threshold.

    Dense strips are computed whole, and no longer marked as reached; cells elsewhere are gathered.
    """
    height, width = reached.shape
    step = max(1, chunk // max(1, width))
    for top in range(0, height, step):
        strip = reached[top : top + step]
        if np.count_nonzero(strip) > DENSE * strip.size:
            part = values[top : top + step + 1]
            yield part[:-1, :-1], part[:-1, 1:], part[1:, :-1], part[1:, 1:]
            strip[:] = False
    wide = np.zeros((height, width + 1), np.bool_)  # as wide as the values, so that one index serves both
    wide[:, :-1] = reached
    index, flat = np.flatnonzero(wide), values.ravel()
    for start in range(0, len(index), chunk):
        here = index[start : start + chunk]
        yield flat[here], flat[here + 1], flat[here + width + 1], flat[here + width + 2]


def _common(axis: Cells) -> Places:
    """Places of cells that are alike."""
    return Places(axis.weights[:, axis.alike.start].tolist(), None)


def _own(axis: Cells, index: NDArray[np.intp]) -> Places:
    """Places of some cells, each with its own weights."""
    return Places(list(axis.weights[:, index]), list(axis.there[:, index].astype(np.float32)))


def _count(piece: Piece) -> NDArray[np.int64]:
    """Count int64 [256] the pixels of cells by floor of their value; places that a cell lacks count as 0."""
    upper_left, upper_right, lower_left, lower_right = piece.corners
    rows, columns = piece.rows, piece.columns
    down_left, down_right = lower_left - upper_left, lower_right - upper_right
    most, shape = max(float(corner.max()) for corner in piece.corners), upper_left.shape
    levels = np.empty((len(rows.weights), len(columns.weights), *shape), np.uint8)
    value = np.empty(shape, np.float32)
    for row, down in enumerate(rows.weights):
        left, across = upper_left + np.float32(down) * down_left, upper_right + np.float32(down) * down_right
        across -= left
        for column, right in enumerate(columns.weights):
            np.multiply(across, np.float32(right), out=value)
            value += left
            if most >= BINS - 1:
                np.clip(value, 0, BINS - 1, out=value)  # three times as fast as np.minimum
            if rows.there is not None and columns.there is not None:
                value *= rows.there[row] * columns.there[column]
            np.copyto(levels[row, column], value, casting="unsafe")
    return byte_counts(levels.reshape(len(levels), -1))
