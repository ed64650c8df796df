"""One threshold a class from the histograms of all folds, with the gain that other data would see."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bonepipe.errors import BonepipeError
from bonepipe.files import write_json
from bonepipe.labels.histogram import THRESHOLDS

HALF = 128  # index of threshold 0.5


@dataclass(frozen=True)
class Choice:
    """Thresholds and what they are worth.

    Attributes:
        thresholds: float64 `[C]`; 0.5 where another value gains no more than noise.
        kept: bool `[C]`, where the threshold differs from 0.5.
        gain: mean Dice gained over 0.5 by thresholds chosen on other folds, `[C]`, whether kept or not.
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


def choose(curves: np.ndarray, folds: np.ndarray, margin: float) -> Choice:
    """Choose a threshold a class.

    Each fold is scored with the thresholds that maximise the mean Dice of the other folds. A class leaves 0.5 only if
    its mean gain exceeds `margin` standard errors; its threshold then maximises the mean over all folds.

    Args:
        curves: Dice `[N, C, 256]` of every image and class at thresholds k / 256.
        folds: the fold that each image validates, int `[N]`.
        margin: in standard errors of the mean over images.
    """
    at_half = curves[:, :, HALF]
    crossed = np.empty_like(at_half)
    for fold in np.unique(folds):
        held_out = folds == fold
        # With one fold there is nothing to cross-fit on: 0.5 everywhere.
        best = _best(curves[~held_out]) if not held_out.all() else np.full(curves.shape[1], HALF)
        crossed[held_out] = np.take_along_axis(curves[held_out], best[None, :, None], 2)[:, :, 0]
    gains = crossed - at_half
    gain, error = gains.mean(0), gains.std(0, ddof=1 if len(gains) > 1 else 0) / np.sqrt(len(gains))
    best = _best(curves)
    kept = (gain > margin * error) & (gain > 0) & (best != HALF)
    return Choice(
        thresholds=np.where(kept, THRESHOLDS[best], 0.5),
        kept=kept,
        gain=gain,
        error=error,
        dice=np.where(kept, crossed, at_half),
        dice_at_half=at_half,
    )


def _best(curves: np.ndarray) -> np.ndarray:
    """Index of the threshold with the highest mean Dice, a class; of equals the nearest to 0.5. Never 0."""
    means = curves.mean(0)
    means[:, 0] = -1
    equal = means >= means.max(1, keepdims=True) - 1e-12
    distance = np.where(equal, np.abs(np.arange(curves.shape[2]) - HALF), curves.shape[2])
    return distance.argmin(1)


def write(path: Path, classes: Sequence[str], choice: Choice, further: Mapping[str, Any] | None = None) -> None:
    """Write thresholds, their gains, and what else was chosen, as JSON, atomically."""
    content = {
        "thresholds": dict(zip(classes, choice.thresholds.tolist(), strict=True)),
        "cross_fitted_gain": dict(zip(classes, choice.gain.tolist(), strict=True)),
        "standard_error": dict(zip(classes, choice.error.tolist(), strict=True)),
        "kept": [name for name, kept in zip(classes, choice.kept, strict=True) if kept],
    }
    write_json(path, content | dict(further or {}))


def read(path: Path, classes: Sequence[str]) -> list[float]:
    """Thresholds in class order. Raises BonepipeError when the file is missing, broken, or lacks a class."""
    try:
        values = json.loads(path.read_text())["thresholds"]
        return [float(values[name]) for name in classes]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BonepipeError(
            f"{path}: no thresholds for all classes ({error!r}); `bonepipe train-all` writes them"
        ) from error
