"""Label errors, found by what models say that never saw them (out-of-fold predictions).

A model trained on the other folds makes its own mistakes, but it makes them where a class is hard. So an annotation is
judged by what is usual for its class: Dice, area, number of parts. Stronger than a low Dice is a reason for it: other
labels would fit (permuted), a bone that is plain to see is not drawn (missing), or something was drawn that belongs to
no bone (extra). Confident learning (Northcutt et al. 2021) follows the same idea for labels of whole images.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from bonepipe.files import read_csv
from bonepipe.labels import cutout, polygon
from bonepipe.labels.cutout import Cutout
from bonepipe.labels.dice import dice

Masks = Sequence[Cutout]
Kind = Literal["permuted", "missing", "extra", "low"]

STAY = 0.05  # Dice that a label's own class is ahead of the others, so that overlapping bones do not trade places
FIT = 0.6  # of the usual Dice, on average over the classes that move: below, the new labels do not fit either
GAIN = 0.3  # of the usual Dice, gained on average by the classes that move
FAR_SMALLER = 0.25  # an annotation below this share of the prediction's area counts as missing
STRAY, HOLE = 0.03, 0.05  # shares of an annotation's area, below which strokes of the pen are forgiven
NOISE = 4.0  # robust standard deviations below the class's median that a Dice must lie
DROP = 0.1  # and so much in Dice
UNEXPLAINED = 0.5  # weight of a low Dice without a reason: the model may be wrong as well
SURE = 0.5  # score from which a correction is suggested
RELIABLE = 0.7  # usual Dice of a class from which its prediction may take an annotation's place
JUDGES = 0.5  # mean Dice of a class, or of all, below which a model is too weak to say that an annotation is wrong


@dataclass(frozen=True)
class ImageEvidence:
    """One image's annotation against its out-of-fold prediction.

    Attributes:
        matrix: Dice `[C, C]` of each annotated class (row) with each predicted class; 0 where one of them is empty.
        annotated, predicted: areas `[C]`, shares of the image.
        stray: share `[C]` of the annotated area in parts that the prediction does not touch, where it touches others.
        hole: share `[C]` of holes in what the annotation encloses.
        inner: bool `[C]`, an outline adds nothing to the others of its class.
    """

    name: str
    matrix: NDArray[np.float64]
    annotated: NDArray[np.float64]
    predicted: NDArray[np.float64]
    stray: NDArray[np.float64]
    hole: NDArray[np.float64]
    inner: NDArray[np.bool_]

    @property
    def dice(self) -> NDArray[np.float64]:
        """Dice `[C]` of each class with itself; 1 where both are empty."""
        return np.where((self.annotated == 0) & (self.predicted == 0), 1.0, np.diag(self.matrix))


@dataclass(frozen=True)
class Usual:
    """What is usual for each class over all images.

    Attributes:
        dice, spread: median and robust standard deviation `[C]` of the out-of-fold Dice.
        area: median annotated area `[C]` where there is one, share of the image.
        drawn: share `[C]` of the images with an annotation of the class.
        stray, hole, inner: shares `[C]` of the images with such a finding.
        mean: mean Dice `[C]` over the images in which the class is annotated or predicted; NaN where there is none.
    """

    dice: NDArray[np.float64]
    spread: NDArray[np.float64]
    area: NDArray[np.float64]
    drawn: NDArray[np.float64]
    stray: NDArray[np.float64]
    hole: NDArray[np.float64]
    inner: NDArray[np.float64]
    mean: NDArray[np.float64]

    @property
    def overall(self) -> float:
        """Mean Dice over the classes; 0 where there is nothing to compare."""
        known = self.mean[~np.isnan(self.mean)]
        return float(known.mean()) if known.size else 0.0

    @property
    def judges(self) -> NDArray[np.bool_]:
        """Bool `[C]`, whether the model is good enough at a class, and on the whole, to suggest corrections of it."""
        return (self.mean >= JUDGES) & (self.overall >= JUDGES)


@dataclass(frozen=True)
class LabelError:
    """A candidate for a wrong annotation.

    Attributes:
        classes: indices of the classes in doubt.
        kind: `permuted`, `missing`, `extra`, or `low` for a low Dice without a reason.
        score: 0 to 1, the larger the more suspicious.
        moved: class as drawn -> class that it should be, where permuted.
        replace: whether the prediction is suggested in the annotation's place.
        judged: whether the model is good enough at these classes to suggest a correction; else looking is all.
    """

    name: str
    classes: tuple[int, ...]
    kind: Kind
    score: float
    remark: str
    moved: dict[int, int] | None = None
    replace: bool = False
    judged: bool = True


def compare_masks(
    name: str, annotated: Masks, predicted: Masks, outlines: Sequence[Sequence[polygon.Points]], shape: tuple[int, int]
) -> ImageEvidence:
    """Compare an image's annotated with its predicted masks, one a class; `outlines` are the annotation's, a class."""
    pixels = shape[0] * shape[1]
    pairs = list(zip(annotated, predicted, strict=True))
    return ImageEvidence(
        name,
        dice_matrix(annotated, predicted),
        np.array([cutout.area(mask) for mask in annotated]) / pixels,
        np.array([cutout.area(mask) for mask in predicted]) / pixels,
        np.array([stray_share(*pair) for pair in pairs]),
        np.array([hole_share(mask) for mask in annotated]),
        np.array([has_inner(lines, shape) for lines in outlines]),
    )


def dice_matrix(annotated: Masks, predicted: Masks) -> NDArray[np.float64]:
    """Dice `[C, C]` of every annotated with every predicted mask; 0 where one is empty. Only boxes that meet count."""
    left, right = ([cutout.area(mask) for mask in masks] for masks in (annotated, predicted))
    matrix = np.zeros((len(left), len(right)))
    for row, column in product(np.flatnonzero(left).tolist(), np.flatnonzero(right).tolist()):
        common = cutout.intersection_area(annotated[row], predicted[column])
        if common:
            matrix[row, column] = dice(common, left[row], right[column])
    return matrix


def stray_share(drawn: Cutout, predicted: Cutout) -> float:
    """Share of an annotated mask in connected parts that the prediction does not touch, where it touches another."""
    if not drawn.mask.size:
        return 0.0
    count, parts = cv2.connectedComponents(np.ascontiguousarray(drawn.mask, np.uint8))
    if count < 3:  # the background is a part as well
        return 0.0
    touched = np.unique(parts[cutout.inside(predicted, drawn.box)])
    sizes = np.bincount(parts.ravel(), minlength=count)
    sizes[0] = 0
    lonely = sizes.sum() - sizes[touched].sum()
    return float(lonely / sizes.sum()) if lonely < sizes.sum() else 0.0


def hole_share(mask: Cutout) -> float:
    """Share of the holes in what a mask encloses."""
    if not mask.mask.any():
        return 0.0
    enclosed = cutout.area(polygon.cutout(polygon.outlines(mask), (mask.box.bottom, mask.box.right)))
    return 1 - cutout.area(mask) / enclosed


def has_inner(outlines: Sequence[polygon.Points], shape: tuple[int, int]) -> bool:
    """Whether one of a class's outlines adds nothing to the others: a ring inside a bone, a bone drawn twice."""
    if len(outlines) < 2:
        return False
    masks = [polygon.cutout([points], shape) for points in outlines]
    for number, mask in enumerate(masks):
        others = polygon.cutout([*outlines[:number], *outlines[number + 1 :]], shape)
        if cutout.intersection_area(mask, others) == cutout.area(mask):
            return True
    return False


def usual(evidence: Sequence[ImageEvidence]) -> Usual:
    """Medians and shares over all images."""
    scores = np.stack([item.dice for item in evidence])
    areas = np.stack([item.annotated for item in evidence])
    middle = np.median(scores, axis=0)
    there = (areas > 0) | (np.stack([item.predicted for item in evidence]) > 0)
    count, total = there.sum(0), np.where(there, scores, 0).sum(0)
    return Usual(
        dice=middle,
        spread=1.4826 * np.median(np.abs(scores - middle), axis=0),
        area=np.array([np.median(column[column > 0]) if column.any() else 0.0 for column in areas.T]),
        drawn=(areas > 0).mean(0),
        stray=np.mean([item.stray > STRAY for item in evidence], axis=0),
        hole=np.mean([item.hole > HOLE for item in evidence], axis=0),
        inner=np.mean([item.inner for item in evidence], axis=0),
        mean=np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0),
    )


def permutation(matrix: NDArray[np.float64], expected: NDArray[np.float64]) -> dict[int, int]:
    """Which labels should be which for the annotation to fit the prediction; empty where they are right.

    The assignment with the largest sum of Dice is taken apart into its cycles, and each has to earn its place.

    Args:
        matrix: Dice `[C, C]` of annotated with predicted classes.
        expected: usual Dice `[C]`.
    """
    from scipy.optimize import linear_sum_assignment

    _, goals = linear_sum_assignment(matrix + STAY * np.eye(len(matrix)), maximize=True)
    scale = np.maximum(expected, DROP)
    moved: dict[int, int] = {}
    for cycle in _cycles(goals.tolist()):
        right = [goals[label] for label in cycle]
        now, then = np.diag(matrix)[cycle] / scale[cycle], matrix[cycle, right] / scale[right]
        if then.mean() >= FIT and (then - now).mean() >= GAIN:
            moved |= dict(zip(cycle, [int(label) for label in right], strict=True))
    return moved


def _cycles(goals: Sequence[int]) -> list[list[int]]:
    """The cycles of a permutation, without the fixed points."""
    cycles, seen = [], set()
    for start in range(len(goals)):
        cycle, label = [], start
        while label not in seen:
            seen.add(label)
            cycle.append(label)
            label = goals[label]
        if len(cycle) > 1:
            cycles.append(cycle)
    return cycles


def rank(evidence: Sequence[ImageEvidence], classes: Sequence[str]) -> list[LabelError]:
    """All candidates, the most suspicious first; an image's class is in one of them at the most."""
    habits = usual(evidence)
    found = [candidate for item in evidence for candidate in _of_image(item, habits, classes)]
    candidates = [replace(candidate, judged=_judged(candidate, habits)) for candidate in found]
    return sorted(candidates, key=lambda candidate: (-candidate.score, candidate.name, candidate.classes))


def _judged(candidate: LabelError, habits: Usual) -> bool:
    labels = {*candidate.classes, *(candidate.moved or {}).values()}
    return bool(habits.judges[list(labels)].all())


def weakness(habits: Usual, classes: Sequence[str]) -> str | None:
    """A warning where the model is too weak to judge annotations, or those of some classes; None where it is not."""
    if habits.overall < JUDGES:
        return (
            f"warning: the model is too weak to judge annotations: its out-of-fold Dice is {habits.overall:.2f}, below "
            f"{JUDGES:g}; no correction is suggested, and what follows may be its own mistakes; train it longer first"
        )
    weak = [f"{classes[label]} {habits.mean[label]:.2f}" for label in np.flatnonzero(habits.mean < JUDGES).tolist()]
    if not weak:
        return None
    return f"warning: no correction is suggested where the out-of-fold Dice is below {JUDGES:g}: {', '.join(weak)}"


def _of_image(item: ImageEvidence, habits: Usual, classes: Sequence[str]) -> list[LabelError]:
    moved = permutation(item.matrix, habits.dice)
    candidates = [_permuted(item, habits, moved, classes)] if moved else []
    for label in range(len(classes)):
        if label not in moved:
            reasons = [*_missing(item, habits, label), *_extra(item, habits, label), *_low(item, habits, label)]
            candidates += sorted(reasons, key=lambda candidate: -candidate.score)[:1]
    return candidates


def _permuted(item: ImageEvidence, habits: Usual, moved: dict[int, int], classes: Sequence[str]) -> LabelError:
    drawn, right = list(moved), list(moved.values())
    scale = np.maximum(habits.dice, DROP)
    gain = np.mean(item.matrix[drawn, right] / scale[right] - np.diag(item.matrix)[drawn] / scale[drawn])
    text = ", ".join(f"{classes[label]} is {classes[goal]}" for label, goal in moved.items())
    return LabelError(item.name, tuple(drawn), "permuted", min(1.0, float(gain)), text, moved)


def _plausible(item: ImageEvidence, habits: Usual, label: int) -> float:
    """How like the class's usual area the predicted one is, 0 to 1: a model that sees little there proves little."""
    pair = item.predicted[label], habits.area[label]
    return float(min(pair) / max(pair)) if max(pair) else 0.0


def _missing(item: ImageEvidence, habits: Usual, label: int) -> list[LabelError]:
    drawn, predicted = item.annotated[label], item.predicted[label]
    if drawn >= FAR_SMALLER * predicted:
        return []
    score = float((1 - drawn / predicted) * _plausible(item, habits, label) * habits.drawn[label])
    text = "not drawn" if not drawn else f"drawn at {drawn / predicted:.0%} of the predicted area"
    return [_mendable(item, habits, label, "missing", score, text)]


def _extra(item: ImageEvidence, habits: Usual, label: int) -> list[LabelError]:
    candidates = []
    if item.inner[label]:
        text = "an outline inside another, or drawn twice: delete it; the mask is not affected"
        candidates.append(LabelError(item.name, (label,), "extra", float(1 - habits.inner[label]), text))
    told = "a part of {:.0%} lies outside of the predicted bone", "holes of {:.0%}"
    shares = (item.stray[label], STRAY, habits.stray[label]), (item.hole[label], HOLE, habits.hole[label])
    for text, (share, forgiven, habit) in zip(told, shares, strict=True):
        if share > forgiven:
            candidates.append(_mendable(item, habits, label, "extra", float(1 - habit), text.format(share)))
    return candidates


def _mendable(item: ImageEvidence, habits: Usual, label: int, kind: Kind, score: float, remark: str) -> LabelError:
    replace = score >= SURE and bool(habits.dice[label] >= RELIABLE)
    return LabelError(item.name, (label,), kind, score, remark, replace=replace)


def _low(item: ImageEvidence, habits: Usual, label: int) -> list[LabelError]:
    fall, expected = habits.dice[label] - item.dice[label], habits.dice[label]
    if fall < max(NOISE * habits.spread[label], DROP):
        return []
    score = UNEXPLAINED * fall / expected * _plausible(item, habits, label)
    text = f"Dice {item.dice[label]:.2f} where {expected:.2f} is usual"
    return [LabelError(item.name, (label,), "low", float(score), text)]


class Planted(NamedTuple):
    """An annotation that is known to be wrong."""

    name: str
    kind: str
    classes: frozenset[str]


def read_planted(path: Path) -> list[Planted]:
    """The rows of a planted.csv. Raises BonepipeError where it cannot be read."""
    rows = read_csv(path, ("image_name", "kind", "classes"))
    return [Planted(row["image_name"], row["kind"], frozenset(row["classes"].split())) for _, row in rows]


def score_planted(
    planted: Sequence[Planted], ranking: Sequence[LabelError], classes: Sequence[str]
) -> dict[str, tuple[int, int, int]]:
    """How well a ranking finds what is known to be wrong.

    Args:
        planted: P wrong annotations.
        ranking: all candidates, the most suspicious first.

    Returns:
        Kind, and `all` -> how many of them are among the first 2 P candidates (the image, and one of the classes in
        doubt), how many there are, and for how many a permutation of just their classes is suggested.
    """
    first = [(s.name, {classes[label] for label in s.classes}, s.moved) for s in ranking[: 2 * len(planted)]]
    result: dict[str, tuple[int, int, int]] = {}
    for row in planted:
        hits = [(doubted, moved) for name, doubted, moved in first if name == row.name and doubted & row.classes]
        mended = any(moved and doubted == row.classes for doubted, moved in hits)
        for kind in (row.kind, "all"):
            old = result.get(kind, (0, 0, 0))
            result[kind] = old[0] + bool(hits), old[1] + 1, old[2] + mended
    return {kind: result[kind] for kind in sorted(result, key=lambda kind: kind == "all")}


def suggestion(candidate: LabelError) -> str:
    """What to do about a candidate, in a word that the corrections file knows, or `look`."""
    if not candidate.judged:
        return "look"
    if candidate.moved:
        return "permute"
    if candidate.replace:
        return "replace"
    return "drop" if candidate.kind == "missing" and candidate.score >= SURE else "look"


def correction_rows(
    candidates: Sequence[LabelError], predicted: dict[str, list[str]], classes: Sequence[str]
) -> list[tuple[str, str, str, str, str]]:
    """Rows of a corrections file (image name, class, action, value, remark) for the candidates that are sure.

    Args:
        candidates: the candidates; those of which only looking helps give no row.
        predicted: run-length codes, one a class, of each image that has a candidate.
    """
    rows = []
    for candidate in candidates:
        action, reason = suggestion(candidate), f"{candidate.kind} {candidate.score:.2f}"
        for drawn, right in (candidate.moved or {}).items() if action == "permute" else ():
            rows.append((candidate.name, classes[drawn], action, classes[right], reason))
        if action in ("replace", "drop"):
            label = candidate.classes[0]
            value = predicted[candidate.name][label] if action == "replace" else ""
            rows.append((candidate.name, classes[label], action, value, f"{reason}: {candidate.remark}"))
    return rows
