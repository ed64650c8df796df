"""What is known of a finished run, an ensemble or a cascade, as plain values to draw."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bonepipe.inference.mistakes import Mistakes
from bonepipe.labels import histogram
from bonepipe.report.page import Picture

Rows = Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class Case:
    """An image that is shown: why, and its pictures."""

    title: str
    says: str
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Results:
    """What is known.

    Attributes:
        name: of the run's folder.
        classes: names.
        names: of the images that were predicted out of fold, N of them.
        folds: the fold that each of them validates, int `[N]`.
        dice: at threshold 0.5, `[N, C]`.
        counts: pixels by class, background and foreground, and probability, int `[N, C, 2, 256]`.
        thresholds: the content of thresholds.json; empty where nothing was chosen yet.
        scores: the content of scores.json, likewise.
        histories: fold -> the rows of its metrics.csv.
        costs: fold -> its costs.json.
        model: what the network costs, see `bonepipe.pipeline.fold_costs`.
        settings: the resolved config.
        mistakes: of all images; None where the dataset is not there any more.
        cases: images that are shown, the worst first, the best last.
        closeups: single classes that went worst.
        palette: class -> colour of the pictures.
        missing: why there are no pictures; empty where there are.
        stale: why scores and thresholds are not shown though there are some; empty where they are.
    """

    name: str
    classes: Sequence[str]
    names: Sequence[str]
    folds: NDArray[np.intp]
    dice: NDArray[np.float64]
    counts: NDArray[np.integer]
    thresholds: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)
    histories: Mapping[int, Rows] = field(default_factory=dict)
    costs: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    model: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    mistakes: Mistakes | None = None
    cases: Sequence[Case] = ()
    closeups: Sequence[Picture] = ()
    palette: Sequence[tuple[str, str]] = ()
    missing: str = ""
    stale: str = ""

    @cached_property
    def numbers(self) -> list[int]:
        """The folds."""
        return np.unique(self.folds).tolist()

    @property
    def by_fold(self) -> NDArray[np.float64]:
        """Mean Dice of each class in each fold, `[F, C]`."""
        return np.stack([self.dice[self.folds == fold].mean(0) for fold in self.numbers])

    @cached_property
    def curves(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean Dice at every threshold, `[C, 256]`, and that of each fold, `[F, C, 256]`."""
        sums = [histogram.dice_curve(self.counts[self.folds == fold]).sum(0) for fold in self.numbers]
        sizes = np.array([(self.folds == fold).sum() for fold in self.numbers])
        return np.sum(sums, axis=0) / sizes.sum(), np.array(sums) / sizes[:, None, None]

    @property
    def areas(self) -> NDArray[np.int64]:
        """Pixels of the true masks, `[N, C]`."""
        return np.asarray(self.counts[:, :, histogram.FOREGROUND].sum(-1))

    @property
    def worst_first(self) -> list[int]:
        """The classes by their mean Dice."""
        return np.argsort(self.dice.mean(0), kind="stable").tolist()

    @property
    def total(self) -> float:
        """Dice out of fold: with the chosen thresholds where there are some."""
        return float(self.scores.get("oof_dice", self.dice.mean()))
