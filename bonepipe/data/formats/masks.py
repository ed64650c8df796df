"""Mask pictures, NAME/CLASS.png as `bonepipe predict` writes them: 255 inside, 0 outside, at the image's size."""

from pathlib import Path

import cv2
import numpy as np

from bonepipe.data.formats import fields
from bonepipe.data.formats.folder import Images
from bonepipe.data.formats.model import Annotated, Dataset, Notes, Shape, by_stem, class_runs, dataset
from bonepipe.data.image import read_grey
from bonepipe.data.limits import Limits
from bonepipe.errors import BonepipeError
from bonepipe.files import find_files, replacing
from bonepipe.labels import rle


def read(path: Path, images: Images, notes: Notes) -> Dataset:
    """Read the folders below a folder that hold pictures, an image each. Raises BonepipeError."""
    classes = fields.read_labels(path)
    names = {file_name(label): label for label in classes}
    folders: dict[Path, list[Path]] = {}
    for file in find_files(path, (".png",)):
        if file.parent == path:
            raise BonepipeError(f"{file}: expected a folder an image with a picture a class, NAME/CLASS.png")
        folders.setdefault(file.parent, []).append(file)
    pairs = fields.progress([*folders.items()], "read")
    found = [_image(folder, files, path, images, names) for folder, files in pairs]
    # A class may have empty pictures alone.
    shown = [names.get(file.name, file.stem) for files in folders.values() for file in files]
    return dataset(found, dict.fromkeys([*classes, *shown]), path, images.limits)


def _image(folder: Path, files: list[Path], root: Path, images: Images, names: dict[str, str]) -> Annotated:
    masks = {names.get(file.name, file.stem): (file, _mask(file, images.limits)) for file in files}
    sizes = {mask.shape: file for file, mask in masks.values()}
    if len(sizes) > 1:
        raise BonepipeError(f"{folder}: pictures of different sizes (height, width): {sorted(sizes)}")
    (size,) = sizes
    place = images.place([f"{folder.relative_to(root).as_posix()}.png"], (size[0], size[1]), str(folder))
    shapes = tuple(Shape(label=label, runs=rle.mask_runs(mask)) for label, (_, mask) in masks.items() if mask.any())
    return Annotated(name=place.name, height=size[0], width=size[1], shapes=shapes, path=place.path)


def _mask(path: Path, limits: Limits) -> np.ndarray:
    grey = read_grey(path, limits)
    values = np.flatnonzero(np.bincount(grey.ravel(), minlength=256))
    if len(values[values > 0]) > 1:
        raise BonepipeError(f"{path}: is no mask but has {len(values)} grey values; draw 0 outside and 255 inside")
    return grey > 0


def file_name(label: str) -> str:
    """The file of a class."""
    return f"{label.replace('/', '_')}.png"


def write(data: Dataset, out: Path, notes: Notes) -> None:
    """Write a picture an image and class, empty ones too, and the classes' order."""
    files = {file_name(label): label for label in data.classes}
    if len(files) < len(data.classes) or any(name.startswith(".") for name in files):
        raise BonepipeError("two classes have the same file name, or one is hidden by a leading dot; rename them")
    fields.write_labels(out, data.classes)
    for stem, image in fields.progress([*by_stem(data.images).items()], "write"):
        (out / stem).mkdir(parents=True, exist_ok=True)
        for name, label in files.items():
            pixels = rle.decode(class_runs(image, label), image.size).astype(np.uint8) * 255
            with replacing(out / stem / name) as part:
                part.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
