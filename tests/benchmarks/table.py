"""The table: rows on the screen and in docs/benchmarks.md."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from bonepipe.parallel import cores
from bonepipe.report import markdown

from .measure import Pair

HEADER = ("step", "baseline", "ours", "ratio", "target", "met", "results compared")


@dataclass(frozen=True)
class Row:
    """One line: texts with their units; `met` is None where there is no target."""

    step: str
    baseline: str = ""
    ours: str = ""
    ratio: str = ""
    target: str = ""
    met: bool | None = None
    checked: str = ""

    @property
    def cells(self) -> tuple[str, ...]:
        """The texts in the order of HEADER."""
        met = {None: "", True: "yes", False: "**no**"}[self.met]
        return self.step, self.baseline, self.ours, self.ratio, self.target, met, self.checked


def duration(seconds: float) -> str:
    """Milliseconds as people read them.

    >>> duration(0.0123), duration(3.14)
    ('12.3 ms', '3,140 ms')
    """
    number = seconds * 1e3
    return f"{number:,.0f} ms" if number >= 100 else f"{number:.1f} ms" if number >= 10 else f"{number:.2f} ms"


def faster(step: str, pair: Pair, at_least: float | None, checked: str) -> Row:
    """A row of two timings."""
    target = "" if at_least is None else f"at least {at_least:g}x"
    met = None if at_least is None else pair.ratio >= at_least
    ratio = f"{pair.ratio:,.0f}x" if pair.ratio >= 10 else f"{pair.ratio:.1f}x"
    return Row(step, duration(pair.baseline), duration(pair.ours), ratio, target, met, checked)


def machine() -> str:
    """What the numbers were measured on."""
    import cv2

    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    libraries = f"Python {platform.python_version()}, torch {torch.__version__}, OpenCV {cv2.__version__}"
    where = f"{cores()} cores ({platform.machine()}), load average {load} at the start"
    return f"{where}, one thread unless the step says otherwise; {libraries}."


def render(rows: Sequence[Row]) -> str:
    """Markdown, columns aligned."""
    return markdown.table(HEADER, [row.cells for row in rows])


def write(path: Path, rows: Sequence[Row], note: str) -> None:
    """Replace what lies between the markers, or add it at the end; the rest of the file stays."""
    markdown.replace_block(path, "bench", f"{note}\n\n{render(rows)}", "Benchmarks")
