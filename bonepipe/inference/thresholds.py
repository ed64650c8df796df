"""One threshold a class from the histograms of all folds, with the gain that other data would see.

Where kinds of images differ, a class may have one a stratum beside the common one, chosen in the same way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bonepipe.inference.crossfit import Split, choose
from bonepipe.labels.dice import iou_of_dice
from bonepipe.labels.histogram import CHOOSABLE, HALF_BIN, THRESHOLDS
from bonepipe.ranges import Amount

LEAST = 10  # patients of a stratum; of fewer the standard error itself is a guess
CANDIDATES = THRESHOLDS[CHOOSABLE]
COST = np.abs(np.arange(len(THRESHOLDS)) - HALF_BIN)[CHOOSABLE]  # of equally good thresholds the nearest to 0.5


@dataclass(frozen=True, kw_only=True)
class ThresholdSpec:
    """When a class leaves threshold 0.5, and when anything else that is chosen out of fold is kept.

    Attributes:
        margin: only if its cross-fitted gain exceeds so many standard errors, clustered by patient. The same holds for
            thresholds by stratum, post-processing, the CRF and the weights of a cascade.
        by: `stratum` lets a class have another threshold in some strata, kept by the same margin; null for one a class.
    """

    margin: Amount = 2.0
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


def choose_thresholds(curves: np.ndarray, split: Split, margin: float) -> ThresholdChoice:
    """Choose a threshold a class by the rule of `crossfit.choose`: that of the highest Dice, of equals nearest to 0.5.

    None is below `histogram.FLOOR`, where histograms do not tell pixels apart.

    Args:
        curves: Dice `[N, C, 256]` of every image and class at thresholds k / 256.
        split: folds and patients of the images.
        margin: in standard errors.
    """
    return _improve(curves, split, margin, np.full(curves.shape[1], THRESHOLDS[HALF_BIN]), curves[:, :, HALF_BIN])


def choose_thresholds_by_stratum(
    curves: np.ndarray, split: Split, labels: Sequence[str], common: ThresholdChoice, margin: float
) -> dict[str, ThresholdChoice]:
    """Choose a threshold a class for each stratum, where that gains more than noise over the class's common one.

    The rule of `choose_thresholds` among the images of a stratum; of fewer than LEAST patients the common thresholds
    stay.

    Args:
        curves, split, margin: as in `choose_thresholds`.
        common: what `choose_thresholds` chose for all strata together.

    Returns:
        Stratum -> its choice, whose Dice `[n, C]` are those of its images; strata in alphabetical order.
    """
    choices, strata = {}, np.array(labels)
    for stratum in np.unique(strata).tolist():
        here = strata == stratum
        known = split.of(here)
        if stratum in small_strata(split, labels):
            known = known._replace(folds=np.zeros(here.sum(), int))  # one fold: no choice
        choices[stratum] = _improve(curves[here], known, margin, common.thresholds, common.dice[here])
    return choices


def small_strata(split: Split, labels: Sequence[str]) -> list[str]:
    """The strata of too few patients to choose anything for, in alphabetical order."""
    strata = np.array(labels)
    return [name for name in sorted(set(labels)) if len(np.unique(split.patients[strata == name])) < LEAST]


def dice_by_stratum(choices: Mapping[str, ThresholdChoice], labels: Sequence[str]) -> np.ndarray:
    """The cross-fitted Dice `[N, C]` of all images, each with its stratum's thresholds."""
    rows = {stratum: iter(choice.dice) for stratum, choice in choices.items()}
    return np.stack([next(rows[label]) for label in labels])


def gain_by_stratum(choices: Mapping[str, ThresholdChoice]) -> float:
    """Mean cross-fitted Dice over all images and classes that the strata's own thresholds gain over the common ones."""
    gains = [np.where(choice.kept, choice.gain, 0).mean() for choice in choices.values()]
    return float(np.average(gains, weights=[len(choice.dice) for choice in choices.values()]))


def _improve(curves: np.ndarray, split: Split, margin: float, before: np.ndarray, dice: np.ndarray) -> ThresholdChoice:
    """Choose other thresholds than those `[C]` before, whose Dice are `[N, C]`, where they gain more than noise."""
    candidates = curves.swapaxes(1, 2)[:, CHOOSABLE]
    start = np.searchsorted(CANDIDATES, before)
    chosen = choose(candidates, split, margin, start, cost=COST, scored=dice)
    gain, error, kept = chosen.verdict
    return ThresholdChoice(CANDIDATES[chosen.index], kept, gain, error, chosen.scores, curves[:, :, HALF_BIN])


def summary(classes: Sequence[str], choice: ThresholdChoice, folds: np.ndarray) -> dict[str, Any]:
    """What scores.json keeps of a choice: Dice and mean IoU over all, Dice at 0.5, by fold and by class.

    Folds are at 0.5 (`folds`) and at the thresholds (`folds_chosen`).

    `folds` is the fold that each image validates, `[N]`.
    """
    return {
        "oof_dice": float(choice.dice.mean()),
        "oof_miou": float(iou_of_dice(choice.dice.clip(0, 1)).mean()),
        "oof_dice_at_half": float(choice.dice_at_half.mean()),
        "folds": [float(choice.dice_at_half[folds == fold].mean()) for fold in np.unique(folds)],
        "folds_chosen": [float(choice.dice[folds == fold].mean()) for fold in np.unique(folds)],
        "oof_dice_per_class": dict(zip(classes, choice.dice.mean(0).tolist(), strict=True)),
    }
