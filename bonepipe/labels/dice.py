"""The competition's Dice coefficient from areas, IoU from it, and its means by size of the object."""

from typing import Any

import numpy as np

SMOOTH = 1e-4
SIZES = ("small", "medium", "large")


def dice(intersection: Any, area_a: Any, area_b: Any, smooth: float = SMOOTH) -> Any:
    """(2 |A and B| + smooth) / (|A| + |B| + smooth), elementwise on numbers, arrays or tensors.

    Two empty masks score 1. Areas are pixels.

    >>> round(dice(50, 100, 100), 6)
    0.5
    """
    return (2 * intersection + smooth) / (area_a + area_b + smooth)


def iou_of_dice(dice: Any) -> Any:
    """|A and B| / |A or B|, with half of Dice's smoothing, from Dice: elementwise, 1 for two empty masks.

    >>> round(iou_of_dice(0.5), 6)
    0.333333
    """
    return dice / (2 - dice)


def dice_by_size(dice: np.ndarray, areas: np.ndarray) -> dict[str, float]:
    """Mean Dice of small, medium and large objects: thirds by true area, all images and classes together.

    Members of an ensemble that differ in it complement each other.

    Args:
        dice: `[N, C]` of every image and class.
        areas: of the true masks in pixels, `[N, C]`; what is not there (0) has no size and counts nowhere.

    Returns:
        Size -> mean Dice; a size that no object has is left out. Objects as large as the edge of two thirds belong to
        the lower one.
    """
    there = areas > 0
    if not there.any():
        return {}
    edges = np.quantile(areas[there], (1 / 3, 2 / 3))
    third = np.searchsorted(edges, areas[there])
    return {name: float(dice[there][third == k].mean()) for k, name in enumerate(SIZES) if (third == k).any()}
