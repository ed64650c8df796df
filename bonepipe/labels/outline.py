"""The masks of probability maps at the image's size as segments of its rows, computed along their outlines alone.

Between four neighbouring values of a map lies a cell: the pixels that bilinear interpolation draws from just these.
Where all four reach a threshold all pixels of the cell do, where none does none (see `labels.axis`), so that only the
cells on outlines are interpolated. All classes go together, in few operations on long vectors: NumPy lets other threads
have the interpreter during each, and to get it back after a short one takes longer than the work.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bonepipe.labels.axis import Cells, cells
from bonepipe.labels.cutout import Cutout
from bonepipe.labels.dice import dice
from bonepipe.labels.histogram import HALF
from bonepipe.labels.rle import Runs

Shape = tuple[int, int]
Maps = NDArray[np.float32]
Numbers = NDArray[np.int64]
PIXELS = 1 << 25  # in the lines of cells that are looked at together: a few hundred MB where all are on outlines


class Segments(NamedTuple):
    """The masks of an image's classes, row by row: `[S]` each, in the order of classes, rows and columns.

    Attributes:
        label: number of the class.
        row: of the image.
        start: first column inside.
        stop: the column after the last one inside.
    """

    label: Numbers
    row: Numbers
    start: Numbers
    stop: Numbers


def segments(maps: Maps, thresholds: Sequence[float], shape: Shape) -> Segments:
    """Where maps `[C, h, w]`, upsampled to a shape, are at or above a threshold a class: the bits of the full frame."""
    height, width = maps.shape[1:]
    rows, columns = cells(height, shape[0]), cells(width, shape[1])
    limits = np.asarray(thresholds, np.float32)
    above = maps >= limits[:, None, None]
    used = np.zeros((len(maps), height + 2), np.bool_)
    above.any(axis=2, out=used[:, 1:-1])
    lines = np.stack(np.nonzero(used[:, :-1] | used[:, 1:]))
    step = max(1, PIXELS // (rows.most * columns.most * (width + 1)))
    parts = [np.zeros(0, np.int64)]
    for start in range(0, lines.shape[1], step):
        whole, outline = _divided(above, lines[:, start : start + step], columns)
        inside = _pixels(maps, outline, rows, columns) >= limits[outline.label]
        parts.append(_changes(inside, whole, outline, rows, columns, shape))
    place, column = np.divmod(np.concatenate(parts), shape[1] + 1)
    label, row = np.divmod(place[::2], shape[0])
    return Segments(label, row, column[::2], column[1::2])


def runs(masks: Segments, classes: int, shape: Shape) -> list[Runs]:
    """The runs of each class's mask, see `rle.mask_runs`."""
    start, stop = (masks.row * shape[1] + ends for ends in (masks.start, masks.stop))
    new = np.ones(len(start) + 1, np.bool_)  # a run that reaches the end of a row may go on in the next one
    new[1:-1] = (start[1:] != stop[:-1]) | (masks.label[1:] != masks.label[:-1])
    first, last = np.flatnonzero(new[:-1]), np.flatnonzero(new[1:])
    result = np.stack([start[first] + 1, stop[last] - start[first]], 1)
    return np.split(result, np.searchsorted(masks.label[first], np.arange(1, classes)))


def dice_at_half(maps: Maps, truth: Sequence[Cutout], shape: Shape) -> NDArray[np.float64]:
    """Dice `[C]` of the masks of maps `[C, h, w]` at threshold 0.5, without making the masks."""
    if len(maps) != len(truth):
        raise ValueError(f"{len(maps)} maps, but {len(truth)} true masks")
    masks = segments(maps, [HALF] * len(maps), shape)
    predicted = np.bincount(masks.label, masks.stop - masks.start, len(maps)).astype(np.int64)
    overlap, true = _overlap(masks, truth)
    return np.asarray(dice(overlap, predicted, true), np.float64)


def _overlap(masks: Segments, truth: Sequence[Cutout]) -> tuple[Numbers, Numbers]:
    """Pixels `[C]` that segments share with true masks, and those of the true masks."""
    top, left, bottom, right = np.array([mask.box for mask in truth]).T
    ends = np.cumsum((bottom - top) * (right - left))  # of each box among the pixels of all
    origins = ends - (bottom - top) * (right - left)
    near = np.flatnonzero((masks.row >= top[masks.label]) & (masks.row < bottom[masks.label]))
    label, row, start, stop = (part[near] for part in masks)
    first, last = left[label], right[label]
    columns = np.stack([start, stop]).clip(first, last) + (row - top[label]) * (last - first) - first
    places = np.concatenate([columns + origins[label], [origins, ends]], axis=1)
    before = _set_before(np.concatenate([mask.mask.ravel() for mask in truth]), places)
    shared, areas = np.split(before[1] - before[0], [len(label)])
    return np.bincount(label, shared, len(truth)).astype(np.int64), areas


def _set_before(pixels: NDArray[np.bool_], places: Numbers) -> Numbers:
    """How many pixels of a line `[P]` are set before each of some places."""
    changed = np.zeros(len(pixels) + 1, np.bool_)
    if len(pixels):
        changed[0], changed[-1] = pixels[0], pixels[-1]
        np.not_equal(pixels[1:], pixels[:-1], out=changed[1:-1])
    edges = np.flatnonzero(changed)
    ends_less_starts = np.zeros(len(edges) + 1, np.int64)
    ends_less_starts[1::2], ends_less_starts[2::2] = -edges[::2], edges[1::2]
    np.cumsum(ends_less_starts, out=ends_less_starts)
    index = np.searchsorted(edges, places, "right")  # odd within a run, which counts up to the place
    return np.asarray(ends_less_starts[index] + (index & 1) * places, np.int64)


class _Outline(NamedTuple):
    """Cells that are interpolated, `[N]` each, in the order of classes, rows and columns.

    Attributes:
        label: number of the class.
        row, column: of the cell.
        line: which of the lines of cells that are looked at.
        slot: which of the line's cells that have pixels.
    """

    label: Numbers
    row: Numbers
    column: Numbers
    line: Numbers
    slot: Numbers


def _divided(above: NDArray[np.bool_], lines: Numbers, columns: Cells) -> tuple[NDArray[np.bool_], _Outline]:
    """Which cells of lines, class and row `[2, R]`, lie inside `[R, 1 + K + 1]`, and those on outlines.

    Cells at the image's borders count as on outlines: beyond them nothing is inside. Where a map is reduced so do all
    cells, as some have no pixel, and neighbours that are left share no corner.
    """
    label, row = lines
    upper, lower = above[label, np.maximum(row - 1, 0)], above[label, np.minimum(row, above.shape[1] - 1)]
    pairs = upper.view(np.uint8) + lower.view(np.uint8)
    corners = np.empty((len(pairs), pairs.shape[1] + 1), np.uint8)
    np.add(pairs[:, :-1], pairs[:, 1:], out=corners[:, 1:-1])
    corners[:, [0, -1]] = 2 * pairs[:, [0, -1]]
    kept = np.flatnonzero(columns.counts)
    whole = np.zeros((len(pairs), len(kept) + 2), np.bool_)
    if len(kept) == corners.shape[1]:
        np.equal(corners[:, 1:-1], 4, out=whole[:, 2:-2])
    else:
        corners = corners[:, kept]
    line, slot = np.divmod(np.flatnonzero((corners > 0) > whole[:, 1:-1]), len(kept))
    return whole, _Outline(label[line], row[line], kept[slot], line, slot)


def _pixels(maps: Maps, outline: _Outline, rows: Cells, columns: Cells) -> NDArray[np.float32]:
    """The pixels `[K, L, N]` of cells: of what `labels.upsample` computes, the very bits."""
    label, row, column = outline[:3]
    vertical = np.stack([row - 1, row]).clip(0, maps.shape[1] - 1)
    horizontal = np.stack([column - 1, column]).clip(0, maps.shape[2] - 1)
    upper, lower = maps[label, vertical[:, None], horizontal]  # [2, N] each, left and right
    lower -= upper
    sides = lower * rows.weights.take(row, axis=1)[:, None]
    sides += upper
    left, across = sides[:, 0], sides[:, 1]
    across -= left
    result = across[:, None] * columns.weights.take(column, axis=1)
    result += left[:, None]
    return np.asarray(result, np.float32)


def _changes(
    inside: NDArray[np.bool_], whole: NDArray[np.bool_], outline: _Outline, rows: Cells, columns: Cells, shape: Shape
) -> Numbers:
    """Where masks begin and end in turn, int64 `[2 S]`: (class * H + row) * (W + 1) + column, sorted.

    Args:
        inside: which pixels `[K, L, N]` of the cells on outlines are.
        whole: which cells of the lines are.
    """
    (height, width, cells_there), counts = inside.shape, columns.counts[outline.column]
    last = inside.reshape(height, -1).take((counts - 1) * cells_there + np.arange(cells_there), axis=1)
    follows = np.zeros(cells_there + 1, np.bool_)  # whether the cell before is another on an outline
    follows[1:-1] = (np.diff(outline.slot) == 1) & (np.diff(outline.line) == 0)
    before = np.empty(last.shape, np.bool_)
    before[:] = whole[outline.line, outline.slot]
    np.copyto(before[:, 1:], last[:, :-1], where=follows[1:-1])
    changed = np.empty((height, width + 1, cells_there), np.bool_)
    np.not_equal(inside[:, 0], before, out=changed[:, 0])
    np.not_equal(inside[:, 1:], inside[:, :-1], out=changed[:, 1:-1])
    changed[:, 1:-1] &= np.arange(1, width)[:, None] < counts
    np.not_equal(last, whole[outline.line, outline.slot + 2], out=changed[:, -1])
    changed[:, -1] &= ~follows[1:]  # the next cell says so
    changed &= rows.there.take(outline.row, axis=1)[:, None]
    place, cell = np.divmod(np.flatnonzero(changed), cells_there)
    down, across = np.divmod(place, width + 1)
    row = _first(rows)[outline.row[cell]] + down
    column = _first(columns)[outline.column[cell]] + np.minimum(across, counts[cell])
    result = (outline.label[cell] * shape[0] + row) * (shape[1] + 1) + column
    result.sort(kind="stable")  # it merges what lies there in order already
    return result


def _first(axis: Cells) -> Numbers:
    """The first pixel of each cell."""
    return np.asarray(np.cumsum(axis.counts) - axis.counts)
