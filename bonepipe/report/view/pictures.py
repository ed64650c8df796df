"""A radiograph as a browser wants it: a JPEG of the size that is looked at, and lossless tiles of its own pixels."""

import cv2
import numpy as np

from bonepipe.data.image import resize_grey
from bonepipe.errors import BonepipeError

SIZES = (128, 512, 1024, 2048)  # pixels of the longer side
TILE = 512  # pixels a side
QUALITY = 88  # of JPEG: no block is seen, as what is looked at closely comes in tiles


def jpeg(grey: np.ndarray, longest: int) -> bytes:
    """A picture of an image uint8 `[H, W]`, its longer side `longest` pixels or its own."""
    scale = min(1.0, longest / max(grey.shape))
    height, width = (max(1, round(side * scale)) for side in grey.shape)
    small = resize_grey(grey, (height, width))
    return cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def tile(grey: np.ndarray, row: int, column: int) -> bytes:
    """A square of an image as PNG; those at the right and lower border are smaller. BonepipeError for none."""
    part = grey[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
    if min(row, column) < 0 or not part.size:
        raise BonepipeError(f"tile {row}, {column}: beyond the image")
    return cv2.imencode(".png", part, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
