"""Frames: how an image of any shape is shown at the one shape that a model sees, and how its maps come back.

A network that learned bones of one aspect does not know them when they are squeezed. So an image is scaled into the
largest centred box of its own aspect, and what is left of the frame is black, as the air around a hand is.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bonepipe.data.region import cut
from bonepipe.labels.cutout import Box

Shape = tuple[int, int]
Fit = Literal["pad", "stretch"]
Pixels = NDArray[np.uint8]
Span = tuple[float, float]  # the least and the greatest aspect, height / width
RARE = 0.05  # share of the images at either end of a span
LIKE = 1.1  # aspects that differ by less than this factor look alike


@dataclass(frozen=True)
class Frame:
    """A shape that images are brought to.

    Attributes:
        shape: height and width in pixels.
        fit: `pad` keeps an image's aspect; `stretch` fills the frame, whatever becomes of it.
    """

    shape: Shape
    fit: Fit = "stretch"

    def box(self, image: Shape) -> Box:
        """Where an image of this height and width lies in the frame.

        The margins at opposite borders are equal, so that a mirrored frame shows the mirrored image in the same place.
        The aspect is kept but for the pixel or two that whole numbers ask for.
        """
        if self.fit == "stretch":
            return Box(0, 0, *self.shape)
        scale = min(full / side for full, side in zip(self.shape, image, strict=True))
        top, left = (_margin(full, side * scale) for full, side in zip(self.shape, image, strict=True))
        return Box(top, left, self.shape[0] - top, self.shape[1] - left)

    def place(self, image: Pixels, resize: Callable[[Pixels, Shape], Pixels]) -> Pixels:
        """An image uint8 `[H, W, ...]` as the frame shows it, `[h, w, ...]`, resized by a function; 0 around it."""
        box = self.box((image.shape[0], image.shape[1]))
        return cut(resize(image, (box.height, box.width)), Box(0, 0, *self.shape).moved(-box.top, -box.left))

    def content(self, maps: Any, image: Shape) -> Any:
        """The part of maps `[..., h, w]`, an array or a tensor, that shows an image of this height and width."""
        return maps[(..., *self.box(image).slices)]


def aspects(shapes: Iterable[Shape]) -> Span:
    """The span of the aspects of images of these heights and widths, at least one; a rare odd one is no part of it."""
    low, high = np.quantile([height / width for height, width in shapes], [RARE, 1 - RARE]).tolist()
    return low, high


def unlike(shape: Shape, span: Span) -> bool:
    """Whether an image of this height and width has an aspect well outside a span."""
    return not span[0] / LIKE <= shape[0] / shape[1] <= span[1] * LIKE


def strangers(shapes: Mapping[str, Shape], known: Span, fit: Fit) -> str | None:
    """What to tell of those images, by name, whose aspect is none of the known ones; None where there is none."""
    names = [name for name, shape in shapes.items() if unlike(shape, known)]
    if not names:
        return None
    here, there = (f"{low:.2f} to {high:.2f}" for low, high in (aspects(shapes[name] for name in names), known))
    how = "padded, which makes what they show smaller" if fit == "pad" else "squeezed out of shape (data.fit=pad pads)"
    return (
        f"{len(names)} of {len(shapes)} images have another aspect (height / width {here}; {names[0]}) than those "
        f"trained on ({there}): they are {how}; crop them to what those show"
    )


def _margin(full: int, side: float) -> int:
    """Pixels between a border of a frame and an image's `side` in it; a pixel of the image at least is left."""
    return min(round((full - side) / 2), (full - 1) // 2)
