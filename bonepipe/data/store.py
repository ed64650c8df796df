"""The store: every training image and its labels at training size, memory-mapped, built once.

Decoding a radiograph and filling its polygons costs far more than augmenting it, so both are done once a training size
and shared by all folds, workers and experiments. The outlines are kept as well, and filled at the original size, where
validation compares: see `bonepipe.data.truth`.

Where the spec names a region, the crops around it are the images of the store: their pixels, shapes and outlines. A
wider crop of each is kept for training, which looks at a slightly other part of it each time. It is cut around the
labels that are trained on, where corrections amend them; the crops that validation sees stay where they are annotated.
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from bonepipe.data import contents, corrections, pseudo
from bonepipe.data import truth as truths
from bonepipe.data.annotation import Polygon, read_annotation
from bonepipe.data.catalog import Radiograph
from bonepipe.data.corrections import Correction
from bonepipe.data.frame import Fit, Frame
from bonepipe.data.image import resize_grey
from bonepipe.data.pseudo import PseudoLabel
from bonepipe.data.region import cut, jittered, smallest_box
from bonepipe.data.spec import DataSpec
from bonepipe.data.thumbnails import SIDE, Thumbnails, thumbnail
from bonepipe.digests import combined, digests
from bonepipe.disk import naming, reserve
from bonepipe.errors import BonepipeError
from bonepipe.files import appearing
from bonepipe.labels import bitplane, polygon
from bonepipe.labels.cutout import Box, Cutout
from bonepipe.leftovers import remove
from bonepipe.parallel import cores
from bonepipe.screen import say

WIDE = "wide"  # folder of the wider crops
DIGESTS = "digests.json"  # beside the stores: of files' contents, see `bonepipe.digests`
VERSION = 4  # of the store's content; raise it when images or planes are computed differently


class Layers(NamedTuple):
    """Pixels and labels of an image, or of several (N in front).

    Attributes:
        images: grey values, uint8 `[h, w]`.
        planes: labels as bit-planes, uint8 `[h, w, P]`.
        ignored: the pixels whose labels do not count, by class, as `planes`; None where all count.
    """

    images: np.ndarray
    planes: np.ndarray
    ignored: np.ndarray | None = None

    def cut(self, box: Box) -> "Layers":
        """The part of an image inside a box, empty beyond the image; what counts nowhere does not there either."""
        ignored = None if self.ignored is None else cut(self.ignored, box) | bitplane.everywhere(self.ignored)
        return Layers(cut(self.images, box), cut(self.planes, box), ignored)

    def resized(self, shape: tuple[int, int]) -> "Layers":
        """An image at another size."""
        ignored = None if self.ignored is None else bitplane.resize(self.ignored, shape)
        return Layers(resize_grey(self.images, shape), bitplane.resize(self.planes, shape), ignored)

    def framed(self, frame: Frame) -> "Layers":
        """An image as a frame shows it; a class that counts nowhere does not count beside it either."""
        ignored = self.ignored
        if ignored is not None:
            ignored = frame.place(ignored, bitplane.resize) | bitplane.everywhere(ignored)
        return Layers(frame.place(self.images, resize_grey), frame.place(self.planes, bitplane.resize), ignored)

    def put(self, index: int, image: "Layers") -> None:
        """Write one image of several."""
        for layer, values in zip(self, image, strict=True):
            if layer is not None and values is not None:
                layer[index] = values


@dataclass(frozen=True)
class Store:
    """The training images of a dataset at one size.

    Attributes:
        names: image names; all arrays are in this order.
        images: grey values, uint8 `[N, h, w]`, memory-mapped.
        planes: labels as bit-planes, uint8 `[N, h, w, P]`, memory-mapped.
        shapes: original height and width, int64 `[N, 2]`.
        points, starts, classes, owners: the outlines: int32 `[M, 2]`, and a row an outline of where its points start
            (one more than outlines), its class, and its image's index.
        class_count: number of classes.
        ignored: the pixels whose labels do not count, by class, as `planes`; None where all count.
        crops: where the spec names a region, the part of the original that each image shows, int64 `[N, 4]` as top,
            left, bottom, right; zeros where the region's classes are missing. None for whole images.
        sources: the same for training, around the amended labels.
        wide: what training draws from, at `supersample` times the size: the sources with their labels and what jitter
            may bring into view, or whole images; None where training draws the images.
        fit: how images of another aspect than the store's lie in it, see `Frame`.
        supersample: how many times larger than the images training draws them.
        bits: the true masks; None where they are to be filled from the outlines each time.
        thumbnails: of the whole images, float32 `[N, s, s]`, see `bonepipe.data.thumbnails`.

    Where the spec names corrections or pseudo-labels, `planes` are the amended labels. The outlines, and with them
    `truth` and `crops`, are always those of the annotation.
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
    crops: np.ndarray | None = None
    sources: np.ndarray | None = None
    wide: Layers | None = None
    fit: Fit = "stretch"
    supersample: int = 1
    bits: truths.TruthBits | None = None
    thumbnails: Thumbnails = field(default_factory=lambda: np.zeros((0, SIDE, SIDE), np.float32))

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to loader processes by name: pickling a memory map would copy it."""
        return _load, (self.folder, self.names, self.class_count, self.fit, self.supersample)

    @cached_property
    def frame(self) -> Frame:
        """How each image lies in the store."""
        height, width = self.images.shape[1:3]
        return Frame((height, width), self.fit)

    @cached_property
    def drawn_frame(self) -> Frame:
        """How each image lies where training draws it from."""
        height, width = self.frame.shape
        return Frame((height * self.supersample, width * self.supersample), self.fit)

    @cached_property
    def padded(self) -> bool:
        """Whether any image leaves a part of its frame black."""
        frame = self.drawn_frame
        return any(frame.box(self.shape(index)) != Box(0, 0, *frame.shape) for index in range(len(self.names)))

    def padding(self, index: int) -> bitplane.Planes | None:
        """Planes like those drawn, all bits set beside an image in its frame; None where no image leaves any black."""
        if not self.padded:
            return None
        planes = np.full((*self.drawn_frame.shape, self.planes.shape[-1]), 255, np.uint8)
        planes[self.drawn_frame.box(self.shape(index)).slices] = 0
        return planes

    @cached_property
    def index(self) -> dict[str, int]:
        """Image name -> its number in all arrays."""
        return {name: number for number, name in enumerate(self.names)}

    def shape(self, index: int) -> tuple[int, int]:
        """Original height and width of an image, pixels."""
        height, width = self.shapes[index].tolist()
        return height, width

    def drawn(self, index: int, seed: int) -> Layers:
        """An image with its labels as training sees it before augmentation; the seed decides which part of a crop."""
        if self.wide is None:
            ignored = None if self.ignored is None else self.ignored[index]
            return Layers(np.array(self.images[index]), np.array(self.planes[index]), ignored)
        wide = Layers(*(None if layer is None else layer[index] for layer in self.wide))  # type: ignore[arg-type]
        part = wide.cut(jittered(self.drawn_frame.shape, wide.images.shape, seed))
        return part._replace(images=np.array(part.images), planes=np.array(part.planes))

    def crop(self, index: int) -> Box | None:
        """The part of the original that an image shows; None for the whole, or where there is nothing to show."""
        if self.crops is None or not self.crops[index].any():
            return None
        return Box(*self.crops[index].tolist())

    def lacking(self, *, training: bool = False) -> list[int]:
        """The images that show nothing, because the region's classes are missing: to validate on, or to train on."""
        boxes = self.sources if training else self.crops
        return [] if boxes is None else np.flatnonzero(~boxes.any(1)).tolist()

    def outlines(self, index: int) -> list[list[np.ndarray]]:
        """The annotated outlines of every class, int32 `[K, 2]` as x, y in pixels at the image's original size."""
        found: list[list[np.ndarray]] = [[] for _ in range(self.class_count)]
        for row in range(*np.searchsorted(self.owners, [index, index + 1])):
            found[self.classes[row]].append(self.points[self.starts[row] : self.starts[row + 1]])
        return found

    def truth(self, index: int) -> list[Cutout]:
        """The true mask of every class at the image's original size, each inside its bounding box."""
        if self.bits is not None:
            return self.bits.masks(index)
        return [polygon.cutout(points, self.shape(index)) for points in self.outlines(index)]


def open_store(images: Sequence[Radiograph], spec: DataSpec, cache: Path) -> Store:
    """Open the store of these images at the spec's size, building it first where it is missing.

    Several processes may ask at once: one builds, the others wait for it. A damaged one is built anew.

    Raises:
        BonepipeError: an image, annotation or mask cannot be used, and nothing half-built is left; or a damaged store
            cannot be removed.
    """
    from filelock import FileLock

    folder = cache / key(images, spec, cache)
    if not _is_good(folder):
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f"{folder.name}.lock"):
            if not _is_good(folder):
                _clear(folder)
                _build(images, spec, folder)
    names = tuple(image.name for image in images)
    return _load(folder, names, len(spec.classes), spec.frame.fit, spec.supersample)


def _is_good(folder: Path) -> bool:
    """Whether a store is there and as it was written."""
    return os.path.lexists(folder) and contents.fault(folder, folder.parent / DIGESTS) is None


def _clear(folder: Path) -> None:
    """Remove a damaged store, and say so; nothing where there is none."""
    if not os.path.lexists(folder):
        return
    fault = contents.fault(folder, folder.parent / DIGESTS)
    try:
        remove(folder)
    except OSError as error:
        why = f"this image store cannot be used ({fault}), nor be removed ({error.strerror})"
        raise BonepipeError(f"{folder}: {why}; remove it yourself, and it is built anew") from error
    say(f"{folder}: this image store cannot be used ({fault}), so it is built anew")


def _load(folder: Path, names: tuple[str, ...], class_count: int, fit: Fit, supersample: int) -> Store:
    with np.load(folder / "outlines.npz") as file:
        arrays = {name: file[name] for name in ("shapes", "points", "starts", "classes", "owners", "thumbnails")}
        boxes = {name: file.get(name) for name in ("crops", "sources")}
    images, planes, ignored = _open_layers(folder)
    wide = _open_layers(folder / WIDE) if (folder / WIDE).is_dir() else None
    further = {
        "ignored": ignored,
        "wide": wide,
        "fit": fit,
        "supersample": supersample,
        "bits": truths.read(folder),
        **boxes,
    }
    return Store(folder, names, images, planes, class_count=class_count, **further, **arrays)


def _open_layers(folder: Path) -> Layers:
    paths = [folder / f"{name}.npy" for name in Layers._fields]
    return Layers(*(np.load(path, mmap_mode="r") if path.is_file() else None for path in paths))  # type: ignore[arg-type]


def _make_layers(folder: Path, count: int, shape: tuple[int, int], planes: int, ignores: bool) -> Layers:
    """Files of `count` empty images."""
    folder.mkdir(exist_ok=True)
    shapes = [(count, *shape), (count, *shape, planes), (count, *shape, planes)]
    wanted = list(zip(Layers._fields, shapes, strict=True))[: 3 if ignores else 2]
    return Layers(*(_make_map(folder / f"{name}.npy", size) for name, size in wanted))


def _make_map(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    with naming(path):
        made = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    reserve(path)
    return made


def files_of(images: Sequence[Radiograph], spec: DataSpec) -> dict[str, Path]:
    """All files that a store of these images is made from, by names that stay when the data moves to another place."""
    roots = {spec.path: "", **{Path(external.root): f"{external.prefix}/" for external in spec.external}}
    files = {}
    for image in images:
        root = next(root for root in roots if image.path.is_relative_to(root))
        for path in (image.path, image.annotation):
            if path is not None:
                files[roots[root] + path.relative_to(root).as_posix()] = path
    lists = {"data.corrections": spec.corrections, "data.pseudo": spec.pseudo, "data.masks": spec.masks}
    return files | {key: existing(key, Path(path)) for key, path in lists.items() if path is not None}


MADE_BY = {
    "data.masks": "weak-labels",
    "data.pseudo": "pseudo",
    "data.corrections": "label-errors",
    "augment.file": "autoaugment",
}


def existing(key: str, path: Path) -> Path:
    """The path of a file that a setting names; BonepipeError where it is not there."""
    if not path.is_file():
        made = f"; `bonepipe {MADE_BY[key]}` writes one" if key in MADE_BY else ""
        raise BonepipeError(f"{key}={path}: no such file{made}; name another one, or set {key}=null")
    return path


def key(images: Sequence[Radiograph], spec: DataSpec, cache: Path) -> str:
    """Name of the store: the training size and a digest of all that its content depends on, the images' order too."""
    files = files_of(images, spec)
    made_from = dict(zip(files, digests(files.values(), cache / DIGESTS), strict=True))
    partial = [[image.name, *image.annotated] for image in images if image.annotated is not None]
    region = asdict(spec.region) if spec.region else None
    height, width = spec.shape
    negatives, fit = [image.name for image in images if image.negative], spec.frame.fit
    content = [
        VERSION,
        [image.name for image in images],  # in this order
        height,
        width,
        spec.supersample,
        fit,
        spec.classes,
        spec.labels,
        made_from,
        partial,
        region,
        negatives,
    ]
    return f"{spec.name}-{height}x{width}-{combined(content)[:12]}"


def amendments(images: Sequence[Radiograph], spec: DataSpec) -> dict[str, Correction | PseudoLabel]:
    """What takes the place of annotated labels in training, by image name. Raises BonepipeError, see the readers."""
    found: dict[str, Correction | PseudoLabel] = {}
    mended: dict[str, Correction] = {}
    if spec.corrections is not None:
        mended = corrections.read(Path(spec.corrections), spec.labels, [image.name for image in images])
        found |= mended
    if spec.masks is not None:
        names = [image.name for image in images if image.annotation is not None]
        found |= pseudo.whole_masks(Path(spec.masks), names, spec)
    else:
        found |= _partial_annotations(images, spec, mended)
    if spec.pseudo is not None:
        found |= pseudo.read(Path(spec.pseudo), spec.classes, spec.others or ())
    return found


def _partial_annotations(
    images: Sequence[Radiograph], spec: DataSpec, mended: Mapping[str, Correction]
) -> dict[str, Correction]:
    """Corrections by which the images whose annotations lack classes leave these out of the loss."""
    found = {}
    for image in images:
        if image.annotated is not None:
            unknown = [number for number, label in enumerate(spec.labels) if not image.knows(label)]
            nothing = Correction(str(image.annotation), len(spec.labels))
            found[image.name] = corrections.with_unknown(mended.get(image.name, nothing), unknown)
    return found


def _build(images: Sequence[Radiograph], spec: DataSpec, folder: Path) -> None:
    """Fill the arrays in a folder of another name, then rename it: a store that is there is complete."""
    with naming(folder), appearing(folder) as temporary:
        _fill(images, spec, temporary, folder.name)
        contents.note(temporary)


def _fill(images: Sequence[Radiograph], spec: DataSpec, folder: Path, title: str) -> None:
    amended = amendments(images, spec)
    made = _empty_layers(images, spec, folder, any(amendment.ignores for amendment in amended.values()))

    def fill(index: int) -> tuple[Prepared, truths.Packed]:
        prepared = prepare(images[index], spec, amended.get(images[index].name))
        for layers, image in zip(made, (prepared.layers, prepared.wide), strict=False):
            if image is not None:
                layers.put(index, image)
        packed = truths.pack(prepared.truth(len(spec.classes)))
        return prepared._replace(image=NOTHING, planes=NOTHING, ignored=None, wide=None), packed  # they are written

    with ThreadPoolExecutor(cores()) as pool:  # decoding, filling and resizing release the GIL
        filled = tqdm(pool.map(fill, range(len(images))), f"store {title}", len(images), unit="image")
        rows = truths.write(folder, filled)
    for layer in (layer for layers in made for layer in layers if layer is not None):
        layer.flush()  # type: ignore[attr-defined]  # a memory map
    boxes = {"crops": [row.crop for row in rows], "sources": [row.source for row in rows]} if spec.region else {}
    crops: dict[str, Any] = {name: np.array(of_images, np.int64) for name, of_images in boxes.items()}
    thumbnails = np.array([row.thumbnail for row in rows], np.float32)
    np.savez(folder / "outlines.npz", **_flatten(rows), **crops, thumbnails=thumbnails)


def _empty_layers(images: Sequence[Radiograph], spec: DataSpec, folder: Path, ignores: bool) -> list[Layers]:
    """The files of the images, and of the crops that training draws from where they are kept apart."""
    count, planes = len(images), bitplane.plane_count(len(spec.classes))
    made = [_make_layers(folder, count, spec.shape, planes, ignores)]
    if _draws_apart(spec):
        made.append(_make_layers(folder / WIDE, count, _wide_shape(spec), planes, ignores))
    return made


def _wide_shape(spec: DataSpec) -> tuple[int, int]:
    """Height and width in pixels of what training draws from."""
    return spec.drawn_shape if spec.region is None else spec.region.wide_shape(spec.drawn_shape)


NOTHING = np.zeros(0, np.uint8)


class Prepared(NamedTuple):
    """One image for the store.

    Attributes:
        image, planes: grey bytes `[h, w]` and bit-planes `[h, w, P]` at training size.
        shape: the original's height and width; where there is a region, those of the crop from it.
        outlines: the annotation's, in pixels of that shape.
        ignored: bit-planes of what does not count, or None.
        crop: the part of the original that is shown; empty where the region's classes are missing or there is none.
        source: the same for training, around the amended labels.
        wide: what training draws from, or None.
        thumbnail: of the whole image.
    """

    image: np.ndarray
    planes: np.ndarray
    shape: tuple[int, int]
    outlines: list[Polygon]
    ignored: np.ndarray | None = None
    crop: Box = Box(0, 0, 0, 0)
    source: Box = Box(0, 0, 0, 0)
    wide: Layers | None = None
    thumbnail: np.ndarray = NOTHING

    @property
    def layers(self) -> Layers:
        """Pixels and labels."""
        return Layers(self.image, self.planes, self.ignored)

    def truth(self, classes: int) -> list[Cutout]:
        """The true mask of every class."""
        return polygon.cutouts(self.outlines, self.shape, classes)


def prepare(image: Radiograph, spec: DataSpec, amendment: Correction | PseudoLabel | None = None) -> Prepared:
    """Read an image and its labels, and bring them, or the region of them, to training size.

    An amendment changes the planes and what training is shown of a region. The outlines, and the crop that validation
    sees, are the annotation's all the same, because validation compares with the truth. Raises BonepipeError, naming
    the image, where an amendment does not fit the image.
    """
    grey, count = image.read(), len(spec.classes)
    polygons = [] if image.annotation is None else read_annotation(image.annotation, spec.labels, spec.limits)
    planes, ignored = polygon.rasterise(polygons, grey.shape, len(spec.labels)), None
    annotated = _region_box(planes, spec)
    if amendment is not None:
        planes = amendment.apply(planes)
        ignored = amendment.ignored_planes(grey.shape) if amendment.ignores else None
    drawn = _region_box(planes, spec)
    if spec.others:
        polygons = [(label, points) for label, points in polygons if label < count]
        planes, ignored = bitplane.first(planes, count), None if ignored is None else bitplane.first(ignored, count)
    whole = Layers(grey, planes, ignored)
    if spec.region is not None:
        region = _prepare_region(whole, polygons, drawn if image.annotation is None else annotated, drawn, spec)
        return region._replace(thumbnail=thumbnail(grey))
    small = whole.framed(spec.frame)
    wide = whole.framed(replace(spec.frame, shape=spec.drawn_shape)) if _draws_apart(spec) else None
    return Prepared(
        small.images, small.planes, grey.shape, polygons, small.ignored, wide=wide, thumbnail=thumbnail(grey)
    )  # fmt: skip


def _region_box(planes: bitplane.Planes, spec: DataSpec) -> Box | None:
    """The box of the region's classes; None where they are missing, or there is no region."""
    if spec.region is None:
        return None
    flags = np.zeros(len(spec.labels), np.bool_)
    flags[spec.region_classes] = True
    return smallest_box(np.asarray((planes & bitplane.pack(flags)).any(axis=-1)))


def _prepare_region(
    whole: Layers, polygons: list[Polygon], annotated: Box | None, drawn: Box | None, spec: DataSpec
) -> Prepared:
    """The region of an image: the crop of the annotation, and what training draws from where that is kept apart.

    Where the region's classes are missing the crop is empty, and all of the image takes its place.
    """
    assert spec.region is not None
    nothing = Box(0, 0, 0, 0)
    source = nothing if drawn is None else spec.region.crop(drawn, spec.shape)
    wide = None
    if drawn is not None and _draws_apart(spec):
        wide = whole.cut(spec.region.wide(source)).resized(_wide_shape(spec))
    if annotated is None:
        small = whole.resized(spec.shape)
        return Prepared(small.images, small.planes, whole.images.shape, polygons, small.ignored, nothing, source, wide)
    crop = spec.region.crop(annotated, spec.shape)
    small, corner = whole.cut(crop).resized(spec.shape), np.array([crop.left, crop.top], np.int32)
    shifted = [(label, points - corner) for label, points in polygons]
    return Prepared(
        small.images, small.planes, (crop.height, crop.width), shifted, small.ignored, crop, source, wide
    )  # fmt: skip


def _draws_apart(spec: DataSpec) -> bool:
    """Whether training draws from images of its own: finer ones, wider crops, or those around other labels."""
    amends = spec.corrections is not None or spec.masks is not None
    return spec.supersample > 1 or (spec.region is not None and (spec.region.jitter > 0 or amends))


def _flatten(rows: Sequence[Prepared]) -> dict[str, Any]:
    """All outlines in flat arrays, see `Store`."""
    outlines = [(owner, label, points) for owner, row in enumerate(rows) for label, points in row.outlines]
    lengths = [len(points) for _, _, points in outlines]
    return {
        "shapes": np.array([row.shape for row in rows], np.int64).reshape(-1, 2),
        "points": np.concatenate([points for _, _, points in outlines] or [np.empty((0, 2), np.int32)]),
        "starts": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        "classes": np.array([label for _, label, _ in outlines], np.int64),
        "owners": np.array([owner for owner, _, _ in outlines], np.int64),
    }
