"""Corrections of annotations: a CSV of what to leave out, rename or replace in training.

Columns `image_name,class,action,value`; further columns are remarks. A row's action is

- `drop` without a class: the image is not trained on.
- `drop` with a class: the image's pixels do not count for this class in the loss.
- `permute`: what is drawn as `class` is the class `value`. An image's rows must be a permutation: each class that goes
  somewhere is also the goal of another.
- `replace`: the run-length code `value` (at the image's original size) takes the annotation's place.
- `keep`: somebody has looked, and the annotation of the class is right; nothing is changed.

Permutations come first, so that the classes of `drop` and `replace` are the right ones. Corrections change what is
trained on and nothing else: validation and its scores keep to the annotations as they are, so that a correction can
flatter no score.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from bonepipe.data.masks import code, require_inside
from bonepipe.errors import BonepipeError, quoted, reason, suggestion
from bonepipe.files import read_csv, write_csv
from bonepipe.labels import bitplane, rle

COLUMNS = ("image_name", "class", "action", "value")
REMARK = "remark"
ACTIONS = ("drop", "permute", "replace", "keep")

Row = dict[str, str]


@dataclass(frozen=True)
class Correction:
    """What is to be done to one image's annotation; classes are indices.

    Attributes:
        where: the file and line, for messages.
        dropped: the whole image is left out.
        ignored: classes that do not count.
        moved: class as drawn -> class that it is.
        replaced: class -> run-length code of its mask.
    """

    where: str
    classes: int
    dropped: bool = False
    ignored: frozenset[int] = frozenset()
    moved: Mapping[int, int] = field(default_factory=dict)
    replaced: Mapping[int, str] = field(default_factory=dict)

    @property
    def ignores(self) -> bool:
        """Whether some class does not count."""
        return bool(self.ignored)

    def order(self) -> list[int]:
        """For each class, the class under which it is drawn."""
        sources = {right: drawn for drawn, right in self.moved.items()}
        return [sources.get(index, index) for index in range(self.classes)]

    def apply(self, planes: bitplane.Planes) -> bitplane.Planes:
        """Bit-planes `[H, W, P]` of the mended annotation, at the original size; BonepipeError for a code beyond it."""
        if self.moved:
            planes = bitplane.permute_classes(planes, self.order())
        for index, text in self.replaced.items():
            try:
                mask = rle.decode(text, planes.shape[:2])
            except ValueError as error:
                raise BonepipeError(f"{self.where}: replace: {reason(error)}") from error
            bit = np.uint8(1 << index % 8)
            plane = planes[..., index // 8]
            planes[..., index // 8] = np.where(mask, plane | bit, plane & ~bit)
        return planes

    def require_inside(self, shape: tuple[int, int]) -> None:
        """Raise BonepipeError for a mask beyond an image of this height and width."""
        for text in self.replaced.values():
            require_inside(text, shape, f"{self.where}: replace")

    def ignored_planes(self, shape: tuple[int, int]) -> bitplane.Planes:
        """Bit-planes `[h, w, P]` that are set where a class does not count."""
        flags = np.zeros(self.classes, np.bool_)
        flags[list(self.ignored)] = True
        return np.broadcast_to(bitplane.pack(flags), (*shape, bitplane.plane_count(self.classes))).copy()


Corrections = dict[str, Correction]  # by image name


def with_unknown(correction: Correction, unknown: Iterable[int]) -> Correction:
    """The same correction of an annotation that does not know some classes: no pixel counts for these.

    Args:
        correction: of the image; one without rows where nothing else is to be done.
        unknown: the classes as they are drawn. What a row puts in the place of one is known.
    """
    moved = {correction.moved.get(label, label) for label in unknown}
    return replace(correction, ignored=correction.ignored | (moved - correction.replaced.keys()))


def read(path: Path, classes: Sequence[str], names: Sequence[str]) -> Corrections:
    """Read a file of corrections and verify it against the dataset's classes and image names.

    Raises:
        BonepipeError: no such file, a column is missing, or a row cannot be carried out; the message names its line.
    """
    known = set(names)
    grouped: dict[str, list[tuple[str, Row]]] = {}
    for line, row in read_csv(path, COLUMNS, f"data.corrections: {path}", unique=COLUMNS[:3]):
        where = f"{path}: line {line}"
        if row["image_name"] not in known:
            raise BonepipeError(
                f"{where}: column image_name: {quoted(row['image_name'])} is not in the dataset"
                f"{suggestion(row['image_name'], names)}"
            )
        grouped.setdefault(row["image_name"], []).append((where, row))
    index = {label: number for number, label in enumerate(classes)}
    return {name: _correction(entries, index) for name, entries in grouped.items()}


def _correction(entries: Sequence[tuple[str, Row]], index: Mapping[str, int]) -> Correction:
    """Gather one image's rows."""
    dropped, ignored, moved, replaced = False, set(), {}, {}
    for where, row in entries:
        action = row["action"]
        if action not in ACTIONS:
            raise BonepipeError(f"{where}: column action: {quoted(action)} is not one of {', '.join(ACTIONS)}")
        if action == "drop" and not row["class"]:
            dropped = True
            continue
        label = _class(where, "class", row, index)
        if action == "drop":
            ignored.add(label)
        elif action == "permute":
            moved[label] = _class(where, "value", row, index)
        elif action == "replace":
            replaced[label] = code(where, row, "value")
        if label in ignored and label in replaced:
            raise BonepipeError(f"{where}: {row['class']} is both dropped and replaced; remove one of the rows")
    if set(moved) != set(moved.values()):
        names = list(index)
        odd = ", ".join(sorted(names[number] for number in set(moved) ^ set(moved.values())))
        raise BonepipeError(f"{entries[0][0]}: the image's `permute` rows are no permutation; see {odd}")
    return Correction(entries[0][0], len(index), dropped, frozenset(ignored), moved, replaced)


def _class(where: str, column: str, row: Row, index: Mapping[str, int]) -> int:
    label = row[column]
    if label not in index:
        raise BonepipeError(f"{where}: column {column}: unknown class {quoted(label)}{suggestion(label, index)}")
    return index[label]


def write(path: Path, rows: Sequence[Sequence[str]]) -> None:
    """Write rows of (image name, class, action, value, remark), whole."""
    write_csv(path, (*COLUMNS, REMARK), rows)
