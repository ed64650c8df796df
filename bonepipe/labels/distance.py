"""How far the outline of one mask is from that of another."""

import cv2
import numpy as np
from numpy.typing import NDArray

from bonepipe.labels.cutout import Cutout, hull, inside

FAR = 95  # percentile of the robust Hausdorff distance


def boundary_distances(a: Cutout, b: Cutout) -> NDArray[np.float32]:
    """Distance in pixels of each boundary pixel of either mask to the boundary of the other; none where one is empty.

    A boundary pixel is inside its mask and has a neighbour (up, down, left, right) outside. The mean of these distances
    is the average symmetric surface distance, their 95th percentile the robust Hausdorff distance (Taha and Hanbury,
    "Metrics for evaluating 3D medical image segmentation", 2015, section 2.5).
    """
    if not (a.mask.any() and b.mask.any()):
        return np.zeros(0, np.float32)
    box = hull([a.box, b.box])
    edges = [_edge(inside(mask, box)) for mask in (a, b)]
    fields = [distance_to_zero((~edge).astype(np.uint8)) for edge in edges]
    return np.concatenate([fields[1][edges[0]], fields[0][edges[1]]]).astype(np.float32)


def distance_to_zero(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Euclidean distance in pixels of each pixel of `[h, w]` to the nearest 0, of which there is one, float32 `[h, w]`.

    OpenCV's differ from call to call in their last bits. Their squares are whole numbers.
    """
    squares = np.square(cv2.distanceTransform(image, cv2.DIST_L2, cv2.DIST_MASK_PRECISE))
    return np.sqrt(np.rint(squares, out=squares), out=squares)


def _edge(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The boundary pixels of a mask `[h, w]`; beyond its borders nothing is inside."""
    padded = np.pad(mask, 1)
    core = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.asarray(mask & ~core)
