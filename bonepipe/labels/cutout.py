"""A mask stored only inside its bounding box: a bone's box is about 1% of its radiograph."""

from typing import NamedTuple

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

    def overlap(self, other: "Box") -> "Box | None":
        """Return the box that both share, or None."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        bottom, right = min(self.bottom, other.bottom), min(self.right, other.right)
        return Box(top, left, bottom, right) if top < bottom and left < right else None


class Cutout(NamedTuple):
    """A mask bool `[box.height, box.width]`; everything outside the box is background."""

    box: Box
    mask: NDArray[np.bool_]


def empty() -> Cutout:
    """Make a cutout without pixels."""
    return Cutout(Box(0, 0, 0, 0), np.zeros((0, 0), np.bool_))


def from_mask(mask: NDArray[np.bool_]) -> Cutout:
    """Cut a mask `[H, W]` to its smallest box; the pixels are a copy."""
    mask = np.asarray(mask, np.bool_)
    rows = np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        return empty()
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(mask[top:bottom].any(axis=0))
    box = Box(top, int(columns[0]), bottom, int(columns[-1]) + 1)
    return Cutout(box, mask[box.slices].copy())


def from_runs(found: rle.Runs, width: int) -> Cutout:
    """Draw the runs of an image `width` pixels wide inside their smallest box; the inverse of `runs`."""
    if not len(found):
        return empty()
    (top, start_column), (bottom, end_column) = (
        np.divmod(found[:, 0] - 1, width),
        np.divmod(found[:, 0] + found[:, 1] - 2, width),
    )
    if (top != bottom).any():  # a run that goes on in the next row: the box is as wide as the image
        box = Box(int(top[0]), 0, int(bottom[-1]) + 1, width)
    else:
        box = Box(int(top[0]), int(start_column.min()), int(bottom[-1]) + 1, int(end_column.max()) + 1)
    steps = np.zeros(box.height * box.width + 1, np.int8)
    steps[(top - box.top) * box.width + start_column - box.left] = 1
    steps[(bottom - box.top) * box.width + end_column - box.left + 1] -= 1  # where runs touch, the steps cancel
    drawn = Cutout(box, np.cumsum(steps[:-1], dtype=np.int8).view(np.bool_).reshape(box.height, box.width))
    return _tightened(drawn) if (top != bottom).any() else drawn


def _tightened(loose: Cutout) -> Cutout:
    box, mask = from_mask(loose.mask)
    top, left = loose.box.top, loose.box.left
    return Cutout(Box(box.top + top, box.left + left, box.bottom + top, box.right + left), mask)


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


def runs(cutout: Cutout, width: int) -> rle.Runs:
    """Find the runs int64 `[R, 2]` of the whole image, `width` pixels wide, as encoding the whole mask would."""
    box = cutout.box
    if box.right > width:
        raise ValueError(f"{box} does not lie inside an image {width} pixels wide")
    if box.width == width:  # rows follow one another: a run may go on in the next row
        found = rle.mask_runs(cutout.mask)
        found[:, 0] += box.top * width
        return found
    # A column of background between the rows keeps runs from crossing them.
    padded = np.zeros((box.height, box.width + 1), np.bool_)
    padded[:, :-1] = cutout.mask
    found = rle.mask_runs(padded)
    row, column = np.divmod(found[:, 0] - 1, box.width + 1)
    found[:, 0] = (row + box.top) * width + column + box.left + 1
    return found


def _window(cutout: Cutout, box: Box) -> NDArray[np.bool_]:
    top, left = cutout.box.top, cutout.box.left
    return cutout.mask[box.top - top : box.bottom - top, box.left - left : box.right - left]
