"""How often each byte value occurs."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

# cv2.calcHist counts in float32, which holds every integer up to this one.
_EXACT_IN_FLOAT32 = 1 << 24


def byte_counts(image: NDArray[np.uint8], channel: int = 0, mask: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """Count int64 [256] the values of an image `[H, W]` or one channel of `[H, W, P]`, where a mask `[H, W]` is set.

    Several times as fast as np.bincount, which would need the bytes as int64.
    """
    rows = max(1, _EXACT_IN_FLOAT32 // max(1, image.shape[1]))
    counts = np.zeros(256, np.int64)
    for top in range(0, image.shape[0], rows):
        part = np.ascontiguousarray(image[top : top + rows])
        where: Any = None if mask is None else np.ascontiguousarray(mask[top : top + rows]).view(np.uint8)
        if part.size:
            counts += cv2.calcHist([part], [channel], where, [256], [0, 256]).ravel().astype(np.int64)
    return counts
