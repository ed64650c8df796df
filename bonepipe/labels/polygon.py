"""Annotated outlines to labels, with OpenCV's `fillPoly`: the outline's own pixels are inside."""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from bonepipe.labels.bitplane import Planes, plane_count
from bonepipe.labels.cutout import Box, Cutout, empty

Points = NDArray[np.integer]


def rasterise(polygons: Iterable[tuple[int, Points]], shape: tuple[int, int], classes: int) -> Planes:
    """Draw labelled polygons (class, integer points `[K, 2]` as x, y) into planes uint8 `[H, W, P]`.

    Each polygon is filled by itself inside its own box; a repeated class is the union of its polygons. One or two
    points draw a point or a line, none draw nothing. Raises ValueError for an unknown class or points of another shape.
    """
    planes = np.zeros((*shape, plane_count(classes)), np.uint8)
    for label, points in polygons:
        if not 0 <= label < classes:
            raise ValueError(f"class {label} is outside 0..{classes - 1}")
        outline = _as_points(points)
        box = _clipped_box(outline, shape)
        if box is not None:
            planes[(*box.slices, label // 8)] |= _fill([outline], box, 1 << label % 8)
    return planes


def cutout(polygons: Sequence[Points], shape: tuple[int, int]) -> Cutout:
    """Unite one class's polygons (integer points `[K, 2]` as x, y) in the box that holds them all."""
    outlines = [outline for outline in map(_as_points, polygons) if len(outline)]
    if not outlines:
        return empty()
    box = _clipped_box(np.concatenate(outlines), shape)
    return empty() if box is None else Cutout(box, _fill(outlines, box, 1).view(np.bool_))


def cutouts(polygons: Iterable[tuple[int, Points]], shape: tuple[int, int], classes: int) -> list[Cutout]:
    """The mask of every class, in its box, from pairs of class index and outline; see `cutout`."""
    outlines_of: list[list[Points]] = [[] for _ in range(classes)]
    for label, points in polygons:
        outlines_of[label].append(points)
    return [cutout(points, shape) for points in outlines_of]


def outlines(mask: Cutout) -> list[NDArray[np.int32]]:
    """Trace a mask: one polygon (int32 points `[K, 2]` as x, y on its border pixels) a connected part, largest first.

    Filling them gives the mask back, except that a polygon cannot tell of holes: they come back filled.
    """
    canvas = np.ascontiguousarray(mask.mask, np.uint8)
    if not canvas.any():
        return []
    corner = (mask.box.left, mask.box.top)
    contours, _ = cv2.findContours(canvas, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE, offset=corner)
    return [np.asarray(part, np.int32).reshape(-1, 2) for part in sorted(contours, key=cv2.contourArea, reverse=True)]


def holes(mask: Cutout) -> int:
    """Count the holes of a mask, which `outlines` cannot tell of."""
    canvas = np.ascontiguousarray(mask.mask, np.uint8)
    if not canvas.any():
        return 0
    _, tree = cv2.findContours(canvas, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return int(np.count_nonzero(tree[0, :, 3] >= 0))  # a hole has a parent


def _as_points(points: Points) -> NDArray[np.int32]:
    array = np.asarray(points)
    if array.size == 0:
        return np.zeros((0, 2), np.int32)
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(f"a polygon is an array [K, 2] of x, y, not {list(array.shape)}")
    return array.astype(np.int32)


def _clipped_box(points: NDArray[np.int32], shape: tuple[int, int]) -> Box | None:
    """Clip the points' bounding box to the image; None where nothing is left."""
    if not len(points):
        return None
    left, top = points.min(axis=0).tolist()
    right, bottom = points.max(axis=0).tolist()
    return Box(top, left, bottom + 1, right + 1).overlap(Box(0, 0, *shape))


def _fill(outlines: Sequence[NDArray[np.int32]], box: Box, value: int) -> Planes:
    """Fill outlines with `value` in their box `[h, w]`, one by one: together they would cancel by parity."""
    canvas = np.zeros((box.height, box.width), np.uint8)
    for outline in outlines:
        cv2.fillPoly(canvas, [outline - np.array([box.left, box.top], np.int32)], value)
    return canvas
