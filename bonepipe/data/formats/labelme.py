"""LabelMe's JSON, a file an image (https://github.com/wkentaro/labelme): polygons in floats, masks as PNG in base64."""

import base64
import binascii
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np

from bonepipe.data import headers
from bonepipe.data.annotation import pairs
from bonepipe.data.formats import fields
from bonepipe.data.formats.folder import Images
from bonepipe.data.formats.model import (
    Annotated,
    Dataset,
    Notes,
    Shape,
    at_least_three,
    by_stem,
    dataset,
    mask,
    numbers,
)
from bonepipe.errors import BonepipeError, quoted
from bonepipe.files import find_files, write_json

VERSION = "5.5.0"  # of the format, the first with masks being 5.3


def read(path: Path, images: Images, notes: Notes) -> Dataset:
    """Read a file, or all files below a folder. Raises BonepipeError."""
    folder = path if path.is_dir() else path.parent
    paths = find_files(path, (".json",)) if path.is_dir() else [path]
    found = [_image(file, folder, images, notes) for file in fields.progress(paths, "read")]
    return dataset(found, fields.read_labels(folder), path, images.limits)


def _image(path: Path, folder: Path, images: Images, notes: Notes) -> Annotated:
    content, where = fields.read_json(path), str(path)
    name = fields.member(content, "imagePath", str, where).replace("\\", "/")
    beside = (path.relative_to(folder).parent / PurePosixPath(name).name).as_posix()
    size = fields.size(content, "imageHeight", "imageWidth", where)
    place = images.place([beside, name, beside], size, f"{where}: imagePath")
    entries = fields.member(content, "shapes", list, where)
    shapes = [
        shape
        for number, entry in enumerate(entries)
        for shape in _shapes(entry, place.size, f"{where}: shapes[{number}]", images)
    ]
    flags = fields.optional(content, "flags") | fields.optional(content, "attributes")
    return Annotated(
        name=place.name, height=place.size[0], width=place.size[1], shapes=tuple(shapes), path=place.path,
        attributes=flags,
    )  # fmt: skip


def _shapes(entry: Any, size: tuple[int, int], where: str, images: Images) -> Iterator[Shape]:
    points = fields.member(entry, "points", list, where)
    label, kind = fields.label(entry.get("label"), f"{where}.label"), entry.get("shape_type") or "polygon"
    attributes = fields.optional(entry, "flags") | fields.optional(entry, "attributes")
    attributes |= {"description": entry["description"]} if entry.get("description") else {}
    group = fields.number_or_none(entry.get("group_id"))
    if kind == "polygon":
        outline = fields.outline(points, f"{where}.points", images.limits)
        yield Shape(label=label, points=outline, group=group, attributes=attributes)
    elif kind == "mask":
        corner = _corner(points, f"{where}.points")
        runs = fields.runs_at(_decoded(entry.get("mask"), size, f"{where}.mask"), corner[1], corner[0], size, where)
        yield Shape(label=label, runs=runs, group=group, attributes=attributes)
    else:
        images.notes[f"shapes left out: a {kind} is no outline"] += 1


def _corner(points: Any, where: str) -> list[int]:
    """The first pixel (x, y) of a mask's box, which its first point tells."""
    corners = pairs(points)
    if corners is None:
        raise BonepipeError(f"{where}: expected the corners of the mask's box, not {quoted(points)}")
    return corners[0].astype(int).tolist()


def _decoded(text: Any, size: tuple[int, int], where: str) -> np.ndarray:
    """The mask bool `[h, w]` of a PNG in base64, which lies in an image of this height and width."""
    image = None
    with contextlib.suppress(TypeError, binascii.Error, ValueError, cv2.error):
        data = base64.b64decode(text)
        if shape := headers.told_shape(data):
            if shape[0] > size[0] or shape[1] > size[1]:
                has = f"a PNG of {shape[1]} x {shape[0]} pixels"
                raise BonepipeError(f"{where}: {has} does not lie inside the image of {size[1]} x {size[0]}")
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise BonepipeError(f"{where}: is no PNG in base64")
    return image > 0


def write(data: Dataset, out: Path, notes: Notes) -> None:
    """Write a file an image, and `labels.txt`, which `labelme --labels` takes."""
    fields.write_labels(out, data.classes)
    for stem, image in fields.progress([*by_stem(data.images).items()], "write"):
        path = out / f"{stem}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        # From a temporary folder beside the final one, so the way to the image is the same.
        to_image = os.path.relpath(image.path.absolute(), path.parent.absolute()) if image.path else ""
        content: dict[str, Any] = {
            "version": VERSION,
            "flags": {},
            "shapes": [_entry(shape, image) for shape in image.shapes],
            "imagePath": Path(to_image).as_posix() if to_image else PurePosixPath(image.name).name,
            "imageData": None,
            "imageHeight": image.height,
            "imageWidth": image.width,
        }
        write_json(path, content | ({"attributes": dict(image.attributes)} if image.attributes else {}), indent=None)


def _entry(shape: Shape, image: Annotated) -> dict[str, Any]:
    rest = dict(shape.attributes)
    description = rest.pop("description", "")
    flags = {name: rest.pop(name) for name, value in shape.attributes.items() if isinstance(value, bool)}
    points, code = _drawn(shape, image)
    entry = {
        "label": shape.label,
        "points": points,
        "group_id": shape.group,
        "description": description,
        "shape_type": "polygon" if code is None else "mask",
        "flags": flags,
        "mask": code,
    }
    return entry | ({"attributes": rest} if rest else {})


def _drawn(shape: Shape, image: Annotated) -> tuple[list[Any], str | None]:
    """The points of an outline; or the first and last corner of a mask's box, and its PNG in base64."""
    if shape.points is not None:
        return numbers(at_least_three(shape.points)), None
    box, pixels = mask(shape, image.size)
    if not pixels.size:  # a PNG has a pixel at least
        pixels = np.zeros((1, 1), np.bool_)
    _, png = cv2.imencode(".png", pixels.astype(np.uint8))
    corners = [[box.left, box.top], [box.left + pixels.shape[1] - 1, box.top + pixels.shape[0] - 1]]
    return corners, base64.b64encode(png.tobytes()).decode("ascii")
