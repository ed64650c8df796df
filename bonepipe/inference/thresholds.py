"""One threshold a class from the histograms of all folds, with the gain that other data would see.

Where kinds of images differ, a class may have one a stratum beside the common one, chosen in the same way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bonepipe.inference.crossfit import cross_fitted, mean_and_error
from bonepipe.labels.histogram import HALF_BIN, THRESHOLDS

LEAST = 10  # images of a stratum; of fewer the standard error itself is a guess


@dataclass(frozen=True, kw_only=True)
class ThresholdSpec:
    """When a class leaves threshold 0.5.

    Attributes:
        margin: only if its cross-fitted gain exceeds so many standard errors.
        by: `stratum` lets a class have another threshold in some strata, kept by the same margin; null for one a class.
    """

    margin: float = 2.0
    by: Literal["stratum"] | None = None

    def __post_init__(self) -> None:
        if not self.margin >= 0:  # NaN is not
            raise ValueError(f"margin={self.margin}: standard errors, 0 or more")


@dataclass(frozen=True)
class ThresholdChoice:
    """Thresholds and what they are worth, against 0.5 or, for a stratum, against the class's common threshold.

    Attributes:
        thresholds: float64 `[C]`; 0.5 or the common one where another value gains no more than noise.
        kept: bool `[C]`, where the threshold differs from that.
        gain: mean Dice gained over that by thresholds chosen on other folds, `[C]`, whether kept or not.
        error: standard error of that gain, `[C]`.
        dice: cross-fitted Dice `[N, C]` with the kept thresholds.
        dice_at_half: Dice `[N, C]` at 0.5.
    """

    thresholds: np.ndarray
    kept: np.ndarray
    gain: np.ndarray
    error: np.ndarray
    dice: np.ndarray
    dice_at_half: np.ndarray


def choose_thresholds(curves: np.ndarray, folds: np.ndarray, margin: float) -> ThresholdChoice:
    """Choose a threshold a class.

    Each fold is scored with the thresholds that maximise the mean Dice of the other folds. A class leaves 0.5 only if
    its mean gain exceeds `margin` standard errors; its threshold then maximises the mean over all folds.

    Args:
        curves: Dice `[N, C, 256]` of every image and class at thresholds k / 256.
        folds: the fold that each image validates, int `[N]`.
        margin: in standard errors of the mean over images.
    """
    return _improve(curves, folds, margin, np.full(curves.shape[1], THRESHOLDS[HALF_BIN]), curves[:, :, HALF_BIN])


def choose_thresholds_by_stratum(
    curves: np.ndarray, folds: np.ndarray, labels: Sequence[str], common: ThresholdChoice, margin: float
) -> dict[str, ThresholdChoice]:
    """Choose a threshold a class for each stratum, where that gains more than noise over the class's common one.

    The rule of `choose_thresholds` among the images of a stratum; of fewer than LEAST the common thresholds stay.

    Args:
        curves, folds, margin: as in `choose_thresholds`.
        common: what `choose_thresholds` chose for all strata together.

    Returns:
        Stratum -> its choice, whose Dice `[n, C]` are those of its images; strata in alphabetical order.
    """
    choices, strata = {}, np.array(labels)
    for stratum in np.unique(strata).tolist():
        here = strata == stratum
        known = folds[here] if here.sum() >= LEAST else np.zeros(here.sum(), int)  # one fold: no choice
        choices[stratum] = _improve(curves[here], known, margin, common.thresholds, common.dice[here])
    return choices


def dice_by_stratum(choices: Mapping[str, ThresholdChoice], labels: Sequence[str]) -> np.ndarray:
    """The cross-fitted Dice `[N, C]` of all images, each with its stratum's thresholds."""
    rows = {stratum: iter(choice.dice) for stratum, choice in choices.items()}
    return np.stack([next(rows[label]) for label in labels])


def gain_by_stratum(choices: Mapping[str, ThresholdChoice]) -> float:
    """Mean cross-fitted Dice over all images and classes that the strata's own thresholds gain over the common ones."""
    gains = [np.where(choice.kept, choice.gain, 0).mean() for choice in choices.values()]
    return float(np.average(gains, weights=[len(choice.dice) for choice in choices.values()]))


def _improve(
    curves: np.ndarray, folds: np.ndarray, margin: float, before: np.ndarray, dice: np.ndarray
) -> ThresholdChoice:
    """Choose other thresholds than those `[C]` before, whose Dice are `[N, C]`, where they gain more than noise."""
    crossed = cross_fitted(curves, folds, lambda others, _: _best(others), dice, axis=2)
    gain, error = mean_and_error(crossed - dice)
    best = THRESHOLDS[_best(curves)]
    kept = (gain > margin * error) & (gain > 0) & (best != before)
    thresholds, scores = np.where(kept, best, before), np.where(kept, crossed, dice)
    return ThresholdChoice(thresholds, kept, gain, error, scores, curves[:, :, HALF_BIN])


def _best(curves: np.ndarray) -> np.ndarray:
    """Index of the threshold with the highest mean Dice, a class; of equals the nearest to 0.5. Never 0."""
    means = curves.mean(0)
    means[:, 0] = -1
    equal = means >= means.max(1, keepdims=True) - 1e-12
    distance = np.where(equal, np.abs(np.arange(curves.shape[2]) - HALF_BIN), curves.shape[2])
    return distance.argmin(1)


def summary(classes: Sequence[str], choice: ThresholdChoice, folds: np.ndarray) -> dict[str, Any]:
    """What scores.json keeps of a choice: the Dice over all, at 0.5, by fold `[N]` (at 0.5), and by class."""
    return {
        "oof_dice": float(choice.dice.mean()),
        "oof_dice_at_half": float(choice.dice_at_half.mean()),
        "folds": [float(choice.dice_at_half[folds == fold].mean()) for fold in np.unique(folds)],
        "oof_dice_per_class": dict(zip(classes, choice.dice.mean(0).tolist(), strict=True)),
    }
