"""Masks drawn over radiographs."""

import colorsys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from bonepipe.files import replacing
from bonepipe.labels.cutout import Box, Cutout, hull, inside

Colour = tuple[int, int, int]
# Okabe and Ito's colours, lighter; for more classes, colours of which neighbours in the list are far apart in OKLab
# (Ottosson 2020) for trichromats, protanopes and deuteranopes (Machado et al. 2009). All are light enough for black.
FEW: tuple[Colour, ...] = (
    (86, 180, 233), (240, 170, 0), (0, 200, 140), (240, 120, 190), (245, 235, 80), (240, 100, 40), (130, 140, 255),
    (215, 215, 215),
)  # fmt: skip
MANY: tuple[Colour, ...] = (
    (80, 235, 160), (0, 160, 0), (120, 200, 200), (200, 235, 120), (120, 120, 200), (200, 160, 255), (200, 0, 255),
    (255, 160, 120), (120, 160, 120), (255, 200, 0), (235, 80, 0), (235, 120, 200), (160, 235, 200), (235, 0, 200),
    (200, 200, 255), (0, 160, 255), (255, 235, 160), (120, 200, 120), (235, 160, 0), (160, 120, 80), (255, 0, 80),
    (255, 160, 200), (235, 80, 235), (0, 255, 255), (0, 160, 160), (200, 255, 0), (200, 255, 200), (80, 235, 80),
    (255, 200, 160), (235, 120, 80), (255, 80, 160), (120, 160, 200),
)  # fmt: skip
MISSED, EXTRA, SWAPPED = (240, 125, 50), (86, 180, 233), (250, 235, 90)
ERRORS = (("missed", MISSED), ("too much", EXTRA), ("taken for another class", SWAPPED))
DIMMED = 0.55  # of the picture below errors
BAR, INK = 24, (235, 235, 235)  # grey of the strips that hold words, and the words


def palette(classes: int, given: Sequence[Colour] = ()) -> list[Colour]:
    """RGB colours, one a class: those given, else distinct ones, else evenly spaced hues where they do not suffice."""
    if given:
        return list(given)
    for colours in (FEW, MANY):
        if classes <= len(colours):
            return list(colours[:classes])
    hues = (colorsys.hsv_to_rgb(number / classes, 0.6, 0.95) for number in range(classes))
    return [(round(255 * r), round(255 * g), round(255 * b)) for r, g, b in hues]


def css(colour: Colour) -> str:
    """A colour as style sheets write it."""
    return f"rgb({colour[0]}, {colour[1]}, {colour[2]})"


def draw(image: np.ndarray, masks: Sequence[Cutout], colours: Sequence[Colour], opacity: float = 0.4) -> np.ndarray:
    """Fill and outline masks over an image.

    Args:
        image: uint8 `[H, W]`, or RGB `[H, W, 3]`.
        masks: one a class, at the image's size.
        colours: one a class.
        opacity: of the fill; outlines are opaque.

    Returns:
        RGB uint8 `[H, W, 3]`.
    """
    canvas = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if image.ndim == 2 else image.copy()
    width = max(1, round(max(image.shape[:2]) / 700))
    for mask, colour in zip(masks, colours, strict=True):
        part = canvas[mask.box.slices]
        part[mask.mask] = (part[mask.mask] * (1 - opacity) + np.array(colour) * opacity).astype(np.uint8)
    for mask, colour in zip(masks, colours, strict=True):
        outlines, _ = cv2.findContours(mask.mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        corner = (mask.box.left, mask.box.top)
        cv2.drawContours(canvas, outlines, -1, colour, width, cv2.LINE_AA, offset=corner)
    return canvas


def errors(image: np.ndarray, truth: Sequence[Cutout], predicted: Sequence[Cutout]) -> np.ndarray:
    """Where masks differ: pixels that are missed, too much, or both, of one class and of another; see ERRORS.

    Args:
        image: uint8 `[H, W]`.
        truth, predicted: masks of the classes, at the image's size.

    Returns:
        RGB uint8 `[H, W, 3]`, the picture dimmed.
    """
    whole = Box(0, 0, image.shape[0], image.shape[1])
    missed, extra = np.zeros(image.shape, np.bool_), np.zeros(image.shape, np.bool_)
    for true, said in zip(truth, predicted, strict=True):
        box = hull([true.box, said.box]).overlap(whole)
        if box is not None:
            there, drawn = inside(true, box), inside(said, box)
            missed[box.slices] |= there & ~drawn
            extra[box.slices] |= drawn & ~there
    canvas = (cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) * DIMMED).astype(np.uint8)
    for where, colour in ((missed, MISSED), (extra, EXTRA), (missed & extra, SWAPPED)):
        canvas[where] = colour
    return canvas


def headed(title: str, picture: np.ndarray) -> np.ndarray:
    """A picture RGB uint8 below a line of words."""
    strip = np.full((34, picture.shape[1], 3), BAR, np.uint8)
    cv2.putText(strip, title, (10, 23), cv2.FONT_HERSHEY_SIMPLEX, 0.6, INK, 1, cv2.LINE_AA)
    return np.vstack([strip, picture])


def legend(entries: Sequence[tuple[str, Colour]], width: int) -> np.ndarray:
    """Names beside their colours, RGB uint8, in as many lines as the width in pixels asks for."""
    line, places, x, y = 26, [], 10, 0
    for name, _ in entries:
        size = 40 + cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)[0][0]
        if x + size > width and x > 10:
            x, y = 10, y + line
        places.append((x, y))
        x += size
    strip = np.full((y + line + 4, width, 3), BAR, np.uint8)
    for (name, colour), (left, top) in zip(entries, places, strict=True):
        cv2.rectangle(strip, (left, top + 8), (left + 13, top + 21), colour, -1)
        cv2.putText(strip, name, (left + 19, top + 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, INK, 1, cv2.LINE_AA)
    return strip


def titled(panels: Sequence[tuple[str, np.ndarray]], height: int = 640) -> np.ndarray:
    """Pictures RGB uint8 side by side, each under its title, scaled to one height in pixels."""
    columns = []
    for title, picture in panels:
        width = round(picture.shape[1] * height / picture.shape[0])
        scaled = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        strip = np.full((34, width, 3), BAR, np.uint8)
        cv2.putText(strip, title, (10, 23), cv2.FONT_HERSHEY_SIMPLEX, 0.55, INK, 1, cv2.LINE_AA)
        columns.append(np.vstack([strip, scaled]))
    return np.hstack(columns)


def stacked(strips: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures RGB uint8 below each other, the narrower ones filled up with black."""
    width = max(strip.shape[1] for strip in strips)
    return np.vstack([np.pad(strip, ((0, 0), (0, width - strip.shape[1]), (0, 0))) for strip in strips])


def save(path: Path, picture: np.ndarray) -> None:
    """Write uint8 `[H, W]` or RGB `[H, W, 3]` as PNG or JPEG, whole. Raises OSError where it cannot be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_bytes(encoded(path.suffix, picture))


def encoded(suffix: str, picture: np.ndarray) -> bytes:
    """A picture as the bytes of a file: OpenCV itself would not say why it cannot write one."""
    shown = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    return cv2.imencode(suffix, shown)[1].tobytes()
