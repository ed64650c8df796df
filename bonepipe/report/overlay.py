"""Masks drawn over radiographs."""

import colorsys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from bonepipe.files import replacing
from bonepipe.labels.cutout import Cutout

Colour = tuple[int, int, int]


def palette(classes: int, given: Sequence[Colour] = ()) -> list[Colour]:
    """RGB colours, one a class: those given, else evenly spaced hues."""
    if given:
        return list(given)
    hues = (colorsys.hsv_to_rgb(number / classes, 0.75, 0.95) for number in range(classes))
    return [(round(255 * r), round(255 * g), round(255 * b)) for r, g, b in hues]


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


def titled(panels: Sequence[tuple[str, np.ndarray]], height: int = 640) -> np.ndarray:
    """Pictures RGB uint8 side by side, each under its title, scaled to one height in pixels."""
    columns = []
    for title, picture in panels:
        width = round(picture.shape[1] * height / picture.shape[0])
        scaled = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        strip = np.full((34, width, 3), 24, np.uint8)
        cv2.putText(strip, title, (10, 23), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (235, 235, 235), 1, cv2.LINE_AA)
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
