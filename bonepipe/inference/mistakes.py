"""What is wrong with predicted masks, beyond their Dice: how far outlines are off, and which classes are exchanged."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bonepipe.labels import cutout
from bonepipe.labels.cutout import Box, Cutout, hull, inside
from bonepipe.labels.distance import FAR, boundary_distances


@dataclass(frozen=True)
class Mistakes:
    """Of an image's masks, or of several images' (N in front).

    Attributes:
        distance: mean distance of the outlines, pixels, `[C]`; NaN where one of the masks is empty.
        far: its 95th percentile, pixels, `[C]`.
        taken: `[C, C]`, share of a class's true pixels that were missed and given to another class that is not there.
        spacing: millimetres of a pixel; NaN where that is not known.
    """

    distance: NDArray[np.float64]
    far: NDArray[np.float64]
    taken: NDArray[np.float64]
    spacing: NDArray[np.float64]

    @classmethod
    def stacked(cls, rows: Sequence["Mistakes"]) -> "Mistakes":
        """Those of at least one image together."""
        return cls(*(np.stack([getattr(row, name) for row in rows]) for name in cls.__dataclass_fields__))


def mistakes(truth: Sequence[Cutout], predicted: Sequence[Cutout], spacing: float = float("nan")) -> Mistakes:
    """Compare an image's masks, one a class."""
    apart = [boundary_distances(*pair) for pair in zip(truth, predicted, strict=True)]
    mean = [row.mean() if row.size else np.nan for row in apart]
    far = [np.percentile(row, FAR) if row.size else np.nan for row in apart]
    return Mistakes(np.array(mean, float), np.array(far, float), taken(truth, predicted), np.array(spacing))


def taken(truth: Sequence[Cutout], predicted: Sequence[Cutout]) -> NDArray[np.float64]:
    """Share of the pixels of class a (rows) that were missed and wrongly given to class b (columns), `[C, C]`."""
    count = len(truth)
    missed = [_less(*pair) for pair in zip(truth, predicted, strict=True)]
    wrong = [_less(*pair) for pair in zip(predicted, truth, strict=True)]
    shares = np.zeros((count, count))
    for a in range(count):
        if pixels := cutout.area(truth[a]):
            shares[a] = [a != b and cutout.intersection_area(missed[a], wrong[b]) / pixels for b in range(count)]
    return shares


def _less(a: Cutout, b: Cutout) -> Cutout:
    """The pixels of one mask that are not in another."""
    box = hull([a.box]) if a.mask.size else Box(0, 0, 0, 0)
    return Cutout(box, a.mask & ~inside(b, box)) if a.mask.size else cutout.empty()
