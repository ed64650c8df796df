"""CVAT for images, XML 1.1 (https://docs.cvat.ai/docs/other/xml_format/): polygons, and masks as runs in boxes."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from bonepipe.data.formats import fields
from bonepipe.data.formats.folder import Images, checked_size
from bonepipe.data.formats.model import Annotated, Dataset, Notes, Shape, at_least_three, dataset, mask, numbers
from bonepipe.errors import BonepipeError, quoted, reason
from bonepipe.files import replacing
from bonepipe.labels import rle

NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, production 2


def read(path: Path, images: Images, notes: Notes) -> Dataset:
    """Read a file. Raises BonepipeError, also for a document type: entities may name other files or fill the memory."""
    root = _parse(path)
    if root.find("track") is not None:
        raise BonepipeError(f"{path}: is 'CVAT for video'; export it as 'CVAT for images 1.1'")
    labels = [(element.text or "").strip() for element in root.iterfind("meta//label/name")]
    found = [_image(element, images, path, notes) for element in fields.progress(root.findall("image"), "read")]
    return dataset(found, filter(None, labels), path, images.limits)


def _parse(path: Path) -> ElementTree.Element:
    try:
        text = fields.read_bytes(path).decode("utf-8-sig")
        if "<!DOCTYPE" in text:
            raise BonepipeError(f"{path}: has a document type (<!DOCTYPE), which CVAT never writes; remove it")
        root = ElementTree.fromstring(text)
    except (UnicodeDecodeError, ElementTree.ParseError, ValueError) as error:
        raise BonepipeError(f"{path}: broken XML ({reason(error)}); export it again") from error
    if root.tag != "annotations":
        raise BonepipeError(f"{path}: no <annotations> but <{root.tag}>")
    return root


def _image(element: ElementTree.Element, images: Images, path: Path, notes: Notes) -> Annotated:
    where = f"{path}: image {quoted(element.get('name'))}"
    size = checked_size((_number(element, "height", where), _number(element, "width", where)), where)
    place = images.place([_text(element, "name", where)], size, where)
    shapes = [
        shape
        for number, child in enumerate(element)
        for shape in _shapes(child, place.size, f"{where}: {child.tag}[{number}]", images)
    ]
    return Annotated(name=place.name, height=size[0], width=size[1], shapes=tuple(shapes), path=place.path)


def _shapes(element: ElementTree.Element, size: tuple[int, int], where: str, images: Images) -> Iterator[Shape]:
    if element.tag not in ("polygon", "mask"):
        images.notes[f"shapes left out: a {element.tag} is no outline"] += 1
        return
    label = fields.label(element.get("label"), f"{where}.label")
    group = _number(element, "group_id", where) if element.get("group_id") else None
    if element.tag == "polygon":
        points = fields.outline(_points(_text(element, "points", where)), f"{where}.points", images.limits)
        yield Shape(label=label, points=points, group=group, attributes=_attributes(element, where))
    else:
        runs = _runs(element, size, where)
        yield Shape(label=label, runs=runs, group=group, attributes=_attributes(element, where))


def _attributes(element: ElementTree.Element, where: str) -> dict[str, Any]:
    attributes: dict[str, Any] = {"occluded": True} if element.get("occluded") == "1" else {}
    if order := _number(element, "z_order", where, 0):
        attributes["z_order"] = order
    return attributes | {child.get("name", ""): child.text or "" for child in element.iterfind("attribute")}


def _points(text: str) -> list[list[float]] | None:
    try:
        return [[float(value) for value in pair.split(",")] for pair in text.split(";")]
    except ValueError:
        return None


def _runs(element: ElementTree.Element, size: tuple[int, int], where: str) -> rle.Runs:
    box = checked_size((_number(element, "height", where), _number(element, "width", where)), where)
    try:
        counts = [int(value) for value in _text(element, "rle", where).split(",")]
    except ValueError as error:
        raise BonepipeError(f"{where}.rle: expected whole numbers ({reason(error)})") from error
    if box[0] > size[0] or box[1] > size[1]:
        raise BonepipeError(f"{where}: its box is larger than the image of {size[1]} x {size[0]} pixels")
    pixels = fields.mask_of_counts(counts, box, f"{where}.rle")
    return fields.runs_at(pixels, _number(element, "top", where), _number(element, "left", where), size, where)


def _text(element: ElementTree.Element, name: str, where: str) -> str:
    value = element.get(name)
    if not value:
        raise BonepipeError(f"{where}.{name}: is missing")
    return value


def _number(element: ElementTree.Element, name: str, where: str, default: int | None = None) -> int:
    text = element.get(name)
    if text is None and default is not None:
        return default
    if text is None or not re.fullmatch(r"\s*-?[0-9]{1,9}(\.0+)?\s*", text):
        raise BonepipeError(f"{where}.{name}: expected a whole number, not {quoted(text)}")
    return int(float(text))


def write(data: Dataset, out: Path, notes: Notes) -> None:
    """Write a file. CVAT knows no attributes of images, and its own attributes are text: others are written as such."""
    root = ElementTree.Element("annotations")
    _add(root, "version", "1.1")
    task = _add(_add(root, "meta"), "task")
    for name, text in (("name", "bonepipe"), ("size", str(len(data.images))), ("mode", "annotation")):
        _add(task, name, text)
    labels = _add(task, "labels")
    for name in data.classes:
        _add(_add(labels, "label"), "name", name)
    for number, image in enumerate(fields.progress(data.images, "write")):
        size = {"width": str(image.width), "height": str(image.height)}
        element = _add(root, "image", id=str(number), name=image.name, **size)
        if image.attributes:
            notes["images whose attributes are left out: CVAT's have none"] += 1
        for shape in image.shapes:
            _write_shape(element, shape, image, notes)
    ElementTree.indent(root)
    with replacing(out) as part:
        ElementTree.ElementTree(root).write(part, encoding="utf-8", xml_declaration=True)


def _write_shape(parent: ElementTree.Element, shape: Shape, image: Annotated, notes: Notes) -> None:
    rest = dict(shape.attributes)
    common = {
        "label": shape.label,
        "source": "manual",
        "occluded": str(int(rest.pop("occluded", False) is True)),
        "z_order": str(rest.pop("z_order", 0)),
    } | ({} if shape.group is None else {"group_id": str(shape.group)})
    if shape.points is not None:
        pairs = numbers(at_least_three(shape.points))
        element = _add(parent, "polygon", **common, points=";".join(f"{x!r},{y!r}" for x, y in pairs))
    else:
        drawn = _box(shape, image)
        if drawn is None:
            notes["empty masks left out: CVAT has none"] += 1
            return
        element = _add(parent, "mask", **common, **drawn)
    for name, value in rest.items():
        _add(element, "attribute", str(value), name=name)


def _box(shape: Shape, image: Annotated) -> dict[str, str] | None:
    """The attributes of a mask: the lengths of its runs in its box, background first; None where it is empty."""
    box, pixels = mask(shape, image.size)
    if not pixels.size:
        return None
    flat = pixels.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = [*([0] if flat[0] else []), *np.diff([0, *edges.tolist(), flat.size]).tolist()]
    corners = {"left": box.left, "top": box.top, "width": box.width, "height": box.height}
    return {"rle": ", ".join(map(str, counts))} | {name: str(value) for name, value in corners.items()}


def _add(parent: ElementTree.Element, tag: str, text: str | None = None, **attributes: str) -> ElementTree.Element:
    for value in (text or "", *attributes.values()):
        if NO_XML.search(value):
            raise BonepipeError(f"{quoted(value)} cannot be written as XML; rename it")
    element = ElementTree.SubElement(parent, tag, attributes)
    element.text = text
    return element
