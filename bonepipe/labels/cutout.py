"""A mask stored only inside its bounding box: a bone's box is about 1% of its radiograph."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bonepipe.labels import rle


class Box(NamedTuple):
    """Rows top..bottom - 1 and columns left..right - 1, in pixels."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Rows, pixels."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns, pixels."""
        return self.right - self.left

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the box in an array `[H, W, ...]`."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def moved(self, down: int, right: int) -> "Box":
        """Return the box so many pixels further down and to the right."""
        return Box(self.top + down, self.left + right, self.bottom + down, self.right + right)

    def overlap(self, other: "Box") -> "Box | None":
        """Return the box that both share, or None."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        bottom, right = min(self.bottom, other.bottom), min(self.right, other.right)
        return Box(top, left, bottom, right) if top < bottom and left < right else None


class Cutout(NamedTuple):
    """A mask bool `[box.height, box.width]`; everything outside the box is background."""

    box: Box
    mask: NDArray[np.bool_]


def hull(boxes: Iterable[Box]) -> Box:
    """The smallest box that holds the pixels of all of these; without any, an empty one."""
    filled = [box for box in boxes if box.height and box.width]
    if not filled:
        return Box(0, 0, 0, 0)
    tops, lefts, bottoms, rights = zip(*filled, strict=True)
    return Box(min(tops), min(lefts), max(bottoms), max(rights))


def bounds(values: NDArray[Any]) -> Box:
    """The smallest box that holds all of `[H, W]` that is not 0; an empty one where there is nothing."""
    rows = np.flatnonzero(values.any(axis=1))
    if not rows.size:
        return Box(0, 0, 0, 0)
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(values[top:bottom].any(axis=0))
    return Box(top, int(columns[0]), bottom, int(columns[-1]) + 1)


def empty() -> Cutout:
    """Make a cutout without pixels."""
    return Cutout(Box(0, 0, 0, 0), np.zeros((0, 0), np.bool_))


def from_mask(mask: NDArray[np.bool_]) -> Cutout:
    """Cut a mask `[H, W]` to its smallest box; the pixels are a copy."""
    mask = np.asarray(mask, np.bool_)
    box = bounds(mask)
    return Cutout(box, mask[box.slices].copy())


def from_runs(runs: rle.Runs, shape: tuple[int, int]) -> Cutout:
    """Draw runs `[R, 2]` of an image `[H, W]` inside their smallest box; ValueError for runs that do not fit."""
    rle.check(runs, shape[0] * shape[1])
    if not len(runs):
        return empty()
    rows, columns = np.divmod(runs[:, 0] - 1, shape[1])
    last_rows, last_columns = np.divmod(runs.sum(axis=1) - 2, shape[1])
    whole = bool((last_rows > rows).any())  # a run that goes on in the next row holds pixels of both borders
    left, right = (0, shape[1]) if whole else (int(columns.min()), int(last_columns.max()) + 1)
    box = Box(int(rows[0]), left, int(last_rows[-1]) + 1, right)
    inside = runs.copy()
    inside[:, 0] = (rows - box.top) * box.width + columns - left + 1
    return Cutout(box, rle.decode(inside, (box.height, box.width)))


def to_mask(cutout: Cutout, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Rebuild the whole mask bool `[H, W]`; raises ValueError where the box does not fit `shape`."""
    box = cutout.box
    if min(box) < 0 or box.bottom > shape[0] or box.right > shape[1]:
        raise ValueError(f"{box} does not lie inside an image of {shape[0]} x {shape[1]} pixels")
    mask = np.zeros(shape, np.bool_)
    mask[box.slices] = cutout.mask
    return mask


def area(cutout: Cutout) -> int:
    """Count the pixels inside."""
    return int(np.count_nonzero(cutout.mask))


def intersection_area(a: Cutout, b: Cutout) -> int:
    """Count the pixels inside both; only the overlap of the boxes is touched."""
    shared = a.box.overlap(b.box)
    if shared is None:
        return 0
    return int(np.count_nonzero(_window(a, shared) & _window(b, shared)))


def inside(cutout: Cutout, box: Box) -> NDArray[np.bool_]:
    """The mask bool `[box.height, box.width]` as it is in any box."""
    mask = np.zeros((box.height, box.width), np.bool_)
    if shared := cutout.box.overlap(box):
        mask[shared.moved(-box.top, -box.left).slices] = _window(cutout, shared)
    return mask


def cropped(cutout: Cutout, box: Box) -> Cutout:
    """The part of a mask inside a box, as a mask of the box's own pixels."""
    shared = cutout.box.overlap(box)
    return empty() if shared is None else Cutout(shared.moved(-box.top, -box.left), _window(cutout, shared))


def runs(cutout: Cutout, width: int) -> rle.Runs:
    """Find the runs int64 `[R, 2]` of the whole image, `width` pixels wide, as encoding the whole mask would."""
    box = cutout.box
    if box.right > width:
        raise ValueError(f"{box} does not lie inside an image {width} pixels wide")
    if box.width == width:  # rows follow one another: a run may go on in the next row
        result = rle.mask_runs(cutout.mask)
        result[:, 0] += box.top * width
        return result
    # A column of background between the rows keeps runs from crossing them.
    padded = np.zeros((box.height, box.width + 1), np.bool_)
    padded[:, :-1] = cutout.mask
    result = rle.mask_runs(padded)
    row, column = np.divmod(result[:, 0] - 1, box.width + 1)
    result[:, 0] = (row + box.top) * width + column + box.left + 1
    return result


def _window(cutout: Cutout, box: Box) -> NDArray[np.bool_]:
    return cutout.mask[box.moved(-cutout.box.top, -cutout.box.left).slices]
