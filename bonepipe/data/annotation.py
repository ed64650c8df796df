"""Annotation files: JSON with one polygon an entry, see `read_annotation`."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bonepipe.errors import BonepipeError, suggestion
from bonepipe.files import write_json

Polygon = tuple[int, np.ndarray]  # class index, int32 points [K, 2] as x, y in pixels
Shape = tuple[int, int]
Fault = tuple[str, str]  # field of the file, what is wrong with it
FARTHEST = 1 << 20  # pixels; a point farther away is a slip of the pen, and would overflow on its way into OpenCV


def read_annotation(path: Path, classes: Sequence[str]) -> list[Polygon]:
    """Read the polygons of one image.

    The fields `metadata` and `filename` of the format are known to be wrong (another frame size, another suffix) and
    are not read. A label may occur several times; its mask is the union.

    Returns:
        Pairs of class index and int32 points `[K, 2]` (x, y) in the image's own pixels.

    Raises:
        BonepipeError: the file cannot be parsed, a label is unknown, an entry has no usable points.
    """
    polygons, faults = read_with_faults(path, classes)
    for field, message in faults:
        raise BonepipeError(f"{path}: {field}: {message}")
    return polygons


def read_with_faults(path: Path, classes: Sequence[str]) -> tuple[list[Polygon], list[Fault]]:
    """The usable polygons of one image, and every fault of the others. Raises BonepipeError if it cannot be parsed."""
    index = {name: number for number, name in enumerate(classes)}
    polygons: list[Polygon] = []
    faults: list[Fault] = []
    for number, entry in enumerate(_entries(path)):
        field = f"annotations[{number}]"
        if not isinstance(entry, dict):
            faults.append((field, "is not an object"))
            continue
        label, points = entry.get("label"), _points(entry.get("points"))
        known = index.get(label) if isinstance(label, str) else None
        if known is None:
            hint = f"{suggestion(str(label), classes)} (data.classes lists the known ones)"
            faults.append((f"{field}.label", f"unknown class {label!r}{hint}"))
        if points is None:
            faults.append((f"{field}.points", "expected a list of [x, y] pairs in pixels"))
        if known is not None and points is not None:
            polygons.append((known, points))
    return polygons, faults


def read_labels(path: Path) -> list[str]:
    """The labels of an annotation file in file order, known or not. Raises BonepipeError if it cannot be parsed."""
    return [str(entry.get("label")) for entry in _entries(path) if isinstance(entry, dict)]


def write_annotation(
    path: Path, polygons: Sequence[Polygon], classes: Sequence[str], image: Path, shape: Shape, file_id: str = ""
) -> None:
    """Write polygons in the format that `read_annotation` reads and labelling tools of the competition open.

    Args:
        path: the file, which appears whole or not at all.
        polygons: pairs of class index and integer points `[K, 2]` (x, y); a class may have several, or none.
        image: the image's file, for the fields that name it.
        shape: the image's height and width in pixels.
        file_id: of the file, whatever the tool that reads it makes of that.
    """
    entries = [(f"{number:024x}", classes[index], points) for number, (index, points) in enumerate(polygons)]
    write_json(path, document(entries, image.name, image.parent.name, shape, file_id), indent=None)


def document(
    entries: Iterable[tuple[str, str, np.ndarray]], name: str, folder: str, shape: Shape, file_id: str, worker: str = ""
) -> dict[str, Any]:
    """The content of an annotation file as the annotation tool exports it: identifier, label and points an entry."""
    return {
        "annotations": [
            {"id": number, "type": "poly_seg", "attributes": {}, "points": points.tolist(), "label": label}
            for number, label, points in entries
        ],
        "attributes": {},
        "file_id": file_id,
        "filename": name,
        "parent_path": f"/{folder}",
        "last_modifier_id": worker,
        "metadata": {"height": shape[0], "width": shape[1]},
        "last_workers": [worker] if worker else [],
    }


def _entries(path: Path) -> list[Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise BonepipeError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise BonepipeError(f"{path}: broken JSON ({error}); restore or re-export this annotation") from error
    entries = content.get("annotations") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise BonepipeError(f"{path}: no list under 'annotations'")
    return entries


def _points(points: Any) -> np.ndarray | None:
    try:
        array = np.asarray(points, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    if array.ndim != 2 or array.shape[1] != 2 or not (np.abs(array) < FARTHEST).all():  # NaN is not below it either
        return None
    return np.rint(array).astype(np.int32)
