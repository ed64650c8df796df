"""Post-processing of predicted masks: operations, and which of them each class keeps.

Operations work on cutouts, so that they cost what a bone costs and not what its radiograph costs. None of them looks
beyond the box: outside it is background, which is what the full frame holds there.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from bonepipe.data.store import Store
from bonepipe.errors import suggestion
from bonepipe.inference.crossfit import Split, choose
from bonepipe.inference.postprocess.crf import CrfSpec
from bonepipe.labels import upsample
from bonepipe.labels.cutout import Cutout
from bonepipe.parallel import cores
from bonepipe.ranges import Rest

Shape = tuple[int, int]
Operations = tuple[str, ...]


def largest_component(mask: Cutout) -> Cutout:
    """Keep the largest 8-connected part; of equally large ones that with the first pixel in reading order."""
    labels, areas = _components(mask)
    if len(areas) < 2:
        return mask
    tied = np.isin(labels, 1 + np.flatnonzero(areas == areas.max()))
    return Cutout(mask.box, labels == labels.flat[tied.argmax()])


def remove_small(mask: Cutout, pixels: float) -> Cutout:
    """Remove 8-connected parts of fewer than so many pixels."""
    labels, areas = _components(mask)
    if not (areas < pixels).any():
        return mask
    return Cutout(mask.box, np.append(False, areas >= pixels)[labels])


def fill_holes(mask: Cutout) -> Cutout:
    """Fill background that no 4-connected path leads out of, as scipy.ndimage.binary_fill_holes does."""
    background = np.pad(~mask.mask, 1, constant_values=True).astype(np.uint8)
    count, labels = cv2.connectedComponents(background, connectivity=4)
    if count <= 2:  # the mask and the outside
        return mask
    return Cutout(mask.box, labels[1:-1, 1:-1] != labels[0, 0])


def _components(mask: Cutout) -> tuple[NDArray[Any], NDArray[Any]]:
    """Labels from 1 of the 8-connected parts `[h, w]`, and their areas in pixels."""
    if not mask.mask.size:
        return np.zeros(mask.mask.shape, np.int32), np.zeros(0, np.int32)
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.mask.astype(np.uint8), connectivity=8)
    return labels, statistics[1:, cv2.CC_STAT_AREA]


@dataclass(frozen=True, kw_only=True)
class PostprocessSpec:
    """What may happen to probabilities and masks.

    Attributes:
        operations: to try on masks, of OPERATIONS; they are always applied in that order.
        min_area: parts smaller than this share of the image's pixels are removed by the operation `min_area`.
        crf: a dense CRF on the mean probabilities of the classes that gain by it (see `crf_choice`), or None.
    """

    operations: Operations = ()
    min_area: Rest = 1e-4
    crf: CrfSpec | None = None

    def __post_init__(self) -> None:
        for name in self.operations:
            if name not in OPERATIONS:
                hint = suggestion(name, OPERATIONS) or f"; there are {', '.join(OPERATIONS)}"
                raise ValueError(f"postprocess.operations: no operation {name!r}{hint}")
        if not 0 <= self.min_area < 1:
            raise ValueError(f"postprocess.min_area={self.min_area}: a share of the image, from 0 to below 1")

    def candidates(self) -> list[Operations]:
        """Every combination of the operations: none of them first, fewer before more."""
        known = [name for name in OPERATIONS if name in self.operations]
        return [chosen for count in range(len(known) + 1) for chosen in combinations(known, count)]

    def apply(self, operations: Sequence[str], mask: Cutout, shape: Shape) -> Cutout:
        """Apply some operations to a mask of an image of `shape`; the same object comes back where nothing changes."""
        for name, operation in OPERATIONS.items():
            if name in operations:
                mask = operation(mask, self.min_area * shape[0] * shape[1])
        return mask

    def apply_all(self, operations: Sequence[Sequence[str]], masks: Sequence[Cutout], shape: Shape) -> list[Cutout]:
        """Apply its operations to each class's mask."""
        return [self.apply(chosen, mask, shape) for chosen, mask in zip(operations, masks, strict=True)]


OPERATIONS: dict[str, Callable[[Cutout, float], Cutout]] = {
    "fill_holes": lambda mask, _: fill_holes(mask),
    "min_area": remove_small,
    "largest": lambda mask, _: largest_component(mask),
}


def candidate_dice(
    spec: PostprocessSpec, masks: Sequence[Cutout], truth: Sequence[Cutout], shape: Shape
) -> NDArray[np.float64]:
    """Dice `[K, C]` of an image's masks, one a class, after each of the spec's candidates."""
    plain = upsample.dice_scores(masks, truth)
    rows = np.tile(plain, (len(spec.candidates()), 1))
    for row, operations in zip(rows, spec.candidates(), strict=True):
        for label, mask in enumerate(masks):
            changed = spec.apply(operations, mask, shape)
            if changed is not mask:
                row[label] = upsample.dice_scores([changed], [truth[label]])[0]
    return rows


def score(
    masks: Callable[[str, Sequence[float]], list[Cutout]],
    names: Sequence[str],
    limits: Sequence[Sequence[float]],
    store: Store,
    spec: PostprocessSpec,
) -> NDArray[np.float64]:
    """Dice `[N, K, C]` of images' out-of-fold masks at the thresholds that are applied, after each candidate.

    Args:
        masks: an image's masks, one a class, from its name and thresholds.
        limits: thresholds in class order, a row an image.
        store: with the truth of the images.
    """

    def score_image(name: str, thresholds: Sequence[float]) -> NDArray[np.float64]:
        shape, truth = store.shape(store.index[name]), store.truth(store.index[name])
        return candidate_dice(spec, masks(name, thresholds), truth, shape)

    workers = min(cores(), 4)  # NumPy and OpenCV release the interpreter
    with ThreadPoolExecutor(workers) as pool:
        return np.stack(list(tqdm(pool.map(score_image, names, limits), "post-processing", len(names), unit="image")))


@dataclass(frozen=True)
class ChosenOperations:
    """The operations that each class keeps, and what they are worth.

    Attributes:
        operations: a tuple of names a class; empty where masks stay as they are.
        gain: mean Dice gained by operations chosen on other folds, `[C]`, whether kept or not.
        error: standard error of that gain, `[C]`.
        change: of Dice by the operations that are kept, cross-fitted, `[N, C]`.
    """

    operations: list[Operations]
    gain: NDArray[np.float64]
    error: NDArray[np.float64]
    change: NDArray[np.float64]


def choose_operations(
    dice: NDArray[np.float64], split: Split, margin: float, candidates: Sequence[Operations]
) -> ChosenOperations:
    """Choose the operations of each class, by the rule of `crossfit.choose`; of equally good ones the fewest.

    Args:
        dice: `[N, K, C]` of every image, candidate and class.
        split: folds and patients of the images.
        margin: in standard errors.
        candidates: K of them; the first is empty, and fewer operations come before more.
    """
    chosen = choose(dice, split, margin)
    gain, error, _ = chosen.verdict
    return ChosenOperations([candidates[k] for k in chosen.index], gain, error, chosen.scores - dice[:, 0])
