"""Self-contained HTML pages: sections of charts, tables and pictures, each with what to take from it in a sentence.

A page asks nothing of any network: its styles, its scripts, one copy of plotly.js (compressed, unpacked when the first
chart comes into view) and all pictures lie in the file, and its content security policy forbids the browser the rest.
Charts name colours of the page as `var(--series-1)`, see templates/page.css, so that they follow light and dark.
"""

import base64
import gzip
import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader
from markupsafe import Markup, escape

from bonepipe.files import replacing

if TYPE_CHECKING:  # takes a second to import, and the viewer draws no charts
    from plotly.graph_objects import Figure

Cell = str | int | float | None
QUALITY = 78  # of WebP; outlines stay sharp


@dataclass(frozen=True)
class Part:
    """Something in a section.

    Attributes:
        title: what it shows.
        says: what to take from it, a sentence or two.
        wide: whether it takes the whole width of the page; else two stand side by side where there is room.
    """

    title: str
    says: str
    wide: bool = field(default=False, kw_only=True)

    @property
    def kind(self) -> str:
        """The name by which the template tells parts apart."""
        return type(self).__name__.lower()


@dataclass(frozen=True)
class Chart(Part):
    """A plotly figure; its layout's `height` is kept, width, fonts and colours are the page's."""

    figure: "Figure"

    @property
    def height(self) -> int:
        """Pixels that it takes."""
        return int(self.figure.layout.height or 380)

    @property
    def json(self) -> Markup:
        """The figure as JSON that can stand inside a script element."""
        return safe_json(self.figure.to_json())


@dataclass(frozen=True)
class Table(Part):
    """Rows under columns, which a click on a column's head sorts; numbers have `digits` behind the point."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    digits: int = 3

    @property
    def heads(self) -> list[tuple[str, bool]]:
        """Each column's head, and whether numbers stand below it."""
        below = zip(*self.rows, strict=True) if self.rows else ((),) * len(self.columns)
        numbers = [all(cell is None or isinstance(cell, int | float) for cell in cells) for cells in below]
        return list(zip(self.columns, numbers, strict=True))


@dataclass(frozen=True)
class Picture:
    """A picture: a data URI (see `picture`) or, where a server shows the page, an address; a click enlarges it."""

    source: str
    width: int
    height: int
    caption: str


@dataclass(frozen=True)
class Gallery(Part):
    """Pictures, at least `least` pixels wide on screens that are wide enough, below an optional legend."""

    pictures: Sequence[Picture]
    least: int = 260
    legend: Sequence[tuple[str, str]] = ()  # name, CSS colour


@dataclass(frozen=True)
class Text(Part):
    """Lines: a list of findings, a note."""

    lines: Sequence[str] = ()
    level: Literal["", "warning", "error"] = ""


@dataclass(frozen=True)
class Section:
    """Parts under one heading, with what to take from all of them."""

    title: str
    says: str
    parts: Sequence[Part]

    @property
    def anchor(self) -> str:
        """The address of the section inside the page."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.title.lower())


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        lead: what it is about, below the title.
        facts: a few numbers that stand above all sections: name, value.
    """

    title: str
    lead: str
    sections: Sequence[Section]
    facts: Sequence[tuple[str, str]] = ()


def render(page: Page) -> str:
    """The page as HTML."""
    charts = any(isinstance(part, Chart) for section in page.sections for part in section.parts)
    return environment().get_template("page.html").render(page=page, plotly=_plotly() if charts else None)


def write(path: Path, page: Page) -> None:
    """Write the page, whole or not at all. Raises OSError where that fails."""
    text = render(page)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def picture(image: np.ndarray, caption: str, longest: int = 900) -> Picture:
    """A picture uint8 `[H, W]` or RGB `[H, W, 3]`, not larger than `longest` pixels, as WebP inside the page."""
    scale = min(1.0, longest / max(image.shape[:2]))
    if scale < 1:
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    shown = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    content = cv2.imencode(".webp", shown, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])[1].tobytes()
    source = "data:image/webp;base64," + base64.b64encode(content).decode()
    return Picture(source, image.shape[1], image.shape[0], caption)


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Jinja's environment of the templates; pages of other layouts extend `base.html`."""
    made = Environment(loader=PackageLoader("bonepipe.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    made.filters["shown"] = shown
    made.filters["prose"] = prose
    made.globals["source"] = _source
    made.globals["policy"] = policy
    return made


def shown(cell: Cell, digits: int = 3) -> str:
    """A table's cell as text; None and NaN are a dash."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return "–"
    return f"{cell:.{digits}f}" if isinstance(cell, float) else f"{cell:,}" if isinstance(cell, int) else cell


def prose(text: str) -> Markup:
    """A sentence as HTML, what stands between backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # escaped before it is marked up


def safe_json(text: str) -> Markup:
    """JSON that can stand inside a script element whatever its strings hold."""
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)


def policy(*scripts: str) -> str:
    """A content security policy under which only these scripts run, and nothing is loaded from anywhere."""
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    allowed = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src {allowed}"


def _source(name: str) -> Markup:
    """A style sheet or script of the templates, to stand inside the page as it is."""
    made = environment()
    assert made.loader is not None
    return Markup(made.loader.get_source(made, name)[0])


@lru_cache(maxsize=1)
def _plotly() -> dict[str, Any]:
    """plotly.js: its text, whose digest the policy needs, and the same compressed for the page."""
    from plotly.offline import get_plotlyjs

    text = get_plotlyjs()
    return {"text": text, "packed": base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()}
