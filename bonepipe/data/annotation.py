"""Annotation files: JSON with one polygon an entry, see `read_annotation`."""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from bonepipe.data.limits import DEFAULTS, Limits
from bonepipe.disk import require_file
from bonepipe.errors import BonepipeError, quoted, reason, suggestion
from bonepipe.files import write_json

Polygon = tuple[int, np.ndarray]  # class index, int32 points [K, 2] as x, y in pixels
Shape = tuple[int, int]
Fault = tuple[str, str]  # field of the file, what is wrong with it
FARTHEST = 1 << 20  # pixels; a point farther away is a slip of the pen, and would overflow on its way into OpenCV
LONGEST_LABEL = 80  # letters that are compared with the classes
FILLED = ("polyseg", "polygon", "poly")  # types of entries whose points go round an area; dashes and case aside


def read_annotation(path: Path, classes: Sequence[str], limits: Limits = DEFAULTS) -> list[Polygon]:
    """Read the polygons of one image.

    The fields `metadata` and `filename` of the format are known to be wrong (another frame size, another suffix) and
    are not read. A label may occur several times; its mask is the union.

    Returns:
        Pairs of class index and int32 points `[K, 2]` (x, y) in the image's own pixels.

    Raises:
        BonepipeError: the file cannot be parsed or is too large, a label is unknown, an entry has no usable points.
    """
    polygons, faults = read_with_faults(path, classes, limits)
    for field, message in faults:
        raise BonepipeError(f"{path}: {field}: {message}")
    return polygons


def read_with_faults(
    path: Path, classes: Sequence[str], limits: Limits = DEFAULTS
) -> tuple[list[Polygon], list[Fault]]:
    """The usable polygons of one image, and every fault of the others. Raises BonepipeError, see `entries`."""
    index = {name: number for number, name in enumerate(classes)}
    polygons: list[Polygon] = []
    faults: list[Fault] = []
    for number, entry in enumerate(entries(path, limits)):
        field = f"annotations[{number}]"
        if not isinstance(entry, dict):
            faults.append((field, "is not an object"))
            continue
        label = entry.get("label")
        known = index.get(label) if isinstance(label, str) else None
        if known is None:
            hint = f"{suggestion(str(label)[:LONGEST_LABEL], classes)} (data.classes lists the known ones)"
            faults.append((f"{field}.label", f"unknown class {quoted(label)}{hint}"))
        points, wrong = _outline(entry, limits)
        faults += [(f"{field}.{key}", message) for key, message in wrong]
        if known is not None and points is not None:
            polygons.append((known, points))
    return polygons, faults


def read_labels(path: Path, limits: Limits = DEFAULTS) -> list[str]:
    """The labels of an annotation file in file order, known or not. Raises BonepipeError, see `entries`."""
    return [str(entry.get("label")) for entry in entries(path, limits) if isinstance(entry, dict)]


def write_annotation(
    path: Path,
    polygons: Sequence[Polygon],
    classes: Sequence[str],
    image: Path,
    shape: Shape,
    file_id: str = "",
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Write polygons in the format that `read_annotation` reads and labelling tools of the competition open.

    Args:
        path: the file, which appears whole or not at all.
        polygons: pairs of class index and integer points `[K, 2]` (x, y); a class may have several, or none.
        image: the image's file, for the fields that name it.
        shape: the image's height and width in pixels.
        file_id: of the file, whatever the tool that reads it makes of that.
        attributes: of the image, plain values that JSON can hold.
    """
    labelled = [(f"{number:024x}", classes[index], points) for number, (index, points) in enumerate(polygons)]
    content = document(labelled, image.name, image.parent.name, shape, file_id)
    write_json(path, {**content, "attributes": dict(attributes or {})}, indent=None)


def document(
    polygons: Iterable[tuple[str, str, np.ndarray]],
    name: str,
    folder: str,
    shape: Shape,
    file_id: str,
    worker: str = "",
) -> dict[str, Any]:
    """The content of an annotation file as the annotation tool exports it: identifier, label and points an entry."""
    return {
        "annotations": [
            {"id": number, "type": "poly_seg", "attributes": {}, "points": points.tolist(), "label": label}
            for number, label, points in polygons
        ],
        "attributes": {},
        "file_id": file_id,
        "filename": name,
        "parent_path": f"/{folder}",
        "last_modifier_id": worker,
        "metadata": {"height": shape[0], "width": shape[1]},
        "last_workers": [worker] if worker else [],
    }


def entries(path: Path, limits: Limits = DEFAULTS) -> list[Any]:
    """What a file lists under `annotations`, as it is. Raises BonepipeError if it cannot be parsed or is too large."""
    listed: list[Any] = read_document(path, limits)["annotations"]
    where = f"{path}: annotations"
    limits.require("outlines", len(listed), where, f"has {len(listed)} entries")
    points = [entry.get("points") for entry in listed if isinstance(entry, dict)]
    count = sum(len(of_entry) for of_entry in points if isinstance(of_entry, list))
    limits.require("points", count, where, f"has {count} points")
    return listed


def read_document(path: Path, limits: Limits = DEFAULTS) -> dict[str, Any]:
    """The content of a file, which has a list under `annotations`. Raises BonepipeError if it cannot be parsed."""
    try:
        require_file(path, limits.megabytes << 20, limits.told("megabytes"))
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise BonepipeError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise BonepipeError(f"{path}: broken JSON ({reason(error)}); restore or re-export this annotation") from error
    if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
        raise BonepipeError(f"{path}: no list under 'annotations'")
    return content


def _outline(entry: dict[str, Any], limits: Limits) -> tuple[np.ndarray | None, list[Fault]]:
    """The points int32 `[K, 2]` of an entry; or None, and why they are no outline in pixels."""
    kind, array = entry.get("type"), pairs(entry.get("points"))
    if not is_filled(kind):
        message = f"{quoted(kind)} is not filled; redraw it as a polygon (poly_seg), or remove the entry"
        return None, [("type", message)]
    wrong = "expected a list of [x, y] pairs in pixels" if array is None else oddity(array, limits)
    return (None, [("points", wrong)]) if array is None or wrong else (np.rint(array).astype(np.int32), [])


def is_filled(kind: Any) -> bool:
    """Whether the points of an entry of this type go round an area."""
    return kind is None or str(kind).lower().replace("_", "").replace("-", "") in FILLED


def oddity(points: np.ndarray, limits: Limits = DEFAULTS) -> str:
    """Why points `[K, 2]` are no outline in pixels; empty where they are one."""
    if points.min() >= 0 and points.max() <= 1 and (points % 1).any():
        return "lie within 0 and 1: fractions of the image; multiply them by its width and height in pixels"
    if len(points) == 2 and np.ptp(points, axis=0).max() > 1:
        return "two points are a line or the corners of a box; an outline needs all of its points"
    length = np.hypot(*np.diff(points, axis=0).T).sum()
    if length > limits.length:
        what = f"{len(points)} points make an outline {length:.0f} pixels long, a scribble: redraw it"
        return f"{what}; {limits.told('length')}"
    return ""


def pairs(points: Any) -> np.ndarray | None:
    """Points as float64 `[K, 2]`; None where they are anything but pairs of numbers within reach."""
    try:
        if not set(map(type, chain.from_iterable(points))) <= {int, float}:  # no booleans, and no numbers as text
            return None
        array = np.asarray(points, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    if array.ndim != 2 or array.shape[1] != 2 or not (np.abs(array) < FARTHEST).all():  # NaN is not below it either
        return None
    return array
