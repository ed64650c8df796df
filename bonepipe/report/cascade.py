"""What the second stage of a cascade gains, as a table."""

from collections.abc import Iterator, Mapping
from typing import Any


def table(record: Mapping[str, Any], before: float, after: float) -> Iterator[str]:
    """The classes of the region, how well it is found, and the Dice of all classes at 0.5 before and after."""
    width = max(map(len, record["classes"]))
    yield f"{'class':<{width}} {'first':>8} {'second':>8} {'blend':>8} {'weight':>7} {'gain':>8} {'+- s.e.':>8}"
    for name, row in record["classes"].items():
        dice = " ".join(f"{row[key]:8.4f}" for key in ("first", "second", "blend"))
        gain, error = row["cross_fitted_gain"], row["standard_error"]
        yield f"{name:<{width}} {dice} {row['weight']:7.2f} {gain:+8.4f} {error:8.4f}"
    box = record["box"]
    if box["found"]:
        yield (
            f"box: found in {box['found']} of {box['images']} images, IoU with the true one {box['iou']:.3f} "
            f"({box['worst_iou']:.3f} at worst); the second stage's Dice is {box['dice_at_predicted_box']:.4f} there "
            f"and {box['dice_at_true_box']:.4f} at the true box"
        )
    yield f"out-of-fold Dice at threshold 0.5: {before:.4f} -> {after:.4f}"
