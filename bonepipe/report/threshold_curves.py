"""Dice at every threshold as small multiples, which tell a peak from the noise of a plateau."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from bonepipe.inference.thresholds import ThresholdChoice
from bonepipe.labels.histogram import HALF_BIN, THRESHOLDS
from bonepipe.report.overlay import Colour

COLUMNS, WIDTH = 6, 1600  # panels a row, pixels
PANEL_HEIGHT, HEADER = 190, 76  # pixels
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 32, 24  # from a panel's edges to its axes, pixels
INK, FAINT, GRID, PAPER = (38, 43, 51), (128, 134, 144), (230, 232, 236), (255, 255, 255)
FOLD, MEAN, CHOSEN, STRATUM = (160, 194, 224), (22, 84, 148), (210, 84, 20), (128, 58, 164)
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)  # from line to line of a grid
USUAL = slice(64, 193)  # thresholds from 0.25 to 0.75
FRACTION = 4  # bits of a pixel that lines are placed by


class Axes(NamedTuple):
    """Where a panel's curves are drawn, pixels, and the Dice at its lower and upper edge."""

    left: int
    top: int
    width: int
    height: int
    low: float
    high: float

    def across(self, threshold: float) -> int:
        """Pixels from the left edge."""
        return round(threshold * (self.width - 1))

    def down(self, dice: float) -> int:
        """Pixels from the upper edge."""
        return round((self.high - dice) / (self.high - self.low) * (self.height - 1))


def draw(
    classes: Sequence[str],
    mean: np.ndarray,
    folds: np.ndarray,
    choice: ThresholdChoice,
    by_stratum: Mapping[str, ThresholdChoice] | None = None,
) -> np.ndarray:
    """Draw a panel a class, worst class first: mean Dice over the threshold, and where it was set.

    All panels span the same range of Dice, below the class's best, so that slopes compare.

    Args:
        classes: their names.
        mean: Dice `[C, 256]` at thresholds k / 256, mean over all images.
        folds: the same over each fold's images, `[F, C, 256]`.
        choice: the thresholds, and what they gain.
        by_stratum: thresholds that some strata have instead.

    Returns:
        RGB uint8 `[H, 1600, 3]`.
    """
    order, span = np.argsort(choice.dice.mean(0), kind="stable").tolist(), _span(mean)
    canvas = np.full((HEADER + -(-len(order) // COLUMNS) * PANEL_HEIGHT, WIDTH, 3), PAPER, np.uint8)
    _header(canvas, folds=len(folds), strata=bool(by_stratum))
    for place, label in enumerate(order):
        best = float(mean[label].max())
        axes = _axes(place, min(float(folds[:, label].max()), best + 0.3 * span) + 0.06 * span, 1.1 * span)
        _grid(canvas, axes)
        _curves(canvas, axes, mean[label], folds[:, label], float(choice.thresholds[label]))
        _title(canvas, axes, classes[label], choice, label)
        others = {name: other.thresholds[label] for name, other in (by_stratum or {}).items() if other.kept[label]}
        _mark_strata(canvas, axes, others)
    return canvas


def _span(mean: np.ndarray) -> float:
    """The range of Dice that half of the classes keep to at the usual thresholds; what is far below is cut off."""
    return float(np.clip(np.median(mean.max(1) - mean[:, USUAL].min(1)), 0.02, 1))


def _axes(place: int, high: float, span: float) -> Axes:
    row, column = divmod(place, COLUMNS)
    left, right = (WIDTH * number // COLUMNS for number in (column, column + 1))
    width, height = right - left - LEFT - RIGHT, PANEL_HEIGHT - TOP - BOTTOM
    return Axes(left + LEFT, HEADER + row * PANEL_HEIGHT + TOP, width, height, high - span, high)


def _inside(canvas: np.ndarray, axes: Axes) -> np.ndarray:
    """The part of the canvas that the curves may use; what is drawn beyond it is cut off."""
    return canvas[axes.top : axes.top + axes.height, axes.left : axes.left + axes.width]


def _grid(canvas: np.ndarray, axes: Axes) -> None:
    """Light lines with their values."""
    part, bottom = _inside(canvas, axes), axes.top + axes.height
    for threshold in (0.0, 0.25, 0.5, 0.75, 1.0):
        part[:, axes.across(threshold)] = GRID
        if threshold in (0.0, 0.5, 1.0):
            _text(canvas, f"{threshold:g}", (axes.left + axes.across(threshold), bottom + 15), 11, FAINT, "centre")
    step = next((step for step in STEPS if (axes.high - axes.low) / step <= 4), STEPS[-1])
    for number in range(int(np.ceil(axes.low / step)), int(np.floor(axes.high / step)) + 1):
        row = axes.down(number * step)
        part[row] = GRID
        _text(canvas, f"{number * step:.2f}", (axes.left - 6, axes.top + row + 4), 11, FAINT, "right")


def _curves(canvas: np.ndarray, axes: Axes, mean: np.ndarray, folds: np.ndarray, threshold: float) -> None:
    part, half = _inside(canvas, axes), axes.across(0.5)
    for row in range(0, axes.height, 6):
        part[row : row + 3, half] = FAINT
    for fold in folds:
        _line(part, axes, fold, FOLD, 1)
    _line(part, axes, mean, MEAN, 2)
    colour = CHOSEN if threshold != THRESHOLDS[HALF_BIN] else FAINT
    here = axes.across(threshold), axes.down(mean[round(threshold * len(mean))])
    if colour == CHOSEN:
        cv2.line(part, (here[0], 0), (here[0], axes.height), colour, 1)
    cv2.circle(part, here, 5, PAPER, -1, cv2.LINE_AA)
    cv2.circle(part, here, 4, colour, -1, cv2.LINE_AA)


def _line(part: np.ndarray, axes: Axes, curve: np.ndarray, colour: Colour, width: int) -> None:
    """A curve `[256]` over its thresholds; at threshold 0 every mask is the whole image."""
    across = THRESHOLDS[1:] * (axes.width - 1)
    down = (axes.high - curve[1:]) / (axes.high - axes.low) * (axes.height - 1)
    points = np.rint(np.stack([across, np.clip(down, -1, 4 * axes.height)], 1) * (1 << FRACTION)).astype(np.int32)
    cv2.polylines(part, [points], False, colour, width, cv2.LINE_AA, FRACTION)


def _title(canvas: np.ndarray, axes: Axes, name: str, choice: ThresholdChoice, label: int) -> None:
    """The class; the threshold and what it gains over 0.5, in colour where it was kept."""
    kept, row = bool(choice.kept[label]), axes.top - 10
    _text(canvas, name, (axes.left, row), 14, INK, weight=600)
    gain = f"{round(choice.gain[label], 4) + 0.0:+.4f}"  # adding 0 takes the sign off a zero
    words = f"{choice.thresholds[label]:.2f}   {gain}" if kept else gain
    _text(canvas, words, (axes.left + axes.width, row), 13, CHOSEN if kept else FAINT, "right", 600 if kept else 400)


def _mark_strata(canvas: np.ndarray, axes: Axes, thresholds: Mapping[str, float]) -> None:
    """A line down to the name; below the arch of the curves there is room."""
    for number, (name, threshold) in enumerate(thresholds.items()):
        across, row = axes.across(threshold), axes.height - 6 - 15 * number
        cv2.line(_inside(canvas, axes), (across, 0), (across, row - 11), STRATUM, 1)
        _text(canvas, f"{name} {threshold:.2f}", (axes.left + across, axes.top + row), 11, STRATUM, "centre", 600)


def _header(canvas: np.ndarray, folds: int, strata: bool) -> None:
    """What the panels show, and what their colours mean."""
    _text(canvas, "Dice out of fold at every threshold, worst class first", (LEFT, 32), 20, INK, weight=600)
    at = LEFT
    entries: list[tuple[Colour, int, str]] = [(MEAN, 2, "all images")]
    entries += [(FOLD, 2, f"each of {folds} folds")] * (folds > 1)
    entries += [(CHOSEN, 2, "chosen threshold and its cross-fitted gain over 0.5")]
    entries += [(STRATUM, 2, "of a stratum")] * strata
    entries += [(FAINT, 2, "0.5, where no gain exceeds the noise")]
    for colour, width, words in entries:
        cv2.line(canvas, (at, 53), (at + 22, 53), colour, width, cv2.LINE_AA)
        at = _text(canvas, words, (at + 29, 57), 13, FAINT) + 26


def _text(
    canvas: np.ndarray,
    words: str,
    at: tuple[int, int],
    size: int,
    colour: Colour,
    side: str = "left",
    weight: int = 400,
) -> int:
    """Write words whose left end, centre or right end is at x, y (the base line); returns the x of their end."""
    font = cv2.FontFace("sans")
    width = cv2.getTextSize((WIDTH, HEADER), words, (0, 0), font, size, weight)[2]
    left = at[0] - {"left": 0, "centre": width // 2, "right": width}[side]
    cv2.putText(canvas, words, (left, at[1]), colour, font, size, weight)
    return left + width
