"""A scatter plot of cross-validation against leaderboard scores, drawn with OpenCV."""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from bonepipe.errors import BonepipeError
from bonepipe.files import replacing
from bonepipe.report import examples
from bonepipe.report.leaderboard import BOARDS, FEWEST, MEASURES, Agreement, Entry

SIDE, LEFT, TOP, RIGHT, BELOW = 520, 86, 100, 24, 62  # of the plot proper, and its margins, pixels
SCALE = 2  # drawn so much larger, then shrunk, which smooths the markers
INK, FAINT, GRID, WHITE = (45, 45, 45), (150, 150, 150), (228, 228, 228), (255, 255, 255)
COLOURS = {"oof_dice": (0, 114, 178), "oof_dice_weighted": (213, 94, 0)}  # told apart by the colour-blind
STEPS = (1, 2, 5, 10, 20)  # of the axes, times a power of ten

Place = tuple[int, int]  # x, y, pixels
Rectangle = tuple[int, int, int, int]  # left, top, right, bottom


def save(path: Path, entries: Sequence[Entry], by_pair: Mapping[tuple[str, str], Agreement]) -> None:
    """Write the picture. Raises BonepipeError where there is nothing to draw."""
    drawn = picture(entries, by_pair)
    if drawn is None:
        raise BonepipeError(f"{path}: not drawn: no run has scores of both sides (--public, --private record them)")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        examples.save(part, drawn)


def picture(entries: Sequence[Entry], by_pair: Mapping[tuple[str, str], Agreement]) -> np.ndarray | None:
    """A panel a leaderboard, RGB uint8: each run's Dice there over its Dice in cross-validation, plain and weighted.

    Both axes have the same scale, so that the dashed line of equal scores rises at 45 degrees. A thin line joins the
    two measures of a run, which is named where there is room. None where no run has both sides.
    """
    boards = [board for board in BOARDS if any((measure, board) in by_pair for measure in MEASURES)]
    panels = [_Panel(entries, board, by_pair).draw() for board in boards]
    return np.hstack(panels) if panels else None


@cache
def _font() -> cv2.FontFace:
    return cv2.FontFace("sans")


class _Panel:
    """One leaderboard's plot while it is drawn; places are in pixels of the finished picture."""

    def __init__(self, entries: Sequence[Entry], board: str, by_pair: Mapping[tuple[str, str], Agreement]) -> None:
        self.board, self.agreements = board, by_pair
        self.runs = [entry for entry in entries if board in entry.board and entry.cv]
        self.size = LEFT + SIDE + RIGHT, TOP + SIDE + BELOW
        self.canvas = np.full((self.size[1] * SCALE, self.size[0] * SCALE, 3), 255, np.uint8)
        across = [score for entry in self.runs for score in entry.cv.values()]
        up = [entry.board[board] for entry in self.runs]
        self.span = 1.3 * max(np.ptp(across), np.ptp(up), 0.004)
        self.start = tuple((min(scores) + max(scores) - self.span) / 2 for scores in (across, up))

    def draw(self) -> np.ndarray:
        """The panel, RGB uint8."""
        self._axes()
        self._diagonal()
        self._points()
        self._heading()
        return cv2.resize(self.canvas, self.size, interpolation=cv2.INTER_AREA)

    def place(self, across: float, up: float) -> Place:
        """Where a pair of scores lies."""
        x = LEFT + SIDE * (across - self.start[0]) / self.span
        y = TOP + SIDE * (1 - (up - self.start[1]) / self.span)
        return round(x), round(y)

    def _axes(self) -> None:
        for x, text in ticks(self.start[0], self.span):
            at = self.place(x, self.start[1])
            self._line((at[0], TOP), at, GRID)
            self._text(text, (at[0], at[1] + 20), 13, centre=True)
        for y, text in ticks(self.start[1], self.span):
            at = self.place(self.start[0], y)
            self._line(at, (LEFT + SIDE, at[1]), GRID)
            self._text(text, (at[0] - 9 - self._width(text, 13), at[1] + 5), 13)
        self._line((LEFT, TOP), (LEFT, TOP + SIDE), FAINT)
        self._line((LEFT, TOP + SIDE), (LEFT + SIDE, TOP + SIDE), FAINT)
        self._text("Dice in cross-validation (out of fold)", (LEFT + SIDE // 2, TOP + SIDE + 46), 15, centre=True)

    def _diagonal(self) -> None:
        """Where both scores are equal, as far as it is in view."""
        low, high = max(self.start), min(self.start) + self.span
        if low >= high:
            return
        dashes = np.linspace(low, high, 2 * max(2, round(40 * (high - low) / self.span)))
        for a, b in zip(dashes[::2], dashes[1::2], strict=True):
            self._line(self.place(a, a), self.place(b, b), FAINT)

    def _points(self) -> None:
        marks = [{key: self.place(cv, run.board[self.board]) for key, cv in run.cv.items()} for run in self.runs]
        taken: list[Rectangle] = []
        for of_run in marks:
            first, last = min(of_run.values()), max(of_run.values())
            self._line(first, last, FAINT)
            taken.append((first[0], first[1] - 1, last[0], last[1] + 1))
        for of_run in marks:
            for key, (x, y) in of_run.items():
                self._dot((x, y), 7, WHITE)
                self._dot((x, y), 6, COLOURS[key])
                taken.append((x - 8, y - 8, x + 8, y + 8))
        for run, of_run in zip(self.runs, marks, strict=True):
            self._name(run.name, list(of_run.values()), taken)

    def _name(self, name: str, places: Sequence[Place], taken: list[Rectangle]) -> None:
        """Write a run's name beside its points, at the first place where it covers nothing."""
        width, (left, y), right = self._width(name, 13), min(places), max(places)[0]
        middle = (left + right - width) // 2
        for x, base in ((right + 11, y + 5), (left - 11 - width, y + 5), (middle, y - 13), (middle, y + 23)):
            box = (x, base - 12, x + width, base + 4)
            inside = x > LEFT and x + width <= LEFT + SIDE and base - 12 > TOP and base + 4 < TOP + SIDE
            if inside and not any(_overlap(box, other) for other in taken):
                self._text(name, (x, base), 13)
                taken.append(box)
                return

    def _heading(self) -> None:
        self._text(f"Dice on the {self.board} leaderboard", (LEFT, 30), 20, weight=600)
        for row, (key, title) in enumerate(MEASURES.items()):
            if (agreement := self.agreements.get((key, self.board))) is not None:
                y = 56 + 22 * row
                self._dot((LEFT + 6, y - 5), 6, COLOURS[key])
                self._text(f"{title}: {_in_words(agreement)}", (LEFT + 20, y), 15)

    def _dot(self, place: Place, radius: int, colour: tuple[int, int, int]) -> None:
        centre = place[0] * SCALE, place[1] * SCALE
        cv2.circle(self.canvas, centre, radius * SCALE, colour, -1, cv2.LINE_AA)

    def _line(self, a: Place, b: Place, colour: tuple[int, int, int]) -> None:
        start, end = ((x * SCALE, y * SCALE) for x, y in (a, b))
        cv2.line(self.canvas, start, end, colour, SCALE, cv2.LINE_AA)

    def _text(self, text: str, place: Place, size: int, *, weight: int = 400, centre: bool = False) -> None:
        x = place[0] - (self._width(text, size) // 2 if centre else 0)
        cv2.putText(self.canvas, text, (x * SCALE, place[1] * SCALE), INK, _font(), size * SCALE, weight)

    def _width(self, text: str, size: int) -> int:
        return cv2.getTextSize((0, 0), text, (0, 0), _font(), size, 400)[2]


def ticks(start: float, span: float, most: int = 7) -> list[tuple[float, str]]:
    """Round numbers from `start` to `start + span`, evenly spaced, at most `most` of them, and how to write them."""
    power = math.floor(math.log10(span / most))
    step = next(factor * 10.0**power for factor in STEPS if span / (factor * 10.0**power) <= most - 1)
    values = np.arange(math.ceil(start / step), math.floor((start + span) / step) + 1) * step
    return [(value, f"{value:.{max(0, -power)}f}") for value in values.tolist()]


def _overlap(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _in_words(agreement: Agreement) -> str:
    runs = f"{agreement.runs} run{'s' if agreement.runs > 1 else ''}"
    if agreement.pearson is None or agreement.spearman is None:
        reason = "too few for a correlation" if agreement.runs < FEWEST else "one score is the same for all"
        return f"{runs}, {reason}"
    return f"Pearson {agreement.pearson:.2f}, Spearman {agreement.spearman:.2f} over {runs}"
