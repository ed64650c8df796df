"""Bilinear interpolation along one axis, pixel centres aligned (`align_corners=False`).

A value is a + w * (b - a) of two neighbours a, b >= 0 in float32, every operation rounded, and lies between them all
the same. Rounding keeps order, so it lies on b's side of a. Nor does it pass b: where the larger of both is at most
twice the smaller, b - a is exact (Sterbenz 1974, theorem 4.3.1), the product no longer than it, and the sum not
beyond b. Else w decides, which as a fraction of whole numbers is at most 1 - 1 / (2 H), for H below 2**21 further
from 1 than three roundings reach. So where all neighbours reach a threshold every pixel between them does, and where
none does none does.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Axis(NamedTuple):
    """What each of H output positions is made of: here + weight * (there - here).

    Attributes:
        here, there: the two input positions.
        weight: of the second, float32.
    """

    here: NDArray[np.intp]
    there: NDArray[np.intp]
    weight: NDArray[np.float32]


class Cells(NamedTuple):
    """The same by cells: cell k lies between the input positions k - 1 and k, the first and the last on the border.

    Attributes:
        weights: float32 `[K, h + 1]`, of the first, second ... output position in each cell.
        counts: how many of the K each cell has, `[h + 1]`.
        slots: of each of H output positions, K * cell + number in the cell.
        alike: the cells that all have K output positions with the same weights, at whole scales all inner ones.
    """

    weights: NDArray[np.float32]
    counts: NDArray[np.intp]
    slots: NDArray[np.intp]
    alike: slice

    @property
    def most(self) -> int:
        """K, output positions in a cell at the most."""
        return len(self.weights)

    @property
    def there(self) -> NDArray[np.bool_]:
        """Which of the K each cell has, `[K, h + 1]`."""
        return np.arange(self.most)[:, None] < self.counts

    def part(self, start: int, stop: int) -> "Cells":
        """Some cells alone; `slots` still are those of all."""
        first, last = (min(max(end, start), stop) - start for end in (self.alike.start, self.alike.stop))
        return Cells(self.weights[:, start:stop], self.counts[start:stop], self.slots, slice(first, last))


def _placed(low: int, high: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The input position below each output position, from -1, and how far beyond it, in parts of 2 * `high`."""
    return np.divmod((2 * np.arange(high) + 1) * low - high, 2 * high)


@lru_cache(maxsize=64)
def axis(low: int, high: int) -> Axis:
    """From `low` input to `high` output positions."""
    below, parts = _placed(low, high)
    weight = np.where((below >= 0) & (below < low - 1), parts / (2 * high), 0)
    here = below.clip(0, low - 1)
    return Axis(here, np.minimum(here + 1, low - 1), weight.astype(np.float32))


@lru_cache(maxsize=64)
def cells(low: int, high: int) -> Cells:
    """From `low` input to `high` output positions."""
    cell = _placed(low, high)[0] + 1
    counts = np.bincount(cell, minlength=low + 1)
    number = np.arange(high) - (np.cumsum(counts) - counts)[cell]
    weights = np.zeros((int(counts.max()), low + 1), np.float32)
    weights[number, cell] = axis(low, high).weight
    inner = weights[:, 1:-1]
    alike = low > 1 and bool((counts[1:-1] == len(weights)).all() and (inner == inner[:, :1]).all())
    return Cells(weights, counts, len(weights) * cell + number, slice(1, low) if alike else slice(0, 0))
