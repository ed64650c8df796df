"""Masks as SVG paths along the edges of their pixels: exact at every zoom, and three bytes an edge."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bonepipe.labels.cutout import Cutout, hull, inside


def path(mask: Cutout) -> str:
    """The outline of a mask as the `d` of an SVG path; empty for an empty mask.

    The pixel of row y and column x covers the square from (x, y) to (x + 1, y + 1). Filled by the even-odd rule the
    path gives the mask back, holes and all.
    """
    canvas = np.asarray(mask.mask, np.uint8)
    if not canvas.any():
        return ""
    # OpenCV traces the centres of border pixels. Those of a picture twice as large stand beside the edges of the pixels
    # here: 2 x and 2 x - 1 at the edge x. A corner that the tracing cuts has both its ends at one point.
    doubled = np.ascontiguousarray(canvas.repeat(2, axis=0).repeat(2, axis=1))
    contours, _ = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    corner = np.array([mask.box.left, mask.box.top])
    return "".join(_ring((contour.reshape(-1, 2) + 1) // 2 + corner) for contour in contours)


def _ring(points: NDArray[Any]) -> str:
    """A closed line through points `[K, 2]`, each on a row or column with the next one or equal to it."""
    corners = points[(points != np.roll(points, -1, axis=0)).any(axis=1)]
    (x, y), steps = corners[0].tolist(), np.diff(corners, axis=0).tolist()
    return f"M{x} {y}{''.join(f'h{across}' if across else f'v{down}' for across, down in steps)}z"


def difference(truth: Cutout, predicted: Cutout) -> tuple[Cutout, Cutout]:
    """What was missed (false negatives), and what is too much (false positives)."""
    box = hull((truth.box, predicted.box))
    true, said = inside(truth, box), inside(predicted, box)
    return Cutout(box, true & ~said), Cutout(box, said & ~true)
