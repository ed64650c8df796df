"""The one rule for everything that is chosen out of fold: a choice must gain where it had no say, by more than noise.

What is chosen on the other folds is scored on the fold left out (cross-fitting), so that no gain is flattered. It is
kept only if its mean exceeds a margin in standard errors. Two things make these larger than s / sqrt(N). Images of one
patient are alike, so they are errors of sums within patients (Liang and Zeger, "Longitudinal data analysis using
generalized linear models", 1986, section 2.2). And the choices of two folds are made on mostly the same images, so
their gains go together (Nadeau and Bengio, "Inference for the generalization error", 2003, the corrected resampled
t-test): without that factor up to three times as many useless changes would pass as the margin promises.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

ROUNDING = 1e-12  # means that differ by less are equal but for rounding
Scores = NDArray[np.float64]
Index = NDArray[np.intp]


class Split(NamedTuple):
    """How N images belong together.

    Attributes:
        folds: the fold that each image validates, `[N]`.
        patients: whose each image is, `[N]`, any values that tell patients apart.
    """

    folds: NDArray[Any]
    patients: NDArray[Any]

    def of(self, images: Any) -> "Split":
        """The same of some of the images, given as a mask or an index."""
        return Split(self.folds[images], self.patients[images])

    @property
    def decides(self) -> bool:
        """Whether a choice can be made on some of these images and judged on others."""
        return min(len(np.unique(self.folds)), len(np.unique(self.patients))) > 1

    @property
    def dependence(self) -> float:
        """How many times larger the error of a cross-fitted mean is than if the folds' choices were independent."""
        sizes = np.unique(self.folds, return_counts=True)[1]
        return float(np.sqrt(1 + (sizes / (len(self.folds) - sizes)).sum())) if len(sizes) > 1 else 1.0


class Verdict(NamedTuple):
    """What cross-fitted changes of a score are worth: mean, standard error as told above, and whether to keep them."""

    gain: Scores
    error: Scores
    kept: NDArray[np.bool_]


def judge(changes: Scores, split: Split, margin: float) -> Verdict:
    """The rule: keep what gains more than `margin` standard errors.

    Nothing is kept where there is only one fold or one patient.

    Args:
        changes: cross-fitted, of each image's score, `[N, ...]`.
        split: folds and patients of the images.
        margin: in standard errors of the mean over the images.
    """
    gain, error = mean_and_error(changes, split.patients)
    error = split.dependence * error
    return Verdict(gain, error, (gain > np.maximum(margin * error, ROUNDING)) & split.decides)


def mean_and_error(values: Scores, patients: NDArray[Any]) -> tuple[Scores, Scores]:
    """Mean over the images, the first axis, and its standard error from patient to patient; 0 for a single patient.

    With one image a patient this is the usual error, s / sqrt(N).
    """
    mean = values.mean(0)
    number = np.unique(patients, return_inverse=True)[1]
    count = int(number.max()) + 1
    sums = np.zeros((count, *values.shape[1:]))
    np.add.at(sums, number, values - mean)
    correction = count / (count - 1) if count > 1 else 0.0
    return mean, np.sqrt(correction * (sums**2).sum(0)) / len(values)


@dataclass(frozen=True)
class Choice:
    """One of K candidates for each of C classes.

    Attributes:
        index: of the candidate that is best on all images `[C]`, or of the one before where it is not kept.
        crossed: of the candidate that the other folds choose for an image `[N, C]`, or of the one before likewise.
        verdict: `[C]`, of the candidates that the other folds choose against those before.
        scores: `[N, C]`, cross-fitted, with what is kept.
    """

    index: Index
    crossed: Index
    verdict: Verdict
    scores: Scores


def choose(
    scores: Scores,
    split: Split,
    margin: float,
    before: Index | int = 0,
    *,
    cost: Index | None = None,
    scored: Scores | None = None,
) -> Choice:
    """Choose a candidate for each class, where one gains more than noise over the candidate before.

    Args:
        scores: `[N, K, C]` of every image, candidate and class.
        split: folds and patients of the images.
        margin: in standard errors, see `judge`.
        before: index of the candidate that stays unless another is worth it, `[C]` or the same for all classes.
        cost: `[K]`; of equally good candidates the cheapest is taken. The first, if not given.
        scored: `[N, C]`, cross-fitted, of the candidate before; its own scores, if not given.
    """
    count, candidates, classes = scores.shape
    cost = np.arange(candidates) if cost is None else cost
    before = np.broadcast_to(before, classes)
    crossed = np.tile(before, (count, 1))
    for fold in np.unique(split.folds) if split.decides else ():
        here = split.folds == fold
        crossed[here] = _best(scores[~here], cost)
    base = _taken(scores, np.tile(before, (count, 1))) if scored is None else scored
    tried = _taken(scores, crossed) if split.decides else base
    best, (gain, error, worth) = _best(scores, cost), judge(tried - base, split, margin)
    kept = worth & (best != before)
    return Choice(
        np.where(kept, best, before),
        np.where(kept, crossed, before),
        Verdict(gain, error, kept),
        np.where(kept, tried, base),
    )


def _best(scores: Scores, cost: Index) -> Index:
    """Index of the candidate with the highest mean `[C]`; of equals the cheapest."""
    means = scores.mean(0)
    equal = means >= means.max(0) - ROUNDING
    return np.where(equal, cost[:, None], cost.max() + 1).argmin(0)


def _taken(scores: Scores, index: Index) -> Scores:
    """The scores `[N, C]` of the candidates of each image and class."""
    return np.take_along_axis(scores, index[:, None], 1)[:, 0]
