"""Do small objects score worse than large ones? Members that differ in this complement each other."""

import numpy as np

SIZES = ("small", "medium", "large")


def dice_by_size(dice: np.ndarray, areas: np.ndarray) -> dict[str, float]:
    """Mean Dice of small, medium and large objects: thirds by true area, all images and classes together.

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
