"""The competition's Dice coefficient from areas."""

from typing import Any

SMOOTH = 1e-4


def dice(intersection: Any, area_a: Any, area_b: Any, smooth: float = SMOOTH) -> Any:
    """(2 |A and B| + smooth) / (|A| + |B| + smooth), elementwise on numbers, arrays or tensors.

    Two empty masks score 1. Areas are pixels.

    >>> round(dice(50, 100, 100), 6)
    0.5
    """
    return (2 * intersection + smooth) / (area_a + area_b + smooth)
