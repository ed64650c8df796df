"""A part of every radiograph looked at closely: crops of the original image around the bones of some classes."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bonepipe.labels.cutout import Box, bounds
from bonepipe.ranges import Amount, Share

Shape = tuple[int, int]
BOTH = 2  # a crop may be shifted to either side


@dataclass(frozen=True, kw_only=True)
class Region:
    """Which part of the image a run sees; all else of the run stays as it is.

    Attributes:
        classes: the part is the box of these classes' masks, in the proportions of data.size.
        margin: added on every side, as a share of the box's side.
        jitter: training shifts the crop by up to this share of its sides, and what the radiograph really shows there
            comes into view: a predicted box is not as good as the true one. Scaling is left to the augmentation.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - pydantic's name: a misspelt key is refused

    classes: tuple[str, ...]
    margin: Amount = 0.15
    jitter: Share = 0.05

    def __post_init__(self) -> None:
        if not self.classes:
            raise ValueError("data.region.classes: name at least one class, or set data.region=null")
        if not (math.isfinite(self.margin) and self.margin >= 0):
            raise ValueError(f"data.region.margin={self.margin}: a share of the box, 0 or more")
        if not 0 <= self.jitter <= 0.5:
            raise ValueError(f"data.region.jitter={self.jitter}: a share of the crop, from 0 to 0.5")

    def crop(self, box: Box, shape: Shape) -> Box:
        """The crop around a box, in the proportions of `shape`; it may reach beyond the image.

        Its sides are the smallest whole numbers of pixels that hold the box and the margin.
        """
        height = max(box.height, box.width * shape[0] / shape[1]) * (1 + 2 * self.margin)
        return _centred(box, math.ceil(height), math.ceil(height * shape[1] / shape[0]))

    def wide(self, crop: Box) -> Box:
        """The crop with all around it that the jitter can bring into view."""
        height, width = self.wide_shape((crop.height, crop.width))
        return _centred(crop, height, width)

    def wide_shape(self, shape: Shape) -> Shape:
        """Height and width of the wide crop where the crop has `shape`."""
        return math.ceil(shape[0] * (1 + BOTH * self.jitter)), math.ceil(shape[1] * (1 + BOTH * self.jitter))


def _centred(box: Box, height: int, width: int) -> Box:
    top, left = (box.top + box.bottom - height) // 2, (box.left + box.right - width) // 2
    return Box(top, left, top + height, left + width)


def jittered(shape: Shape, wide: Shape, seed: int) -> Box:
    """A crop of `shape` anywhere inside an image of shape `wide`, in whole pixels, as the seed says."""
    rng = np.random.default_rng((seed, 1))  # another stream than that of the same draw's augmentation
    top, left = (int(rng.integers(full - side + 1)) for side, full in zip(shape, wide, strict=True))
    return Box(top, left, top + shape[0], left + shape[1])


def smallest_box(mask: NDArray[np.bool_]) -> Box | None:
    """The smallest box that holds a mask `[H, W]`; None for an empty one."""
    box = bounds(mask)
    return box if box.height else None


def cut(image: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    """The part of an image `[H, W, ...]` inside a box; 0 where the box reaches beyond it."""
    inside = box.overlap(Box(0, 0, image.shape[0], image.shape[1]))
    if inside == box:
        return image[box.slices]
    result = np.zeros((box.height, box.width, *image.shape[2:]), image.dtype)
    if inside is not None:
        result[inside.moved(-box.top, -box.left).slices] = image[inside.slices]
    return result


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes' areas."""
    shared = a.overlap(b)
    common = shared.height * shared.width if shared else 0
    return common / (a.height * a.width + b.height * b.width - common)
