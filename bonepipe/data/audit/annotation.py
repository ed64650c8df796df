"""An annotation file against its image and the classes."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bonepipe.data.annotation import Polygon, read_with_faults
from bonepipe.data.audit.finding import Finding, from_error
from bonepipe.data.limits import DEFAULTS, Limits
from bonepipe.errors import BonepipeError

OPEN_STEPS, OPEN_SHARE = 3.0, 0.2  # an outline is open whose gap is so many times its longest step, and its length
NEAR_BORDER = 0.02  # of the image's width or height


def check_annotation(
    path: Path,
    classes: Sequence[str],
    shape: tuple[int, int] | None,
    expected: Sequence[str] | None = None,
    limits: Limits = DEFAULTS,
) -> Iterator[Finding]:
    """Check one annotation file.

    Args:
        shape: its image's height and width in pixels, where that could be decoded.
        expected: classes that should occur; None for all.
        limits: of its size.
    """
    try:
        polygons, faults = read_with_faults(path, classes, limits)
    except BonepipeError as error:
        yield from_error(error, path, "unreadable annotation")
        return
    for field, message in faults:
        yield Finding("error", path, field, message, "bad annotation")
    counts = Counter(label for label, _ in polygons)
    for number, name in enumerate(classes):
        if counts[number] == 0 and not faults and name in (classes if expected is None else expected):
            yield Finding("warning", path, "annotations", f"{name} is missing", "class missing")
        elif counts[number] > 1:
            message = f"{name} occurs {counts[number]} times; its mask is their union"
            yield Finding("warning", path, "annotations", message, "label repeated")
    for polygon in polygons:
        yield from _check_outline(path, polygon, classes, shape)
    yield from _check_frame(path, polygons, shape)


def _check_frame(path: Path, polygons: Sequence[Polygon], shape: tuple[int, int] | None) -> Iterator[Finding]:
    """Outlines drawn on a smaller picture, or in percent, all lie towards the top left."""
    if shape is None or len(polygons) < 3:
        return
    right, bottom = np.concatenate([points for _, points in polygons]).max(0).tolist()
    if 2 * right < shape[1] and 2 * bottom < shape[0]:
        message = (
            f"all outlines end at x = {right}, y = {bottom} of an image of {shape[1]} x {shape[0]} pixels: were they "
            "drawn on a smaller picture, or are they percent?"
        )
        yield Finding("warning", path, "annotations", message, "outlines in the top left quarter")


def _check_outline(
    path: Path, polygon: Polygon, classes: Sequence[str], shape: tuple[int, int] | None
) -> Iterator[Finding]:
    label, points = polygon
    name = classes[label]
    if len(points) < 3:
        yield Finding("warning", path, name, f"an outline of {len(points)} points has no area", "outline without area")
    if shape is None:
        return
    if gap := opening(points, shape):
        message = f"the outline is open: its ends are {gap:.0f} pixels apart and are joined by a straight line"
        yield Finding("warning", path, name, message, "open outline")
    outside = int(((points < 0) | (points >= np.array(shape[::-1]))).any(1).sum())
    if outside:
        message = f"{outside} of {len(points)} points lie outside the image of {shape[1]} x {shape[0]} pixels"
        yield Finding("warning", path, name, message, "points outside the image")


def opening(points: np.ndarray, shape: tuple[int, int]) -> float:
    """How far the ends of an outline `[K, 2]` are apart, pixels; 0 where it goes all the way round.

    What is drawn all round ends near its beginning, compared with its other steps and with its length, or leaves out
    the border of the image.
    """
    ends = points[[0, -1]].astype(float)
    steps = np.hypot(*np.diff(points, axis=0).T)
    gap = float(np.hypot(*(ends[1] - ends[0])))
    if len(points) < 4 or gap <= OPEN_STEPS * steps.max() or gap <= OPEN_SHARE * steps.sum():
        return 0.0
    size = np.array(shape[::-1])
    near = np.concatenate([ends < NEAR_BORDER * size, ends >= (1 - NEAR_BORDER) * size - 1], axis=1)
    return 0.0 if near.any(1).all() else gap
