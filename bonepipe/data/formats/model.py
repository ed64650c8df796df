"""What every annotation format is read into and written from: images with labelled shapes, which may overlap."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bonepipe.data.limits import DEFAULTS, Limits
from bonepipe.errors import BonepipeError
from bonepipe.files import file_stem
from bonepipe.labels import cutout, polygon, rle
from bonepipe.labels.cutout import Cutout

Points = NDArray[np.float64]  # [K, 2], x and y in pixels; integers are pixels' centres
Notes = Counter[str]  # what could not be kept, in words, and how often
HOLES = "holes filled, as a polygon cannot have any"
LABELS = "labels.txt"  # the classes in their order, one a line, beside formats that cannot tell of it


@dataclass(frozen=True, eq=False, kw_only=True)
class Shape:
    """One labelled area, either an outline or a mask.

    Attributes:
        label: class name.
        points: outline float64 `[K, 2]` (x, y); filled as annotations are, rounded, its own pixels inside.
        runs: mask int64 `[R, 2]` of the whole image, row-major, see `bonepipe.labels.rle`; None for an outline.
        group: shapes of an image with the same number are parts of one object; None for one that is alone.
        attributes: whatever else the format says of it.
    """

    label: str
    points: Points | None = None
    runs: rle.Runs | None = None
    group: int | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, kw_only=True)
class Annotated:
    """An image and what is drawn on it.

    Attributes:
        name: POSIX path of the image's file below the folder of images; never leads out of it.
        height, width: pixels.
        path: the file, where it is known.
        attributes: whatever else the format says of the image.
    """

    name: str
    height: int
    width: int
    shapes: tuple[Shape, ...] = ()
    path: Path | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.height, self.width

    @property
    def stem(self) -> str:
        """Its name without the suffix."""
        path = PurePosixPath(self.name)
        return str(path.with_name(file_stem(path)))


class Dataset(NamedTuple):
    """Images with distinct names, and the classes in their order, of which some may occur nowhere."""

    images: list[Annotated]
    classes: list[str]


def dataset(images: Sequence[Annotated], classes: Iterable[str], where: Path, limits: Limits = DEFAULTS) -> Dataset:
    """Put images together; classes that are not listed follow in the order of their shapes.

    Raises:
        BonepipeError: two of the images, read from `where`, have one name, or an image more shapes than the limits.
    """
    for image in images:
        points = sum(len(shape.points) for shape in image.shapes if shape.points is not None)
        limits.require("outlines", len(image.shapes), f"{where}: {image.name}", f"has {len(image.shapes)} shapes")
        limits.require("points", points, f"{where}: {image.name}", f"has {points} points")
    for name, times in Counter(image.name for image in images).items():
        if times > 1:
            raise BonepipeError(f"{where}: image {name} is there {times} times; merge its entries into one")
    return Dataset(list(images), ordered(classes, images))


def ordered(first: Iterable[str], images: Iterable[Annotated]) -> list[str]:
    """Classes: the first ones, then others in the order of the images' shapes."""
    return list(dict.fromkeys([*first, *(shape.label for image in images for shape in image.shapes)]))


def by_stem(images: Iterable[Annotated], *, base: bool = False) -> dict[str, Annotated]:
    """Images by their names without suffix, or by the last part of these (`base`), where files are named by it.

    Raises:
        BonepipeError: two images have the same.
    """
    table: dict[str, Annotated] = {}
    for image in images:
        key = PurePosixPath(image.stem).name if base else image.stem
        if (other := table.setdefault(key, image)) is not image:
            raise BonepipeError(f"{other.name} and {image.name}: both are {key!r} in this format; rename one of them")
    return table


def mask(shape: Shape, size: tuple[int, int]) -> Cutout:
    """The pixels of a shape in an image of this height and width."""
    if shape.points is not None:
        return polygon.cutout([np.rint(shape.points).astype(np.int32)], size)
    return cutout.from_runs(rle.empty_runs() if shape.runs is None else shape.runs, size)


def runs(shape: Shape, size: tuple[int, int]) -> rle.Runs:
    """The pixels of a shape as runs int64 `[R, 2]` of the whole image."""
    return cutout.runs(mask(shape, size), size[1]) if shape.runs is None else shape.runs


def class_runs(image: Annotated, label: str) -> rle.Runs:
    """The mask of a class: the union of its shapes."""
    return rle.vote_runs([runs(shape, image.size) for shape in image.shapes if shape.label == label], 1)


def as_polygons(image: Annotated, notes: Notes) -> Annotated:
    """Trace the masks of an image: a polygon a connected part; the parts of one mask are one object."""
    groups = count(1 + max((shape.group or 0 for shape in image.shapes), default=0))
    shapes: list[Shape] = []
    for shape in image.shapes:
        if shape.points is not None:
            shapes.append(shape)
            continue
        pixels = mask(shape, image.size)
        if holes := polygon.holes(pixels):
            notes[HOLES] += holes
        parts = polygon.outlines(pixels)
        group = next(groups) if shape.group is None and len(parts) > 1 else shape.group
        shapes += [replace(shape, points=part.astype(np.float64), runs=None, group=group) for part in parts]
    return replace(image, shapes=tuple(shapes))


def as_masks(image: Annotated) -> Annotated:
    """Fill the outlines of an image: a mask a shape."""
    shapes = (replace(shape, points=None, runs=runs(shape, image.size)) for shape in image.shapes)
    return replace(image, shapes=tuple(shapes))


def numbers(points: Points) -> list[Any]:
    """Points as lists of x and y, whole numbers as integers."""
    return points.astype(np.int64).tolist() if not (points % 1).any() else points.tolist()


def at_least_three(points: Points) -> Points:
    """Points of an outline that tools accept: a pixel or a pair of them repeats its last point."""
    return np.concatenate([points, np.repeat(points[-1:], max(0, 3 - len(points)), axis=0)])
