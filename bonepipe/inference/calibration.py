"""What a probability is worth: how often a pixel with it belongs to the class, out of fold.

Networks trained with focal or Dice losses are off by far: a probability of 0.7 may be right 99 times in 100. The
histograms of out-of-fold predictions tell, and isotonic regression (Zadrozny and Elkan 2002) makes it monotonic.

Below `histogram.FLOOR` the histograms do not tell pixels apart, nor do the calibrated values: all there have the share
of foreground among the pixels below it. So a class that might be there is looked for from there on.
"""

import numpy as np
from numpy.typing import NDArray

from bonepipe.labels.histogram import BINS, FOREGROUND, THRESHOLDS


def calibrated(counts: NDArray[np.integer]) -> NDArray[np.float64]:
    """Share of foreground `[256]` among the pixels of each probability bin, never falling, from counts `[2, 256]`.

    Bins without pixels take the value of the nearest bin below that has some, or of the lowest.
    """
    from sklearn.isotonic import IsotonicRegression

    total = counts.sum(axis=0)
    seen = np.flatnonzero(total)
    if not seen.size:
        return np.zeros(BINS)
    rates = counts[FOREGROUND, seen] / total[seen]
    fitted = IsotonicRegression(y_min=0, y_max=1).fit(seen, rates, total[seen]).predict(seen)
    nearest = np.clip(np.searchsorted(seen, np.arange(BINS), side="right") - 1, 0, None)
    return np.asarray(fitted, np.float64)[nearest]


def limits(counts: NDArray[np.integer], confidence: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """From which probability a class is sure to be there, and from which on it might be, each `[C]`.

    Args:
        counts: `[C, 2, 256]`, out-of-fold pixels by class, background and foreground, and probability.
        confidence: share of the pixels that must belong to the class; above 1 - confidence they might.

    Returns:
        Thresholds k / 256, the first above 1 (no pixel is sure) where no bin reaches the confidence.
    """
    curves = np.stack([calibrated(of_class) for of_class in counts])
    return _first(curves >= confidence), _first(curves > 1 - confidence)


def _first(reached: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.where(reached.any(axis=1), THRESHOLDS[reached.argmax(axis=1)], 2.0)
