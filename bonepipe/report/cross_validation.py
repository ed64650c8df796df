"""What a cross-validation chose and what it is worth, as text."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bonepipe.inference import thresholds
from bonepipe.inference.thresholds import ThresholdChoice

if TYPE_CHECKING:
    from bonepipe.inference.postprocess.operations import ChosenOperations  # imports PyTorch

NO_CHOICE = (
    "nothing was chosen: all images validate one fold, and no choice can be tried on another; thresholds stay 0.5 and "
    "masks as they are; nor is known how much the best epoch, chosen on these images, adds (folds=group has more folds)"
)


def text(
    classes: Sequence[str],
    choice: ThresholdChoice,
    by_stratum: Mapping[str, ThresholdChoice],
    operations: "ChosenOperations | None",
    crf: "ChosenOperations | None",
    scores: Mapping[str, Any],
) -> str:
    """Classes from the worst to the best, the Dice over all, by stratum and by size, and what each choice gains."""
    lines = [
        *_classes(classes, choice),
        *summary(scores),
        *([NO_CHOICE] if len(scores["folds"]) < 2 else _choices(choice, by_stratum, operations, crf)),
    ]
    return "\n".join(lines)


def _classes(classes: Sequence[str], choice: ThresholdChoice) -> Iterator[str]:
    yield f"{'class':<24} {'OOF Dice':>9} {'threshold':>9} {'gain':>8}"
    for number in np.argsort(choice.dice.mean(0)):
        dice, threshold, gain = choice.dice[:, number].mean(), choice.thresholds[number], choice.gain[number]
        yield f"{classes[number]:<24} {dice:9.4f} {threshold:9.3f} {gain:+8.4f}"


def deviation(folds: Sequence[float]) -> float:
    """The standard deviation over the folds; 0 for a hold-out."""
    return float(np.std(folds, ddof=1)) if len(folds) > 1 else 0.0


def summary(scores: Mapping[str, Any]) -> Iterator[str]:
    """The Dice over all, by stratum where there are several, and by size of the object."""
    spread = f"{np.mean(scores['folds']):.4f} +- {deviation(scores['folds']):.4f} over the folds"
    yield f"out-of-fold Dice {scores['oof_dice']:.4f} ({scores['oof_dice_at_half']:.4f} at threshold 0.5, {spread})"
    if "best_epoch_gain" in scores:
        chosen = "each fold's best epoch was chosen on these images, and not by the other folds (without views)"
        yield f"  of which {scores['best_epoch_gain']:.4f} because {chosen}"
    if "oof_miou" in scores:
        accuracy = scores["oof_pixel_accuracy_at_half"]
        yield f"out-of-fold mean IoU {scores['oof_miou']:.4f}; pixel accuracy {accuracy:.4f} at threshold 0.5"
    yield from _strata(scores)
    sizes = ", ".join(f"{size} {dice:.4f}" for size, dice in scores["oof_dice_by_size"].items())
    yield f"by size of the object (thirds by true area): {sizes or 'there is none'}"


def _strata(scores: Mapping[str, Any]) -> Iterator[str]:
    rows = scores.get("strata", {})
    if len(rows) < 2:
        return
    yield f"{'stratum':<24} {'OOF Dice':>9} {'images':>9} {'share':>8} {'in test':>8}"
    for name, row in rows.items():
        dice = "-" if row["dice"] is None else f"{row['dice']:.4f}"
        yield f"{name:<24} {dice:>9} {row['images']:9d} {row['share']:8.1%} {row['test_share']:8.1%}"
    if "oof_dice_weighted" in scores:
        yield f"out-of-fold Dice weighted to the test set's mix {scores['oof_dice_weighted']:.4f}"


def _choices(
    choice: ThresholdChoice,
    by_stratum: Mapping[str, ThresholdChoice],
    operations: "ChosenOperations | None",
    crf: "ChosenOperations | None",
) -> Iterator[str]:
    yield from _thresholds(choice, by_stratum)
    yield from _selection("post-processing of masks", operations, "at these thresholds")
    yield from _selection("dense CRF", crf, "at thresholds of its own")


def _thresholds(choice: ThresholdChoice, by_stratum: Mapping[str, ThresholdChoice]) -> Iterator[str]:
    """How many thresholds were worth a change."""
    kept = choice.kept
    yield f"thresholds: {kept.sum()} of {len(kept)} classes leave 0.5; the others gain no more than noise"
    if by_stratum:
        moved = ", ".join(f"{stratum} {strata_choice.kept.sum()}" for stratum, strata_choice in by_stratum.items())
        gain = thresholds.gain_by_stratum(dict(by_stratum))
        yield f"thresholds by stratum: {moved} of {len(kept)} classes leave the common one, {gain:+.4f} out of fold"


def _selection(title: str, selection: "ChosenOperations | None", where: str) -> Iterator[str]:
    """How many classes gain by an optional step, and what that is worth over all classes."""
    if selection is not None:
        kept, count = sum(map(bool, selection.operations)), len(selection.operations)
        yield f"{title}: kept for {kept} of {count} classes, {selection.change.mean():+.4f} out of fold {where}"
