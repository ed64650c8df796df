"""COCO's instances JSON (https://cocodataset.org/#format-data): polygons, and masks as column-major run lengths."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from bonepipe.data.formats import fields
from bonepipe.data.formats.folder import Images, Place
from bonepipe.data.formats.model import Annotated, Dataset, Notes, Shape, at_least_three, dataset, mask, numbers
from bonepipe.errors import BonepipeError, quoted
from bonepipe.files import write_json
from bonepipe.labels import cutout, rle
from bonepipe.labels.cutout import Box, hull

NO_OUTLINE = "annotations left out: a box or key points alone, no outline"


def read(path: Path, images: Images, notes: Notes) -> Dataset:
    """Read a file; several polygons of an annotation become one shape each, grouped. Raises BonepipeError."""
    content, where = fields.read_json(path), str(path)
    names = _names(fields.member(content, "categories", list, where), f"{where}: categories")
    entries = fields.member(content, "images", list, where)
    places: dict[int, Place] = {}
    for number, entry in enumerate(fields.progress(entries, "images")):
        key = fields.member(entry, "id", int, f"{where}: images[{number}]")
        if key in places:
            raise BonepipeError(f"{where}: images[{number}].id: {key} is there twice")
        places[key] = _place(entry, images, f"{where}: images[{number}]")
    shapes: dict[int, list[Shape]] = {key: [] for key in places}
    for number, entry in enumerate(
        fields.progress(fields.member(content, "annotations", list, where), "read", "annotation")
    ):
        field = f"{where}: annotations[{number}]"
        image, category = (fields.member(entry, key, int, field) for key in ("image_id", "category_id"))
        for name, known in (("image_id", places.keys()), ("category_id", names.keys())):
            if entry[name] not in known:
                raise BonepipeError(f"{field}.{name}: nothing has the id {entry[name]}")
        shapes[image] += _shapes(entry, names[category], places[image].size, number + 1, field, images)
    found = zip(places.items(), entries, strict=True)
    annotated = [
        Annotated(
            name=place.name, height=place.size[0], width=place.size[1], shapes=tuple(shapes[key]), path=place.path,
            attributes=fields.optional(entry, "attributes"),
        )
        for (key, place), entry in found
    ]  # fmt: skip
    return dataset(annotated, names.values(), path, images.limits)


def _names(categories: list[Any], where: str) -> dict[int, str]:
    names: dict[int, str] = {}
    for number, category in enumerate(categories):
        key = fields.member(category, "id", int, f"{where}[{number}]")
        name = fields.label(category.get("name"), f"{where}[{number}].name")
        if key in names or name in names.values():
            raise BonepipeError(f"{where}[{number}]: id {key} or name {quoted(name)} is there twice")
        names[key] = name
    return names


def _place(entry: Any, images: Images, where: str) -> Place:
    name = fields.member(entry, "file_name", str, where)
    return images.place([name], fields.size(entry, "height", "width", where), where)


def _shapes(
    entry: dict[str, Any], label: str, size: tuple[int, int], group: int, where: str, images: Images
) -> Iterator[Shape]:
    segmentation = entry.get("segmentation")
    attributes = fields.optional(entry, "attributes") | ({"iscrowd": 1} if entry.get("iscrowd") == 1 else {})
    where = f"{where}.segmentation"
    if not segmentation:
        images.notes[NO_OUTLINE] += 1
    elif isinstance(segmentation, dict):
        yield Shape(label=label, runs=_runs(segmentation, size, where), attributes=attributes)
    elif isinstance(segmentation, list):
        of = group if len(segmentation) > 1 else None
        for number, flat in enumerate(segmentation):
            points = fields.outline(_paired(flat), f"{where}[{number}]", images.limits)
            yield Shape(label=label, points=points, group=of, attributes=attributes)
    else:
        raise BonepipeError(f"{where}: expected polygons or run lengths, not {quoted(segmentation)}")


def _paired(flat: Any) -> list[Any] | None:
    whole = isinstance(flat, list) and flat and len(flat) % 2 == 0
    return [flat[start : start + 2] for start in range(0, len(flat), 2)] if whole else None


def _runs(segmentation: dict[str, Any], size: tuple[int, int], where: str) -> rle.Runs:
    counts = segmentation.get("counts")
    if segmentation.get("size") != [*size]:
        raise BonepipeError(f"{where}.size: {quoted(segmentation.get('size'))} is not the image's {[*size]}")
    if isinstance(counts, str):
        return rle.mask_runs(_library().decode({"size": [*size], "counts": _whole(counts, size, where)}))
    return rle.mask_runs(fields.mask_of_counts(counts, (size[1], size[0]), f"{where}.counts").T)


def _whole(text: str, size: tuple[int, int], where: str) -> bytes:
    """A compressed text, sure to cover the image: the library leaves memory as it is where the text stops short.

    Each number is made of 5 bits a letter, the lowest first, bit 6 telling that more follow; from the fourth on it is
    the difference to the last but one (pycocotools, common/maskApi.c, rleFrString).
    """
    counts: list[int] = []
    value = shift = 0
    for letter in text.encode("utf-8"):
        value |= (letter - 48 & 31) << shift
        shift += 5
        if letter - 48 & 32:
            continue
        value -= (1 << shift) if letter - 48 & 16 else 0
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift or min(counts, default=-1) < 0 or sum(counts) != size[0] * size[1]:
        raise BonepipeError(f"{where}.counts: {quoted(text)} are no run lengths of {size[1]} x {size[0]} pixels")
    return text.encode("utf-8")


def _library() -> ModuleType:
    try:
        from pycocotools import mask as library
    except ImportError as error:
        raise BonepipeError("COCO's run lengths need pycocotools: pip install 'bonepipe[annotations]'") from error
    return library


def write(data: Dataset, out: Path, notes: Notes) -> None:
    """Write a file; shapes of a group are one annotation of several polygons. Identifiers count from 1."""
    numbers_of = {name: number for number, name in enumerate(data.classes, 1)}
    identifier = count(1)
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(fields.progress(data.images, "write"), 1):
        for parts in _objects(image):
            head = {"id": next(identifier), "image_id": number, "category_id": numbers_of[parts[0].label]}
            annotations.append(head | _annotation(parts, image))
    content = {
        "info": {"description": "written by bonepipe convert"},
        "licenses": [],
        "categories": [{"id": number, "name": name, "supercategory": ""} for name, number in numbers_of.items()],
        "images": [_image(number, image) for number, image in enumerate(data.images, 1)],
        "annotations": annotations,
    }
    write_json(out, content, indent=None)


def _image(number: int, image: Annotated) -> dict[str, Any]:
    entry = {"id": number, "file_name": image.name, "height": image.height, "width": image.width}
    return entry | ({"attributes": dict(image.attributes)} if image.attributes else {})


def _objects(image: Annotated) -> list[list[Shape]]:
    """The shapes of an image, the outlines of a group and label together."""
    objects: dict[Any, list[Shape]] = {}
    for number, shape in enumerate(image.shapes):
        alone = shape.group is None or shape.points is None
        objects.setdefault((number,) if alone else (shape.group, shape.label), []).append(shape)
    return list(objects.values())


def _annotation(parts: list[Shape], image: Annotated) -> dict[str, Any]:
    pixels = [mask(part, image.size) for part in parts]
    box = hull(part.box for part in pixels)
    attributes = dict(parts[0].attributes)
    crowd = int(attributes.pop("iscrowd", 0) == 1)
    segmentation: Any = _encoded(parts[0], image.size)
    if parts[0].points is not None:
        outlines = (at_least_three(part.points) for part in parts if part.points is not None)
        segmentation = [[value for point in numbers(points) for value in point] for points in outlines]
    entry = {
        "segmentation": segmentation,
        "area": _union_area(pixels, box),
        "bbox": [box.left, box.top, box.width, box.height],
        "iscrowd": crowd,
    }
    return entry | ({"attributes": attributes} if attributes else {})


def _union_area(pixels: list[cutout.Cutout], box: Box) -> int:
    return int(np.count_nonzero(np.any([cutout.inside(part, box) for part in pixels], axis=0)))


def _encoded(shape: Shape, size: tuple[int, int]) -> dict[str, Any] | None:
    if shape.points is not None:
        return None
    pixels = cutout.to_mask(mask(shape, size), size)
    coded = _library().encode(np.asfortranarray(pixels.astype(np.uint8)))
    return {"size": [*size], "counts": coded["counts"].decode("ascii")}
