"""Which runs to average: all pairs, greedy forward selection with replacement, and what the choice is really worth.

Caruana, Niculescu-Mizil, Crew and Ksikes, "Ensemble selection from libraries of models" (ICML 2004), section 2:
starting from the best run, the run that improves the ensemble most is added again and again; one that is added several
times has more weight. What is chosen on the images that it is scored on always looks good, so the whole selection is
repeated without each fold and scored on the fold that was left out.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from bonepipe.inference.crossfit import ROUNDING, Split, judge, mean_and_error
from bonepipe.inference.ensemble.library import MAX_WEIGHT, ClassPixels, Counts
from bonepipe.inference.ensemble.members import Ensemble, Entry
from bonepipe.labels.dice import dice_by_size
from bonepipe.labels.histogram import HALF_BIN

Images = NDArray[np.bool_] | slice  # those that something is chosen on
ALL = slice(None)


@dataclass(frozen=True)
class Library:
    """Runs whose mixtures can be scored; each mixture of each class is computed once.

    Attributes:
        pixels: one a class.
        thresholds: in 1 / 256; of several a mixture is scored at the best for each class.
    """

    pixels: Sequence[ClassPixels]
    thresholds: Sequence[int] = (HALF_BIN,)
    _known: dict[tuple[int, Counts], NDArray[np.float32]] = field(default_factory=dict, repr=False)

    @property
    def runs(self) -> int:
        """Number of runs, M."""
        return len(self.pixels[0].rows)

    @property
    def images(self) -> int:
        """Number of images, N."""
        return len(self.pixels[0].area)

    def curves(self, label: int, counts: Counts) -> NDArray[np.float32]:
        """Dice `[N, T]` of a mixture in one class."""
        key = label, reduced(counts)
        if key not in self._known:
            self._known[key] = self.pixels[label].dice(key[1], self.thresholds).astype(np.float32)
        return self._known[key]

    def dice(self, counts: Counts, labels: Sequence[int], fit: Images = ALL) -> NDArray[np.float64]:
        """Dice `[N, L]` of all images in some classes, at each class's best threshold for the images `fit`."""
        curves = [self.curves(label, counts) for label in labels]
        return np.stack([curve[:, _best(curve, fit)] for curve in curves], 1).astype(np.float64)


def _best(curve: NDArray[np.float32], fit: Images) -> int:
    return int(curve[fit].mean(0, dtype=np.float64).argmax()) if curve.shape[1] > 1 else 0


def reduced(counts: Counts) -> Counts:
    """The same mixture in the smallest whole numbers."""
    divisor = gcd(*counts)
    return tuple(count // divisor for count in counts)


def single(run: int, runs: int) -> Counts:
    """One run alone."""
    return tuple(int(other == run) for other in range(runs))


def singles_and_pairs(runs: int) -> list[Counts]:
    """Every run alone, then every two with equal weights."""
    alone = [single(run, runs) for run in range(runs)]
    return alone + [_sum(a, b) for a, b in combinations(alone, 2)]


def _sum(a: Counts, b: Counts) -> Counts:
    return tuple(x + y for x, y in zip(a, b, strict=True))


def complexity(counts: Counts) -> tuple[int, int]:
    """Distinct runs, then steps: the order in which ties are broken."""
    return sum(map(bool, counts)), sum(counts)


@dataclass(frozen=True)
class Search:
    """How mixtures are searched and when one is better than another.

    Attributes:
        steps: at most so many runs in a mixture, repetitions counted.
        margin: a gain counts from so many of its standard errors on, see `crossfit.judge`.
    """

    steps: int = 10
    margin: float = 2.0

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= MAX_WEIGHT:
            raise ValueError(f"steps={self.steps}: from 1 to {MAX_WEIGHT}")
        if not (np.isfinite(self.margin) and self.margin >= 0):
            raise ValueError(f"margin={self.margin}: not below 0")

    def path(self, library: Library, labels: Sequence[int], fit: Images) -> list[Counts]:
        """The mixtures of the greedy search on the images `fit`: the best run, and each one that improves on it."""

        def mean(counts: Counts) -> float:
            return float(library.dice(counts, labels, fit)[fit].mean())

        steps = [single(run, library.runs) for run in range(library.runs)]
        path = [_highest(steps, mean)]
        while sum(path[-1]) < self.steps:
            best = _highest([_sum(path[-1], step) for step in steps], mean)
            if mean(best) <= mean(path[-1]) + ROUNDING:
                break
            path.append(best)
        return path

    def simplest(self, library: Library, labels: Sequence[int], patients: NDArray[Any], fit: Images) -> Counts:
        """The simplest mixture that the best one beats by no more than noise on the images `fit`.

        The noise is that from patient to patient, `[N]`.

        Candidates are the single runs, the pairs and the greedy path. Fewer distinct runs are simpler, then fewer
        steps; of equally simple ones the better is taken.
        """
        candidates = list(dict.fromkeys([*singles_and_pairs(library.runs), *self.path(library, labels, fit)]))
        candidates = [counts for counts in candidates if sum(counts) <= self.steps]
        dice = np.stack([library.dice(counts, labels, fit)[fit].mean(1) for counts in candidates])
        means = dice.mean(1)
        lacking, error = mean_and_error((dice[means.argmax()] - dice).T, patients[fit])
        near = np.flatnonzero(lacking <= self.margin * error + ROUNDING)
        return candidates[min(near, key=lambda i: (complexity(candidates[i]), -means[i]))]


def _highest(candidates: Sequence[Counts], score: Callable[[Counts], float]) -> Counts:
    """The candidate with the highest score; of equals the simplest, then the first."""
    scores = [score(counts) for counts in candidates]
    best = max(scores)
    return min((c for c, s in zip(candidates, scores, strict=True) if s >= best - ROUNDING), key=complexity)


@dataclass(frozen=True)
class EnsembleChoice:
    """A mixture for some classes and what it is worth.

    Attributes:
        counts: of the chosen mixture; the best single run where nothing gains more than noise on other folds.
        tried: what the search would have chosen without that test.
        best: the best single run.
        promised: mean Dice that `tried` gains over it on the images that it was chosen on.
        gain: the same for mixture and run chosen on the other folds, each fold scored in its turn.
        error: standard error of that gain, clustered by patient.
        dice: cross-fitted Dice `[N, L]` of what is kept.
    """

    counts: Counts
    tried: Counts
    best: Counts
    promised: float
    gain: float
    error: float
    dice: NDArray[np.float64]


def select(
    library: Library, labels: Sequence[int], split: Split, search: Search, *, bar: str | None = None
) -> EnsembleChoice:
    """Choose one mixture for some classes.

    Args:
        labels: classes whose mean Dice counts, L of them.
        split: folds and patients of the images. With one fold there is nothing to cross-fit on, and the best single
            run is chosen.
        bar: title of a progress bar over the folds; None for none.
    """
    alone = Search(steps=1, margin=search.margin)
    tried, best = search.simplest(library, labels, split.patients, ALL), alone.path(library, labels, ALL)[0]
    mixed, simple = np.empty((2, library.images, len(labels)))
    for fold in tqdm(np.unique(split.folds), bar, unit="fold", disable=bar is None):
        here, others = split.folds == fold, split.folds != fold
        fit = others if others.any() else ALL
        simple[here] = library.dice(alone.path(library, labels, fit)[0], labels, fit)[here]
        chosen = search.simplest(library, labels, split.patients, fit)
        mixed[here] = library.dice(chosen, labels, fit)[here] if others.any() else simple[here]
    gain, error, kept = judge((mixed - simple).mean(1), split, search.margin)
    promised = [library.dice(counts, labels).mean() for counts in (tried, best)]
    return EnsembleChoice(
        tried if kept else best, tried, best, float(promised[0] - promised[1]), float(gain), float(error),
        mixed if kept else simple,
    )  # fmt: skip


@dataclass(frozen=True)
class ClassChoice:
    """What each class is mixed of.

    Attributes:
        counts: one mixture a class.
        differs: bool `[C]`, where it differs from the choice for all classes.
        gain: mean Dice gained over that choice by averages chosen for the class on other folds `[C]`, kept or not.
        error: standard error of that gain `[C]`.
        dice: cross-fitted Dice `[N, C]` of what is kept.
    """

    counts: list[Counts]
    differs: NDArray[np.bool_]
    gain: NDArray[np.float64]
    error: NDArray[np.float64]
    dice: NDArray[np.float64]


def select_per_class(
    library: Library, common: EnsembleChoice, split: Split, search: Search, *, bar: str | None = None
) -> ClassChoice:
    """Let a class leave the choice for all where its own, chosen on other folds, beats it by more than noise."""
    labels = tqdm(range(len(library.pixels)), bar, unit="class", disable=bar is None)
    choices = [select(library, [label], split, search) for label in labels]
    dice = np.concatenate([choice.dice for choice in choices], 1)
    gain, error, worth = judge(dice - common.dice, split, search.margin)
    differs = np.array([reduced(choice.counts) != reduced(common.counts) for choice in choices])
    kept = differs & worth
    counts = [choice.counts if keep else common.counts for choice, keep in zip(choices, kept, strict=True)]
    return ClassChoice(counts, kept, gain, error, np.where(kept, dice, common.dice))


def to_ensemble(runs: Sequence[str], chosen: Sequence[Counts], classes: Sequence[str]) -> Ensemble:
    """The ensemble in which each class has its mixture; a run has one entry for each weight that it has somewhere."""
    entries = (_entries(run, number, chosen, classes) for number, run in enumerate(runs))
    return Ensemble(members=tuple(chain.from_iterable(entries)))


def _entries(run: str, number: int, chosen: Sequence[Counts], classes: Sequence[str]) -> Iterator[Entry]:
    mixtures = [reduced(counts) for counts in chosen]
    usual = next((counts[number] for counts in mixtures if counts[number] and complexity(counts)[0] > 1), 1)
    weights = [_weight(counts, number, usual) for counts in mixtures]
    for weight in sorted(set(weights) - {0}):
        names = tuple(name for name, other in zip(classes, weights, strict=True) if other == weight)
        yield Entry(run=run, weight=float(weight), classes=None if len(names) == len(classes) else names)


def _weight(counts: Counts, number: int, usual: int) -> int:
    """A run's weight; where it is alone any will do, and the usual one saves an entry."""
    return usual if counts[number] and complexity(counts)[0] == 1 else counts[number]


def by_size(library: Library) -> list[dict[str, float]]:
    """Every run's Dice alone on small, medium and large true masks, see `dice_by_size`."""
    areas = np.stack([pixels.area for pixels in library.pixels], 1)
    labels = range(len(library.pixels))
    alone = [single(run, library.runs) for run in range(library.runs)]
    return [dice_by_size(library.dice(counts, labels), areas) for counts in alone]
