"""What choosing the best epoch on the images that are then scored adds to the out-of-fold score."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class FoldHistory(NamedTuple):
    """How a fold's training went.

    Attributes:
        epochs: those that were validated, rising, int `[V]`.
        dice: on the fold's validation images after each, `[V]`.
        average: Dice of the weights' average there, where the fold predicts with that; else None.
        images: how many images it validates.
    """

    epochs: NDArray[np.int64]
    dice: NDArray[np.float64]
    average: float | None
    images: int


def best_epoch_gain(folds: Sequence[FoldHistory]) -> float | None:
    """By how much the mean Dice over all images is too high because each fold chose its own weights.

    That is a fold's Dice with what it chose less its Dice with what the other folds would choose for it: the epoch at
    which the mean of their curves is highest, or the average where most of them predict with theirs. A fold that
    stopped early stays at its last value, and between validations the last one holds. Where a fold lost its average,
    nobody noted that average's Dice; the epoch is then compared.

    Returns:
        Dice, not below 0; None for a single fold, whose choice no other can make.
    """
    if len(folds) < 2:
        return None
    epochs = np.unique(np.concatenate([fold.epochs for fold in folds]))
    curves = np.stack([_at(fold, epochs) for fold in folds])
    gains = [_own(fold) - _chosen_by_others(folds, curves, number) for number, fold in enumerate(folds)]
    return float(np.average(gains, weights=[fold.images for fold in folds]))


def _own(fold: FoldHistory) -> float:
    return float(fold.dice.max()) if fold.average is None else fold.average


def _chosen_by_others(folds: Sequence[FoldHistory], curves: NDArray[np.float64], number: int) -> float:
    """The Dice of a fold with what the others would choose."""
    averaging = [fold.average is not None for other, fold in enumerate(folds) if other != number]
    average = folds[number].average
    if average is not None and np.mean(averaging) > 0.5:
        return average
    return float(curves[number, np.delete(curves, number, 0).mean(0).argmax()])


def _at(fold: FoldHistory, epochs: NDArray[np.int64]) -> NDArray[np.float64]:
    """The fold's Dice at any epochs: that of the last validation until then, or of its first."""
    return fold.dice[np.clip(np.searchsorted(fold.epochs, epochs, side="right") - 1, 0, None)]
