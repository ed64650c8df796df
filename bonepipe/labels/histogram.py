"""Dice at 256 thresholds from two histograms, in place of stored probabilities.

A probability p falls into bin floor(256 p), so the mask p >= k / 256 is exactly the bins from k upwards.

Nobody chooses a threshold below FLOOR, while networks trained with focal losses leave 1 to 5% of probability all over.
So what lies below it is counted together, in bin 0, and nothing there has to be looked at: its pixels are those of the
image less those counted. A curve is flat below FLOOR, where earlier versions' histograms are fine throughout.
"""

import numpy as np
from numpy.typing import NDArray

from bonepipe.labels.counts import byte_counts
from bonepipe.labels.dice import dice

BINS = 256
THRESHOLDS: NDArray[np.float64] = np.arange(BINS) / BINS
HALF, HALF_BIN = 0.5, BINS // 2  # the threshold until a better one is known, and the first bin that reaches it
FLOOR_BIN = 13
FLOOR = FLOOR_BIN / BINS  # the lowest threshold that can be chosen, about 0.05
CHOOSABLE = slice(FLOOR_BIN, BINS)  # of the thresholds
BACKGROUND, FOREGROUND = 0, 1


def histogram(probability: NDArray[np.floating], truth: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count pixels by probability, int64 `[2, 256]`: row 0 the background's, row 1 the foreground's.

    `probability` is `[H, W]` in 0..1, `truth` bool `[H, W]`.
    """
    bins = levels(probability)
    foreground = byte_counts(bins, mask=truth)
    return np.stack([byte_counts(bins) - foreground, foreground])


def levels(probability: NDArray[np.floating]) -> NDArray[np.uint8]:
    """The bin of each probability, those of 1 in the last."""
    return np.clip(probability * BINS, 0, BINS - 1).astype(np.uint8)


def floored(hist: NDArray[np.int64]) -> NDArray[np.int64]:
    """Copy counts `[..., 256]` with those below FLOOR together in bin 0."""
    result = hist.copy()
    result[..., :FLOOR_BIN] = 0
    result[..., 0] = hist[..., :FLOOR_BIN].sum(axis=-1)
    return result


def completed(
    counted: NDArray[np.int64], foreground: NDArray[np.int64], pixels: int, true_pixels: int
) -> NDArray[np.int64]:
    """Counts `[2, 256]` of an image from those `[256]` of all its pixels and of its foreground that reach FLOOR.

    Args:
        counted, foreground: what else is in them below FLOOR is passed over.
        pixels: of the image; true_pixels: of its foreground.
    """
    result = np.stack([counted - foreground, foreground])
    result[:, :FLOOR_BIN] = 0
    result[:, 0] = np.array([pixels - true_pixels, true_pixels]) - result.sum(axis=1)
    return result


def dice_curve(hist: NDArray[np.int64]) -> NDArray[np.float64]:
    """Compute Dice float64 `[..., 256]` of the mask p >= k / 256 for every k, exact, from counts `[..., 2, 256]`."""
    inside = np.cumsum(hist[..., ::-1], axis=-1, dtype=np.int64)[..., ::-1]
    true_positive = inside[..., FOREGROUND, :]
    return dice(true_positive, inside.sum(axis=-2), true_positive[..., :1])
