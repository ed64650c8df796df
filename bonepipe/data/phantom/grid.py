"""Blurring and resizing of float32 images, where smooth things are computed on coarse grids."""

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]


def blur(image: Image, sigma: float | tuple[float, float]) -> Image:
    """Blur by a Gaussian of `sigma` pixels, or of (across, down) pixels."""
    across, down = sigma if isinstance(sigma, tuple) else (sigma, sigma)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), across, sigmaY=down), np.float32)


def resize(image: Image, shape: tuple[int, int], interpolation: int = cv2.INTER_LINEAR) -> Image:
    """Resize to `shape` (rows, columns)."""
    return np.asarray(cv2.resize(image, shape[::-1], interpolation=interpolation), np.float32)


def root(image: Image) -> Image:
    """Square root, 0 for negative numbers."""
    return np.asarray(cv2.sqrt(np.maximum(image, 0)), np.float32)


def smooth(image: Image, sigma: float, grid: int = 128) -> Image:
    """Blur a square image by a wide Gaussian of `sigma` (as a share of its side), on a coarse grid."""
    size = len(image)
    small = blur(resize(image, (grid, grid), cv2.INTER_AREA), sigma * grid)
    return resize(small, (size, size))
