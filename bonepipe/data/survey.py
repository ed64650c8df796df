"""A dataset at a glance: of each image what its pixels and its outlines tell, measured once, over all cores."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import combinations

import cv2
import numpy as np
from numpy.typing import NDArray

from bonepipe.data.annotation import read_with_faults
from bonepipe.data.catalog import Radiograph
from bonepipe.data.frame import Frame
from bonepipe.data.image import resize_grey
from bonepipe.data.spec import DataSpec
from bonepipe.data.thumbnails import Thumbnails, thumbnail
from bonepipe.data.wrist import bend_angle
from bonepipe.errors import BonepipeError
from bonepipe.labels import cutout, polygon
from bonepipe.labels.ceiling import ceiling
from bonepipe.labels.counts import byte_counts
from bonepipe.labels.cutout import Box, Cutout
from bonepipe.parallel import in_processes

SIZES = (256, 512, 1024, 1536)  # of a square frame, pixels
Shape = tuple[int, int]  # height and width, pixels
DETAIL = 512  # pixels of the longer side that detail is measured at


@dataclass(frozen=True)
class Labels:
    """What an image's outlines tell.

    Attributes:
        areas: pixels of each class, int64 `[C]`.
        boxes: of each class, int32 `[C, 4]`: top, left, bottom, right.
        shared: pixels that two classes share, int64 `[C, C]`.
        ceilings: Dice of a perfect prediction of the whole image at each of SIZES, float32 `[S, C]`; NaN where a class
            is missing.
        trained: the same in what training sees: of the part and at the size that the spec gives, float32 `[C]`; NaN
            where a class is not there or not learned.
        scale: rows and columns that training sees for one of the file, float32 `[2]`; NaN where it sees nothing.
    """

    areas: NDArray[np.int64]
    boxes: NDArray[np.int32]
    shared: NDArray[np.int64]
    ceilings: NDArray[np.float32]
    trained: NDArray[np.float32]
    scale: NDArray[np.float32]


@dataclass(frozen=True)
class Surveyed:
    """What is known of an image.

    Attributes:
        shape: height and width, pixels.
        greys: how many pixels have each grey value, int64 `[256]`.
        little: its thumbnail, see `bonepipe.data.thumbnails`.
        detail: mean difference of neighbouring pixels at DETAIL pixels: little where an image is blurred.
        bend: degrees between hand and forearm, see `bonepipe.data.wrist`; NaN where that is not to be seen.
        labels: None where there is no annotation that can be read.
    """

    image: Radiograph
    shape: Shape
    greys: NDArray[np.int64]
    little: NDArray[np.float32]
    detail: float
    bend: float
    labels: Labels | None

    @property
    def traits(self) -> dict[str, float]:
        """What can be compared between any two images, whatever they show."""
        total, values = self.greys.sum(), np.arange(256)
        ends = np.searchsorted(self.greys.cumsum() / total, (0.05, 0.95))
        return {
            "mean grey": float(self.greys @ values / total),
            "contrast": float(ends[1] - ends[0]),
            "dark pixels, %": 100 * float(self.greys[:16].sum() / total),
            "white pixels, %": 100 * float(self.greys[250:].sum() / total),
            "detail": self.detail,
            "height / width": self.shape[0] / self.shape[1],
            "longer side, pixels": float(max(self.shape)),
        }


@dataclass(frozen=True)
class Survey:
    """All images that could be read.

    Attributes:
        classes: names.
        images: in the order of the catalog.
        unread: how many could not be read; the audit names them.
    """

    classes: tuple[str, ...]
    images: Sequence[Surveyed]
    unread: int = 0

    def of(self, split: str) -> list[Surveyed]:
        """The images of a part of the data."""
        return [row for row in self.images if row.image.split == split]

    @cached_property
    def annotated(self) -> list[Surveyed]:
        """The images with labels."""
        return [row for row in self.images if row.labels is not None]

    def stacked(self, name: str) -> NDArray[np.float64]:
        """One of the arrays of `Labels` of all annotated images, float64 `[N, ...]`."""
        rows = [getattr(row.labels, name) for row in self.annotated]
        return np.array(rows, np.float64).reshape(len(rows), *self._shapes[name])

    @property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        count = len(self.classes)
        return {"areas": (count,), "boxes": (count, 4), "shared": (count, count), "ceilings": (len(SIZES), count),
                "trained": (count,), "scale": (2,)}  # fmt: skip

    @property
    def shapes(self) -> NDArray[np.float64]:
        """Height and width of the annotated images, `[N, 2]`."""
        return np.array([row.shape for row in self.annotated], np.float64).reshape(-1, 2)

    @property
    def thumbnails(self) -> Thumbnails:
        """Of all images, float32 `[N, s, s]`."""
        return np.array([row.little for row in self.images], np.float32)


def survey(images: Sequence[Radiograph], spec: DataSpec) -> Survey:
    """Look at every image; one that cannot be read is left out."""
    rows = in_processes(partial(look_at, spec=spec), images, "images")
    return Survey(tuple(spec.labels), [row for row in rows if row is not None], sum(row is None for row in rows))


def look_at(image: Radiograph, spec: DataSpec) -> Surveyed | None:
    """What an image tells; None where it cannot be read."""
    try:
        grey = image.read()
    except BonepipeError:
        return None
    shape = grey.shape[0], grey.shape[1]
    masks = read_masks(image, shape, spec.labels)
    labels = None if masks is None else measure(masks, shape, spec)
    return Surveyed(image, shape, byte_counts(grey), thumbnail(grey), detail(grey), bend_angle(grey), labels)


def read_masks(image: Radiograph, shape: Shape, classes: Sequence[str]) -> list[Cutout] | None:
    """The annotated masks, one a class, of the outlines that can be used; None where there is no annotation to read."""
    if image.annotation is None:
        return None
    try:
        polygons, _ = read_with_faults(image.annotation, classes, image.limits)
    except BonepipeError:
        return None
    return polygon.cutouts(polygons, shape, len(classes))


def measure(masks: Sequence[Cutout], shape: Shape, spec: DataSpec) -> Labels:
    """Sizes, overlaps and ceilings of an image's masks, one a label of the spec."""
    shared = np.zeros((len(masks), len(masks)), np.int64)
    for (a, mask), (b, other) in combinations(enumerate(masks), 2):
        shared[a, b] = shared[b, a] = cutout.intersection_area(mask, other)
    ceilings = [ceilings_at(Frame((side, side), spec.fit), masks, shape) for side in SIZES]
    trained, scale = np.full(len(masks), np.nan), (np.nan, np.nan)
    if part := part_seen(masks, shape, spec):
        learned = [cutout.cropped(mask, part) for mask in masks[: len(spec.classes)]]
        trained[: len(learned)] = ceilings_at(spec.frame, learned, (part.height, part.width))
        box = spec.frame.box((part.height, part.width))
        scale = box.height / part.height, box.width / part.width
    areas, boxes = [cutout.area(mask) for mask in masks], [mask.box for mask in masks]
    return Labels(np.array(areas), np.array(boxes, np.int32), shared, np.array(ceilings, np.float32),
                  trained.astype(np.float32), np.array(scale, np.float32))  # fmt: skip


def part_seen(masks: Sequence[Cutout], shape: Shape, spec: DataSpec) -> Box | None:
    """The part of an image that training sees: all of it, or the crop of data.region; None where its classes are not.

    The crop may reach beyond the image.
    """
    if spec.region is None:
        return Box(0, 0, *shape)
    box = cutout.hull(masks[index].box for index in spec.region_classes)
    return spec.region.crop(box, spec.shape) if box.height else None


def ceilings_at(frame: Frame, masks: Sequence[Cutout], shape: Shape) -> list[float]:
    """Dice of a perfect prediction of each mask of an image that a frame shows; NaN for an empty mask."""
    box = frame.box(shape)
    return [ceiling(mask, shape, (box.height, box.width)) for mask in masks]


def detail(grey: NDArray[np.uint8]) -> float:
    """Mean absolute difference of neighbouring pixels, grey levels, at DETAIL pixels."""
    scale = DETAIL / max(grey.shape)
    small = resize_grey(grey, (max(2, round(grey.shape[0] * scale)), max(2, round(grey.shape[1] * scale))))
    return float(np.mean([cv2.absdiff(small[1:], small[:-1]).mean(), cv2.absdiff(small[:, 1:], small[:, :-1]).mean()]))


def hull(labels: Labels) -> Box:
    """The box of all classes."""
    return cutout.hull(Box(*row) for row in labels.boxes.tolist())
