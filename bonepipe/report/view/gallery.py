"""What the viewer shows: the images of a dataset, their true masks, and the masks of runs and CSVs."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from bonepipe.data.annotation import read_annotation
from bonepipe.data.catalog import Radiograph
from bonepipe.data.mask_index import MaskIndex
from bonepipe.data.spec import DataSpec
from bonepipe.errors import BonepipeError
from bonepipe.labels import cutout, polygon, rle
from bonepipe.labels.cutout import Cutout
from bonepipe.labels.dice import dice

Value = TypeVar("Value")
Dice = dict[str, list[float | None]]  # image -> Dice, one a class
KEPT = 6  # images, and sets of masks, that stay decoded: those on the screen and the next


class Once(Generic[Value]):
    """A value that is made when it is first asked for, once however many threads ask."""

    def __init__(self, make: Callable[[], Value]) -> None:
        self._make, self._lock, self._made = make, threading.Lock(), list[Value]()

    def __call__(self) -> Value:
        """The value."""
        with self._lock:
            if not self._made:
                self._made.append(self._make())
            return self._made[0]


@dataclass(frozen=True)
class Source:
    """Masks that somebody made of the images.

    Attributes:
        name: as it is shown.
        tables: the CSVs that hold them; each image is in one at the most.
        dice: what is known of how good they are; what is missing is computed, see `Gallery.score`.
    """

    name: str
    tables: tuple[MaskIndex, ...]
    dice: Dice = field(default_factory=dict)
    _stamps: list[tuple[int, ...]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.forget_changed()

    def forget_changed(self) -> bool:
        """Forget the Dice of masks that were written anew since this was last asked; whether they were."""
        before, self._stamps[:] = [*self._stamps], [table.stamp for table in self.tables]
        if not before or before == self._stamps:
            return False
        self.dice.clear()
        return True

    def codes(self, image: str) -> dict[str, str]:
        """Class -> run-length code; empty where there are no masks of the image."""
        return next(filter(None, (table.codes(image) for table in self.tables)), {})

    @cached_property
    def path_of(self) -> dict[str, Path]:
        """Image -> the file that held its masks when this was first asked for."""
        return {image: table.path for table in reversed(self.tables) for image in table.images()}


@dataclass(frozen=True)
class Gallery:
    """A dataset and everything that was said of it.

    Attributes:
        images: in catalog order; a number is a place in this list.
        sources: whose masks are shown.
        answer: the true masks of test images, where they are known.
        strata, folds: of the images, by name; an image may be in neither.
    """

    spec: DataSpec
    images: Sequence[Radiograph]
    sources: Sequence[Source] = ()
    answer: MaskIndex | None = None
    strata: Mapping[str, str] = field(default_factory=dict)
    folds: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Image name -> its number."""
        return {image.name: number for number, image in enumerate(self.images)}

    @cached_property
    def _greys(self) -> Callable[[int], Once[np.ndarray]]:
        return lru_cache(KEPT)(lambda number: Once(self.images[number].read))

    @cached_property
    def _truths(self) -> Callable[[int], Once[list[Cutout] | None]]:
        return lru_cache(KEPT)(lambda number: Once(partial(self._read_truth, number)))

    @cached_property
    def _shapes(self) -> Callable[[int], tuple[int, int]]:
        return lru_cache(None)(lambda number: self.images[number].shape())

    def grey(self, number: int) -> np.ndarray:
        """An image, uint8 `[H, W]`. Raises BonepipeError, see `read_grey`."""
        return self._greys(number)()

    def shape(self, number: int) -> tuple[int, int]:
        """Height and width of an image in pixels."""
        return self._shapes(number)

    def truth(self, number: int) -> list[Cutout] | None:
        """The true masks, one a class; None where nobody knows. Raises BonepipeError, see `read_annotation`."""
        return self._truths(number)()

    def _read_truth(self, number: int) -> list[Cutout] | None:
        image = self.images[number]
        if image.annotation is None:
            if self.answer is None:
                return None
            return self._cutouts(number, self.answer.codes(image.name), self.answer.path)
        polygons = read_annotation(image.annotation, self.spec.labels, image.limits)
        return polygon.cutouts(polygons, self.shape(number), len(self.spec.labels))[: len(self.spec.classes)]

    def predicted(self, number: int, source: int) -> list[Cutout] | None:
        """The masks of a source, one a class; None where it has none of the image.

        Raises:
            BonepipeError: its runs are no masks of this image.
        """
        name, given = self.images[number].name, self.sources[source]
        return self._cutouts(number, given.codes(name), given.path_of.get(name, given.tables[0].path))

    def _cutouts(self, number: int, codes: Mapping[str, str], path: Path) -> list[Cutout] | None:
        if not codes:
            return None
        name, shape = self.images[number].name, self.shape(number)
        return [_decoded(codes.get(label, ""), shape, f"{path}: {name}, {label}") for label in self.spec.classes]

    def score(self) -> Iterator[int]:
        """Compute the Dice that no source brought along; yields the number of each image as it is done.

        What cannot be read has no Dice; whoever looks at that image is told why.
        """
        for number, image in enumerate(self.images):
            lacking = [s for s, source in enumerate(self.sources) if image.name not in source.dice]
            if lacking and (image.annotation is not None or self.answer is not None):
                for place in lacking:
                    self._score(number, place)
            yield number

    def _score(self, number: int, source: int) -> None:
        try:
            truth, predicted = self._read_truth(number), self.predicted(number, source)
        except BonepipeError:
            return
        if truth is not None and predicted is not None:
            self.sources[source].dice[self.images[number].name] = scores(truth, predicted)


def scores(truth: Sequence[Cutout], predicted: Sequence[Cutout]) -> list[float | None]:
    """Dice of each class."""
    pairs = zip(truth, predicted, strict=True)
    return [float(dice(cutout.intersection_area(a, b), cutout.area(a), cutout.area(b))) for a, b in pairs]


def _decoded(code: str, shape: tuple[int, int], where: str) -> Cutout:
    try:
        return cutout.from_runs(rle.parse(code), shape)
    except ValueError as error:
        raise BonepipeError(f"{where}: {error}; are these masks of other images of that name?") from error
