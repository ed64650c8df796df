"""How far a wrist is bent sideways, told from the silhouette of hand and forearm alone: no label, no model."""

import math

import cv2
import numpy as np

from bonepipe.data.image import resize_grey

SIDE = 256  # pixels of the longer side that the geometry is measured at
SKIN = 0.6  # of Otsu's threshold, which falls between soft tissue and bone
WRIST = (0.5, 0.88)  # where the wrist is looked for, as shares of the silhouette's height
WAIST = 0.85  # the wrist is narrower than this share of the hand's widest row, or it is none
FOREARM_ROWS = 5  # fewer rows below the wrist give no direction
FINGERS = 0.65  # the hand's direction is that of its points farther from the wrist than this share of the farthest


def bend_angle(grey: np.ndarray) -> float:
    """The angle between forearm and hand, in degrees; NaN where no hand with a forearm below it is to be seen.

    The silhouette is narrowest at the wrist. The forearm's direction is a line through the middles of the rows below;
    the hand's is the median direction, seen from the wrist, of the points far away: mostly the three middle fingers,
    whatever the thumb does. Fingers point up, as they do in hand radiographs; left and right do not matter. The
    radiograph is uint8 `[H, W]`, of any size.
    """
    height, width = (max(1, round(side * SIDE / max(grey.shape))) for side in grey.shape)
    inside = silhouette(resize_grey(grey, (height, width)))
    wrist = _wrist_row(inside)
    if wrist is None:
        return math.nan
    forearm, column = _forearm(inside, wrist)
    return abs(_hand(inside[:wrist], column, wrist) - forearm)


def silhouette(grey: np.ndarray) -> np.ndarray:
    """Where the hand is: the largest connected bright part of uint8 `[h, w]`, as bool `[h, w]`."""
    smooth = cv2.GaussianBlur(grey, (0, 0), max(grey.shape) / 128)
    level, _ = cv2.threshold(smooth, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    count, parts, statistics, _ = cv2.connectedComponentsWithStats((smooth > level * SKIN).astype(np.uint8))
    if count < 2:
        return np.zeros(grey.shape, bool)
    return parts == 1 + statistics[1:, cv2.CC_STAT_AREA].argmax()


def _wrist_row(inside: np.ndarray) -> int | None:
    """The narrowest row in the lower half of the silhouette, if there is hand above and forearm below it."""
    widths = inside.sum(1)
    rows = np.flatnonzero(widths)
    if len(rows) < 4 * FOREARM_ROWS:
        return None
    low, high = (rows[0] + round(share * len(rows)) for share in WRIST)
    wrist = low + int(np.convolve(widths, np.ones(5), "same")[low:high].argmin())
    narrow = 0 < widths[wrist] < WAIST * widths[:wrist].max()
    return wrist if narrow and rows[-1] - wrist > FOREARM_ROWS else None


def _forearm(inside: np.ndarray, wrist: int) -> tuple[float, float]:
    """The forearm's lean to the right in degrees, and its middle column at the wrist."""
    widths = inside.sum(1)
    rows = np.flatnonzero(widths[wrist:])[:-FOREARM_ROWS] + wrist  # the last rows are cut by the collimator
    middles = (inside[rows] @ np.arange(inside.shape[1])) / widths[rows]
    slope, column = np.polyfit(rows - wrist, middles, 1) if len(rows) > 1 else (0.0, middles[0])
    return math.degrees(math.atan(-slope)), float(column)


def _hand(above: np.ndarray, column: float, wrist: int) -> float:
    """The hand's lean to the right in degrees, seen from the wrist."""
    rows, columns = np.nonzero(above)
    right, up = columns - column, wrist - rows
    distance = np.hypot(right, up)
    far = distance > FINGERS * distance.max()
    return float(np.median(np.degrees(np.arctan2(right[far], up[far]))))
