"""In what two parts of a dataset differ, and which way round their images lie."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bonepipe.data.thumbnails import Thumbnails

CHANCE = 0.01  # probability below which a difference is none of chance
FEWEST = 5  # images of a part below which nothing is told of it


@dataclass(frozen=True)
class Shift:
    """How differently two parts are distributed in a trait.

    Attributes:
        distance: largest distance of the two distribution functions, 0 to 1 (Kolmogorov and Smirnov).
        chance: probability of such a distance where the parts do not differ.
    """

    name: str
    distance: float
    chance: float

    @property
    def real(self) -> bool:
        """Whether chance hardly explains it."""
        return self.chance < CHANCE


def shifts(a: Mapping[str, Sequence[float]], b: Mapping[str, Sequence[float]]) -> list[Shift]:
    """The traits of two parts, trait -> a value an image, from the most to the least different; NaN counts nowhere."""
    from scipy.stats import ks_2samp

    found = []
    for name in a:
        left, right = (np.array(part[name], float) for part in (a, b))
        left, right = left[~np.isnan(left)], right[~np.isnan(right)]
        if min(len(left), len(right)) >= FEWEST and len(np.unique(np.concatenate([left, right]))) > 1:
            test = ks_2samp(left, right)
            found.append(Shift(name, float(test.statistic), float(test.pvalue)))
    return sorted(found, key=lambda shift: -shift.distance)


def facing(boxes: NDArray[np.floating], widths: NDArray[np.floating]) -> NDArray[np.int64]:
    """Which way round each image lies, told from where its classes lie: 1 as most do, -1 mirrored, 0 unknown.

    Args:
        boxes: of the classes, `[N, C, 4]` as top, left, bottom, right; empty where one is missing.
        widths: of the images, `[N]`, pixels.
    """
    there = boxes[:, :, 3] > boxes[:, :, 1]
    middle = np.where(there, boxes[:, :, [1, 3]].sum(2) / 2 / np.maximum(widths, 1)[:, None], np.nan)
    usual = _reference(middle)
    signs = np.array([_likeness(row, usual) for row in middle])
    signs = np.where(np.abs(signs) < 0.5, 0, np.sign(signs)).astype(np.int64)
    return signs if (signs >= 0).sum() >= (signs <= 0).sum() else -signs


def _reference(middle: NDArray[np.floating]) -> NDArray[np.floating]:
    """The columns of the classes of the image that has most of them."""
    return middle[np.argmax((~np.isnan(middle)).sum(1))] if len(middle) else np.zeros(0)


def _likeness(row: NDArray[np.floating], usual: NDArray[np.floating]) -> float:
    """Correlation of the columns of the classes that both images have."""
    both = ~np.isnan(row) & ~np.isnan(usual)
    if both.sum() < 3:
        return 0.0
    a, b = (values[both] - values[both].mean() for values in (row, usual))
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norm if norm else 0.0


def facing_like(thumbnails: Thumbnails, known: Thumbnails, signs: NDArray[np.integer]) -> NDArray[np.int64]:
    """Which way round images lie, told from their thumbnails `[M, s, s]` and from those of images that are known.

    Args:
        known: thumbnails `[N, s, s]`; signs: which way round these lie, 1 or -1, `[N]`; 0 counts nowhere.

    Returns:
        1 or -1, `[M]`; all 0 where nothing is known of both ways.
    """
    if not ((signs > 0).any() and (signs < 0).any()):
        return np.zeros(len(thumbnails), np.int64)
    turned = np.where((signs < 0)[:, None, None], known[:, :, ::-1], known)[signs != 0]
    usual = turned.mean(0) - turned.mean()
    odd = usual - usual[:, ::-1]  # what tells a picture from its mirror image
    return np.where((thumbnails * odd).sum((1, 2)) >= 0, 1, -1)
