"""Values of annotation files, checked: each error names the file and the field."""

import json
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from bonepipe.data.annotation import oddity, pairs
from bonepipe.data.formats.folder import checked_size
from bonepipe.data.formats.model import LABELS, Points
from bonepipe.data.limits import Limits
from bonepipe.disk import require_file
from bonepipe.errors import BonepipeError, quoted, reason
from bonepipe.labels import cutout, rle
from bonepipe.labels.cutout import Box, Cutout

T = TypeVar("T")
BAR_FROM = 50  # items
LARGEST = 1 << 29  # bytes of a file with a whole dataset's annotations; in memory it takes some ten times as much
NO_CLASSES = ("__ignore__", "_background_")  # which LabelMe's own converters want on top of a list


def progress(items: Sequence[T], what: str, unit: str = "image") -> Iterable[T]:
    """Go through items under a bar, where there are many."""
    return tqdm(items, what, unit=unit, disable=len(items) < BAR_FROM)


def read_bytes(path: Path) -> bytes:
    """A file's content. Raises BonepipeError."""
    try:
        require_file(path, LARGEST, "convert its parts")
        return path.read_bytes()
    except OSError as error:
        raise BonepipeError(f"{path}: cannot be read ({error.strerror})") from error


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises BonepipeError where it is none."""
    try:
        return json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise BonepipeError(f"{path}: broken JSON ({reason(error)}); export it again") from error


def member(holder: Any, key: str, kind: type[T], where: str) -> T:
    """What an object holds under a key. Raises BonepipeError where it is no object, or that is of another kind."""
    names = {dict: "an object", list: "a list", str: "text", int: "a whole number"}
    if not isinstance(holder, dict):
        raise BonepipeError(f"{where}: expected an object, not {quoted(holder)}")
    value = holder.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        given = f"not {quoted(value)}" if key in holder else "which is missing"
        raise BonepipeError(f"{where}.{key}: expected {names[kind]}, {given}")
    return value


def optional(holder: dict[str, Any], key: str) -> dict[str, Any]:
    """An object under a key; an empty one where there is none."""
    value = holder.get(key)
    return dict(value) if isinstance(value, dict) else {}


def number_or_none(value: Any) -> int | None:
    """A whole number, or None."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def label(value: Any, where: str) -> str:
    """The name of a class. Raises BonepipeError for what none can be."""
    if not isinstance(value, str) or not value.strip() or any(unicodedata.category(c) in ("Cc", "Cs") for c in value):
        raise BonepipeError(f"{where}: expected the name of a class, not {quoted(value)}")
    return value


def size(holder: Any, height: str, width: str, where: str) -> tuple[int, int]:
    """An image's height and width under these keys. Raises BonepipeError."""
    return checked_size((member(holder, height, int, where), member(holder, width, int, where)), where)


def outline(points: Any, where: str, limits: Limits) -> Points:
    """An outline float64 `[K, 2]` from pairs of x and y in pixels. Raises BonepipeError where they are none."""
    array = pairs(points)
    wrong = "expected a list of [x, y] pairs in pixels" if array is None else oddity(array, limits)
    if array is None or wrong:
        raise BonepipeError(f"{where}: {wrong}")
    return array


def mask_of_counts(counts: Any, shape: tuple[int, int], where: str) -> NDArray[np.bool_]:
    """A mask bool `[h, w]` from the lengths of alternating runs, background first, row by row. Raises BonepipeError."""
    whole = isinstance(counts, list) and all(type(value) is int and value >= 0 for value in counts)
    if not whole or sum(counts) != shape[0] * shape[1]:
        has = f"{quoted(counts)} has not the sum" if whole else f"expected whole numbers, not {quoted(counts)}; no sum"
        raise BonepipeError(f"{where}: {has} of {shape[1]} x {shape[0]} pixels")
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(shape)


def runs_at(mask: NDArray[np.bool_], top: int, left: int, shape: tuple[int, int], where: str) -> rle.Runs:
    """Runs of an image of this shape from a mask `[h, w]` whose corner lies there. Raises BonepipeError beyond it."""
    box = Box(top, left, top + mask.shape[0], left + mask.shape[1])
    if min(box) < 0 or box.bottom > shape[0] or box.right > shape[1]:
        raise BonepipeError(f"{where}: {box} does not lie inside the image of {shape[1]} x {shape[0]} pixels")
    return cutout.runs(Cutout(box, mask), shape[1])


def read_labels(folder: Path) -> list[str]:
    """The classes that a folder lists in their order; none where it lists none."""
    path = folder / LABELS
    if not path.is_file():
        return []
    try:
        lines = read_bytes(path).decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        raise BonepipeError(f"{path}: is not UTF-8 text") from error
    return [name for name in lines if name.strip() and name not in NO_CLASSES]


def write_labels(folder: Path, classes: Sequence[str]) -> None:
    """List the classes in their order."""
    (folder / LABELS).write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
