"""The competition's dataset folder and its JSON, see `bonepipe.data.annotation`: dense whole points, no holes."""

import re
import shutil
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from bonepipe.data.annotation import document, is_filled, read_document
from bonepipe.data.formats import fields
from bonepipe.data.formats.folder import Images, safe
from bonepipe.data.formats.model import Annotated, Dataset, Notes, Points, Shape, as_polygons, by_stem, dataset
from bonepipe.data.limits import Limits
from bonepipe.errors import BonepipeError, UsageError, quoted
from bonepipe.files import find_files, write_json

IMAGES, ANNOTATIONS = "train/DCM", "train/outputs_json"
ALONE = "images without a folder: each counts as a patient of its own (--patient REGEX tells them)"
ROUNDED = "outlines rounded to whole pixels, as the format has them"
BARE = "images not linked, as --images does not have them"


def read(path: Path, images: Images, notes: Notes) -> Dataset:
    """Read a dataset's annotations, those below any folder, or one file. The images tell the sizes, where there are."""
    folder = path / ANNOTATIONS if (path / ANNOTATIONS).is_dir() else path
    if images.folder is None and (path / IMAGES).is_dir():
        images = Images(path / IMAGES, notes, images.limits)
    paths = find_files(folder, (".json",)) if folder.is_dir() else [folder]
    root = folder if folder.is_dir() else folder.parent
    found = [_image(file, root, images, notes) for file in fields.progress(paths, "read")]
    return dataset(found, (), path, images.limits)


def _image(path: Path, root: Path, images: Images, notes: Notes) -> Annotated:
    content, where = read_document(path, images.limits), str(path)
    name = path.relative_to(root).with_suffix(".png").as_posix()
    metadata = content.get("metadata")
    known = isinstance(metadata, dict) and "height" in metadata
    declared = fields.size(metadata, "height", "width", f"{where}: metadata") if known else None
    place = images.place([name], declared, where, trusted=False)
    if place.path is None:
        notes["images whose size is what the JSON's metadata claims, often wrongly: give --images FOLDER"] += 1
    entries = enumerate(content["annotations"])
    shapes = tuple(_shape(entry, f"{where}: annotations[{number}]", images.limits) for number, entry in entries)
    return Annotated(
        name=place.name, height=place.size[0], width=place.size[1], shapes=shapes, path=place.path,
        attributes=fields.optional(content, "attributes"),
    )  # fmt: skip


def _shape(entry: Any, where: str, limits: Limits) -> Shape:
    if not isinstance(entry, dict):
        raise BonepipeError(f"{where}: is not an object")
    if not is_filled(entry.get("type")):
        raise BonepipeError(f"{where}.type: {quoted(entry['type'])} is not filled; redraw it as a polygon (poly_seg)")
    points = fields.outline(entry.get("points"), f"{where}.points", limits)
    label = fields.label(entry.get("label"), f"{where}.label")
    return Shape(label=label, points=points, attributes=fields.optional(entry, "attributes"))


def write(data: Dataset, out: Path, notes: Notes, patient: str | None = None, *, copy: bool = False) -> None:
    """Write a dataset to train on: annotations, and links to the images, or copies of them.

    Args:
        patient: regular expression whose first group is the patient in an image's name; its folder if not given.

    Raises:
        BonepipeError: the pattern finds no patient, or there is none and an image lies several folders deep.
    """
    by_stem(data.images, base=True)  # the catalog tells images apart by it
    for image in fields.progress(data.images, "write"):
        who, stem = _patient(image, patient, notes), PurePosixPath(image.stem).name
        annotation = out / ANNOTATIONS / who / f"{stem}.json"
        annotation.parent.mkdir(parents=True, exist_ok=True)
        write_json(annotation, _content(as_polygons(image, notes), who, notes), indent=None)
        _put(image, out / IMAGES / who / f"{stem}.png", copy, notes)


def _content(image: Annotated, patient: str, notes: Notes) -> dict[str, Any]:
    pairs = [(shape, np.rint(_points(shape)).astype(np.int64)) for shape in image.shapes]
    notes[ROUNDED] += sum(not np.array_equal(_points(shape), points) for shape, points in pairs)
    entries = ((f"{number:024x}", shape.label, points) for number, (shape, points) in enumerate(pairs))
    content = document(entries, PurePosixPath(image.name).name, patient, image.size, "")
    for entry, shape in zip(content["annotations"], image.shapes, strict=True):
        entry["attributes"] = dict(shape.attributes)
    return content | {"attributes": dict(image.attributes)}


def _points(shape: Shape) -> Points:
    return np.zeros((0, 2)) if shape.points is None else shape.points  # as_polygons leaves outlines only


def _patient(image: Annotated, pattern: str | None, notes: Notes) -> str:
    if pattern is None:
        folder = PurePosixPath(image.name).parent
        if len(folder.parts) > 1:
            why = "several folders deep, and any of them may be the patient's"
            way_out = "--patient '^([^/]+)/' takes the first, --patient '([^/]+)/[^/]+$' the last"
            raise BonepipeError(f"{quoted(image.name)} lies {why}: {way_out}")
        notes[ALONE] += not folder.name
        return folder.name or PurePosixPath(image.stem).name
    try:
        match = re.search(pattern, image.name)
    except re.error as error:
        raise UsageError(f"--patient {pattern}: is no regular expression ({error})") from error
    if not match or not match.re.groups or not match.group(1) or "/" in match.group(1):
        raise BonepipeError(f"--patient {pattern}: its first group finds no patient in {image.name!r}")
    return safe(match.group(1), "--patient")


def _put(image: Annotated, path: Path, copy: bool, notes: Notes) -> None:
    if image.path is None:
        notes[BARE] += 1
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if copy:
        shutil.copy2(image.path, path)  # its content counts, not the suffix
    else:
        path.symlink_to(image.path.resolve())
