"""Label Studio's JSON (https://labelstud.io/guide/export): polygons in percent of the image, masks of a brush."""

import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import numpy as np

from bonepipe.data.annotation import pairs
from bonepipe.data.formats import brush, fields
from bonepipe.data.formats.folder import Images
from bonepipe.data.formats.model import Annotated, Dataset, Notes, Points, Shape, at_least_three, dataset, runs
from bonepipe.data.image import SUFFIXES
from bonepipe.data.limits import Limits
from bonepipe.errors import BonepipeError, quoted, reason
from bonepipe.files import write_json
from bonepipe.labels import rle

POLYGON, BRUSH = "polygonlabels", "brushlabels"
DECIMALS = 9  # of a pixel: percentages are off by 1e-12, and whole pixels come back whole
LOCAL = "/data/local-files/?d="  # how Label Studio calls files of its own machine
UPLOAD = re.compile(r"^[0-9a-f]{8}-(?=.)")  # what it puts before the names of uploaded files
SEVERAL = "images with several annotations: the one marked as ground truth counts, or else the last"
PREDICTED = "images without an annotation: their last prediction counts"


def read(path: Path, images: Images, notes: Notes) -> Dataset:
    """Read an export. Raises BonepipeError."""
    tasks = fields.read_json(path)
    if not isinstance(tasks, list):
        raise BonepipeError(f"{path}: expected a list of tasks; export it as JSON (not JSON-MIN)")
    found = [_image(task, images, f"{path}: [{n}]", notes) for n, task in enumerate(fields.progress(tasks, "read"))]
    return dataset(found, (), path, images.limits)


def _image(task: Any, images: Images, where: str, notes: Notes) -> Annotated:
    names = _names(fields.member(task, "data", dict, where), f"{where}.data")
    results, field = _results(task, where, notes)
    regions = [(f"{field}[{number}]", region) for number, region in enumerate(results)]
    sizes = {fields.size(region, "original_height", "original_width", at) for at, region in regions if _is_area(region)}
    if len(sizes) > 1:
        raise BonepipeError(f"{field}: regions of images of different sizes (height, width): {sorted(sizes)}")
    place = images.place(names, next(iter(sizes), _declared(task["data"], where)), where)
    shapes = [shape for at, region in regions for shape in _shapes(region, place.size, at, images)]
    return Annotated(
        name=place.name, height=place.size[0], width=place.size[1], shapes=tuple(shapes), path=place.path,
        attributes=fields.optional(task, "meta"),
    )  # fmt: skip


def _declared(data: dict[str, Any], where: str) -> tuple[int, int] | None:
    """The size that `write` leaves beside the image's path: a task without regions has none else."""
    return fields.size(data, "height", "width", f"{where}.data") if {"height", "width"} <= data.keys() else None


def _names(data: dict[str, Any], where: str) -> list[str]:
    """What the image may be called: its path in a storage, or its name before it was uploaded."""
    texts = [value for value in data.values() if isinstance(value, str)]
    link = data.get("image") or next((text for text in texts if text.lower().endswith(SUFFIXES)), None)
    if not isinstance(link, str):
        raise BonepipeError(f"{where}.image: expected the path of an image, not {quoted(link)}")
    parts = urlsplit(link)
    local = parse_qs(parts.query).get("d")
    name = local[0] if local else unquote(parts.path)
    base = PurePosixPath(name).name
    hosted = bool(parts.scheme) or name.startswith("/")
    return [name, UPLOAD.sub("", base)] if hosted else [name]


def _results(task: dict[str, Any], where: str, notes: Notes) -> tuple[list[Any], str]:
    """The regions of the annotation that counts, and the field that they lie in."""
    given: list[tuple[str, dict[str, Any]]] = []
    for key in ("annotations", "predictions"):
        listed = task.get(key) or []
        if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
            raise BonepipeError(f"{where}.{key}: expected a list of objects, not {quoted(listed)}")
        entries = [(f"{where}.{key}[{n}]", entry) for n, entry in enumerate(listed) if not entry.get("was_cancelled")]
        if entries:
            given = [pair for pair in entries if pair[1].get("ground_truth")] or entries
            notes[SEVERAL] += len(entries) > 1 and key == "annotations"
            notes[PREDICTED] += key == "predictions"
            break
    if not given:
        return [], f"{where}.annotations"
    field, chosen = given[-1]
    return fields.member(chosen, "result", list, field), f"{field}.result"


def _is_area(region: Any) -> bool:
    return isinstance(region, dict) and region.get("type") in (POLYGON, BRUSH)


def _shapes(region: Any, size: tuple[int, int], where: str, images: Images) -> Iterator[Shape]:
    kind = fields.member(region, "type", str, where)
    if not _is_area(region):
        images.notes[f"regions left out: {quoted(kind)} has no outline with a label"] += 1
        return
    if region.get("image_rotation"):
        raise BonepipeError(f"{where}.image_rotation: the image was turned in Label Studio; turn it back there")
    value = fields.member(region, "value", dict, where)
    attributes = fields.optional(region, "meta")
    for name in fields.member(value, kind, list, f"{where}.value"):
        label = fields.label(name, f"{where}.value.{kind}")
        if kind == POLYGON:
            points = _pixels(value.get("points"), size, f"{where}.value.points", images.limits)
            yield Shape(label=label, points=points, attributes=attributes)
        else:
            yield Shape(label=label, runs=_runs(value.get("rle"), size, f"{where}.value.rle"), attributes=attributes)


def _pixels(points: Any, size: tuple[int, int], where: str, limits: Limits) -> Points:
    """An outline in pixels from one in percent of width and height."""
    percent = pairs(points)
    if percent is None:
        raise BonepipeError(f"{where}: expected a list of [x, y] pairs in percent of the image")
    return fields.outline(np.round(percent * (size[1], size[0]) / 100, DECIMALS).tolist(), where, limits)


def _runs(code: Any, size: tuple[int, int], where: str) -> rle.Runs:
    try:
        return rle.mask_runs(brush.decode(bytes(code), size))
    except (TypeError, ValueError) as error:
        raise BonepipeError(f"{where}: is no code of a brush ({reason(error)})") from error


def write(data: Dataset, out: Path, notes: Notes) -> None:
    """Write tasks to import; the images are files of a local storage, at their names below its root."""
    identifier = count(1)
    tasks = [
        {
            "data": {"image": LOCAL + quote(image.name), "height": image.height, "width": image.width},
            "meta": dict(image.attributes),
            "annotations": [{"result": [_region(shape, image, f"r{next(identifier)}") for shape in image.shapes]}],
        }
        for image in fields.progress(data.images, "write")
    ]
    write_json(out, tasks, indent=None)


def _region(shape: Shape, image: Annotated, identifier: str) -> dict[str, Any]:
    kind = BRUSH if shape.points is None else POLYGON
    value: dict[str, Any] = {kind: [shape.label]}
    if shape.points is None:
        value |= {"format": "rle", "rle": list(brush.encode(runs(shape, image.size), image.size))}
    else:
        percent = at_least_three(shape.points) / (image.width, image.height) * 100
        value |= {"points": percent.tolist(), "closed": True}
    region = {
        "id": identifier,
        "type": kind,
        "from_name": "brush" if kind == BRUSH else "label",
        "to_name": "image",
        "original_width": image.width,
        "original_height": image.height,
        "image_rotation": 0,
        "value": value,
    }
    return region | ({"meta": dict(shape.attributes)} if shape.attributes else {})
