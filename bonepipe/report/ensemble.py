"""An ensemble's members and their mean, as a table."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bonepipe.inference.thresholds import ThresholdChoice


def table(
    rows: Sequence[Mapping[str, Any]], choice: ThresholdChoice, scores: Mapping[str, Any], gain: tuple[str, Any] | None
) -> Iterator[str]:
    """The members and the ensemble, each with its Dice out of fold on the same images.

    Args:
        rows: of each member `member`, `weight`, `classes` (how many), `oof_dice_at_half`.
        choice: the ensemble's thresholds.
        scores: as scores.json holds them.
        gain: the best member and the paired change of Dice over it, where there is one to compare with.
    """
    width = max(len("with its thresholds"), *(len(row["member"]) for row in rows))
    yield f"{'member':<{width}} {'weight':>7} {'classes':>7} {'OOF Dice':>9}"
    for row in rows:
        yield f"{row['member']:<{width}} {row['weight']:7g} {row['classes']:7d} {row['oof_dice_at_half']:9.4f}"
    count, beside = choice.dice.shape[1], ""
    if gain is not None:
        name, change = gain
        error = "" if change.standard_error is None else f" +- {change.standard_error:.4f}"
        beside = f"  {change.change:+.4f}{error} over {name}"
    yield f"{'ensemble':<{width}} {'':7} {count:7d} {scores['oof_dice_at_half']:9.4f}{beside}"
    kept, processed = int(choice.kept.sum()), scores.get("postprocess_gain", 0.0)
    limited = scores["oof_dice"] - processed
    yield f"{'with its thresholds':<{width}} {'':7} {count:7d} {limited:9.4f}  {kept} classes leave 0.5"
    if "postprocess_gain" in scores:
        yield f"{'and post-processing':<{width}} {'':7} {count:7d} {scores['oof_dice']:9.4f}  {processed:+.4f}"
