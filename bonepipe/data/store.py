"""The store: every training image and its labels at training size, memory-mapped, built once.

Decoding a radiograph and filling its polygons costs far more than augmenting it, so both are done once a training size
and shared by all folds, workers and experiments. The outlines are kept as well: validation compares at the original
size, and filling a polygon inside its box is cheaper than reading a full-size mask.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bonepipe.data import corrections, pseudo
from bonepipe.data.annotation import Polygon, read_annotation
from bonepipe.data.catalog import Radiograph
from bonepipe.data.corrections import Correction
from bonepipe.data.image import read_grey, resize_grey
from bonepipe.data.masks import existing
from bonepipe.data.pseudo import PseudoLabel
from bonepipe.data.spec import DataSpec
from bonepipe.errors import BonepipeError
from bonepipe.files import digest
from bonepipe.labels import bitplane, polygon
from bonepipe.labels.cutout import Cutout

VERSION = 1  # of the store's content; raise it when images or planes are computed differently


@dataclass(frozen=True)
class Store:
    """The training images of a dataset at one size.

    Attributes:
        folder: where the store lies.
        names: image names; all arrays are in this order.
        images: grey values, uint8 `[N, h, w]`, memory-mapped.
        planes: labels as bit-planes, uint8 `[N, h, w, P]`, memory-mapped.
        shapes: original height and width, int64 `[N, 2]`.
        points, starts, classes, owners: the outlines: int32 `[M, 2]`, and a row an outline of where its points start
            (one more than outlines), its class, and its image's index.
        class_count: number of classes.
        ignored: the pixels whose labels do not count, by class, as `planes`; None where all count.

    Where the spec names corrections or pseudo-labels, `planes` are the amended labels. The outlines, and with them
    `truth`, are always those of the annotation.
    """

    folder: Path
    names: tuple[str, ...]
    images: np.ndarray
    planes: np.ndarray
    shapes: np.ndarray
    points: np.ndarray
    starts: np.ndarray
    classes: np.ndarray
    owners: np.ndarray
    class_count: int
    ignored: np.ndarray | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to loader processes by name: pickling a memory map would copy it."""
        return _load, (self.folder, self.names, self.class_count)

    def shape(self, index: int) -> tuple[int, int]:
        """Original height and width of an image, pixels."""
        height, width = self.shapes[index].tolist()
        return height, width

    def outlines(self, index: int) -> list[list[np.ndarray]]:
        """The annotated outlines of every class, int32 `[K, 2]` as x, y in pixels at the image's original size."""
        found: list[list[np.ndarray]] = [[] for _ in range(self.class_count)]
        for row in range(*np.searchsorted(self.owners, [index, index + 1])):
            found[self.classes[row]].append(self.points[self.starts[row] : self.starts[row + 1]])
        return found

    def truth(self, index: int) -> list[Cutout]:
        """The true mask of every class at the image's original size, each inside its bounding box."""
        return [polygon.cutout(points, self.shape(index)) for points in self.outlines(index)]


def open_store(images: Sequence[Radiograph], spec: DataSpec, cache: Path) -> Store:
    """Open the store of these images at the spec's size, building it first where it is missing.

    Several processes may ask at once: one builds, the others wait for it.

    Raises:
        BonepipeError: an image, annotation or mask cannot be used; nothing half-built is left.
    """
    from filelock import FileLock

    folder = cache / key(images, spec)
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f"{folder.name}.lock"):
            if not folder.is_dir():
                _build(images, spec, folder)
    return _load(folder, tuple(image.name for image in images), len(spec.classes))


def _load(folder: Path, names: tuple[str, ...], class_count: int) -> Store:
    with np.load(folder / "outlines.npz") as outlines:
        arrays = {name: outlines[name] for name in ("shapes", "points", "starts", "classes", "owners")}
    images, planes = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("images", "planes"))
    path = folder / "ignored.npy"
    ignored = np.load(path, mmap_mode="r") if path.is_file() else None
    return Store(folder, names, images, planes, class_count=class_count, ignored=ignored, **arrays)


def key(images: Sequence[Radiograph], spec: DataSpec) -> str:
    """Name of the store: the training size and a hash of all that its content depends on."""
    files = [path for image in images for path in (image.path, image.annotation) if path is not None]
    if spec.masks is not None:
        files.append(existing(Path(spec.masks)))
    states = [(str(path.absolute()), stat.st_size, stat.st_mtime_ns) for path in files for stat in [path.stat()]]
    lists = [_content(Path(path)) for path in (spec.corrections, spec.pseudo) if path is not None]
    partial = [[image.name, *image.annotated] for image in images if image.annotated is not None]
    content = json.dumps([VERSION, spec.shape, spec.classes, states, *lists, *partial])
    height, width = spec.shape
    return f"{spec.name}-{height}x{width}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def _content(path: Path) -> str:
    try:
        return digest(path)
    except OSError as error:
        raise BonepipeError(f"{path}: cannot be read ({error.strerror}); see data.corrections, data.pseudo") from error


def amendments(images: Sequence[Radiograph], spec: DataSpec) -> dict[str, Correction | PseudoLabel]:
    """What takes the place of annotated labels in training, by image name. Raises BonepipeError, see the readers."""
    found: dict[str, Correction | PseudoLabel] = {}
    mended: dict[str, Correction] = {}
    if spec.corrections is not None:
        mended = corrections.read(Path(spec.corrections), spec.classes, [image.name for image in images])
        found |= mended
    if spec.masks is not None:
        names = [image.name for image in images if image.annotation is not None]
        found |= pseudo.whole_masks(Path(spec.masks), names, spec.classes)
    else:
        found |= _partial_annotations(images, spec, mended)
    if spec.pseudo is not None:
        found |= pseudo.read(Path(spec.pseudo), spec.classes)
    return found


def _partial_annotations(
    images: Sequence[Radiograph], spec: DataSpec, mended: Mapping[str, Correction]
) -> dict[str, Correction]:
    """Corrections by which the images whose annotations lack classes leave these out of the loss."""
    found = {}
    for image in images:
        if image.annotated is not None:
            unknown = [number for number, label in enumerate(spec.classes) if not image.knows(label)]
            nothing = Correction(str(image.annotation), len(spec.classes))
            found[image.name] = corrections.with_unknown(mended.get(image.name, nothing), unknown)
    return found


def _build(images: Sequence[Radiograph], spec: DataSpec, folder: Path) -> None:
    """Fill the arrays in a folder of another name, then rename it: a store that is there is complete."""
    temporary = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)  # of a build that was killed; the lock says that nobody is at it
    temporary.mkdir()
    try:
        shape = (len(images), *spec.shape)
        planes_shape = (*shape, bitplane.plane_count(len(spec.classes)))
        grey = np.lib.format.open_memmap(temporary / "images.npy", "w+", np.uint8, shape)
        planes = np.lib.format.open_memmap(temporary / "planes.npy", "w+", np.uint8, planes_shape)

        amended = amendments(images, spec)
        ignored = None
        if any(amendment.ignores for amendment in amended.values()):
            ignored = np.lib.format.open_memmap(temporary / "ignored.npy", "w+", np.uint8, planes_shape)

        def fill(index: int) -> tuple[tuple[int, int], list[Polygon]]:
            amendment = amended.get(images[index].name)
            grey[index], planes[index], original, polygons = prepare(images[index], spec, amendment)
            if ignored is not None and amendment is not None and amendment.ignores:
                large = amendment.ignored_planes(original)
                ignored[index] = bitplane.resize(large, spec.shape)
            return original, polygons

        with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding, filling and resizing release the GIL
            rows = list(tqdm(pool.map(fill, range(len(images))), f"store {folder.name}", len(images), unit="image"))
        grey.flush()
        planes.flush()
        if ignored is not None:
            ignored.flush()
        np.savez(temporary / "outlines.npz", **_flatten(rows))
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def prepare(
    image: Radiograph, spec: DataSpec, amendment: Correction | PseudoLabel | None = None
) -> tuple[np.ndarray, np.ndarray, tuple[int, int], list[Polygon]]:
    """Grey bytes `[h, w]` and bit-planes `[h, w, P]` at training size, the original shape, and the outlines.

    An amendment changes the planes; the outlines are the annotation's all the same, because validation compares with
    the truth. Raises BonepipeError, naming the image, where an amendment does not fit the image.
    """
    grey = read_grey(image.path)
    polygons = [] if image.annotation is None else read_annotation(image.annotation, spec.classes)
    planes = polygon.rasterise(polygons, grey.shape, len(spec.classes))
    if amendment is not None:
        planes = amendment.apply(planes)
    return resize_grey(grey, spec.shape), bitplane.resize(planes, spec.shape), grey.shape, polygons


def _flatten(rows: Sequence[tuple[tuple[int, int], list[Polygon]]]) -> dict[str, Any]:
    """All outlines in flat arrays, see `Store`."""
    outlines = [(owner, label, points) for owner, (_, polygons) in enumerate(rows) for label, points in polygons]
    lengths = [len(points) for _, _, points in outlines]
    return {
        "shapes": np.array([shape for shape, _ in rows], np.int64).reshape(-1, 2),
        "points": np.concatenate([points for _, _, points in outlines] or [np.empty((0, 2), np.int32)]),
        "starts": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        "classes": np.array([label for _, label, _ in outlines], np.int64),
        "owners": np.array([owner for owner, _, _ in outlines], np.int64),
    }
