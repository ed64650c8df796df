"""Cross-fitting: what was chosen on the other folds, scored on the fold left out, so that no gain is flattered."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
Folds = NDArray[np.int64]
Choice = NDArray[np.intp]


def cross_fitted(
    scores: Scores, folds: Folds, choose: Callable[[Scores, Folds], Choice], otherwise: Scores, axis: int = 1
) -> Scores:
    """Scores `[N, C]` of each fold's images with the candidates that are chosen on the other folds.

    Args:
        scores: of every image, candidate and class: candidates along `axis`, images along axis 0.
        folds: the fold that each image validates, `[N]`.
        choose: from the scores and folds of some images to a candidate's index for each class, `[C]`.
        otherwise: `[N, C]`, where there are no other folds to choose on.
        axis: of the candidates, 1 or 2.
    """
    result = otherwise.copy()
    for fold in np.unique(folds):
        here = folds == fold
        if not here.all():
            index = np.expand_dims(choose(scores[~here], folds[~here]), (0, axis))
            result[here] = np.take_along_axis(scores[here], index, axis).squeeze(axis)
    return result


def mean_and_error(values: Scores) -> tuple[Scores, Scores]:
    """Mean over the images, the first axis, and its standard error; an error of 0 for a single image."""
    count = len(values)
    return values.mean(0), values.std(0, ddof=1 if count > 1 else 0) / np.sqrt(count)
