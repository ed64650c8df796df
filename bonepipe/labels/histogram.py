"""Dice at 256 thresholds from two histograms, in place of stored probabilities.

A probability p falls into bin floor(256 p), so the mask p >= k / 256 is exactly the bins from k upwards.
"""

import numpy as np
from numpy.typing import NDArray

from bonepipe.labels.counts import byte_counts
from bonepipe.labels.dice import dice

BINS = 256
THRESHOLDS: NDArray[np.float64] = np.arange(BINS) / BINS
HALF, HALF_BIN = 0.5, BINS // 2  # the threshold until a better one is known, and the first bin that reaches it
BACKGROUND, FOREGROUND = 0, 1


def histogram(probability: NDArray[np.floating], truth: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count pixels by probability, int64 `[2, 256]`: row 0 the background's, row 1 the foreground's.

    `probability` is `[H, W]` in 0..1, `truth` bool `[H, W]`.
    """
    bins = np.clip(probability * BINS, 0, BINS - 1).astype(np.uint8)
    foreground = byte_counts(bins, mask=truth)
    return np.stack([byte_counts(bins) - foreground, foreground])


def add_outside(hist: NDArray[np.int64], background: int, foreground: int) -> NDArray[np.int64]:
    """Copy `hist` `[2, 256]` and add the pixels outside the looked-at box, whose probability counts as 0."""
    result = hist.copy()
    result[BACKGROUND, 0] += background
    result[FOREGROUND, 0] += foreground
    return result


def dice_curve(hist: NDArray[np.int64]) -> NDArray[np.float64]:
    """Compute Dice float64 `[..., 256]` of the mask p >= k / 256 for every k, exact, from counts `[..., 2, 256]`."""
    inside = np.cumsum(hist[..., ::-1], axis=-1, dtype=np.int64)[..., ::-1]
    true_positive = inside[..., FOREGROUND, :]
    return dice(true_positive, inside.sum(axis=-2), true_positive[..., :1])
