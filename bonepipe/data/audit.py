"""The audit of a dataset: every problem that training, validation or the submission would trip over.

Nothing here stops at the first problem, and nothing trusts a file: what cannot be read becomes a finding.
"""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from bonepipe.data import dicom
from bonepipe.data.annotation import Polygon, read_with_faults
from bonepipe.data.catalog import (
    ANNOTATION,
    Radiograph,
    annotation_path,
    image_paths,
    is_negative,
    patient_of,
    read_catalog,
    unused_negatives,
)
from bonepipe.data.folds import FoldSpec, check_rule, find_faults, require_enough
from bonepipe.data.folds import split as split_into_folds
from bonepipe.data.frame import aspects, strangers
from bonepipe.data.image import ENDS, SUFFIXES, picture_depth
from bonepipe.data.image import find_images as find_image_files
from bonepipe.data.limits import DEFAULTS, Limits
from bonepipe.data.metadata import ROTATED_FILE, read_rotated
from bonepipe.data.metadata import read_with_faults as read_metadata
from bonepipe.data.pseudo import pseudo_images
from bonepipe.data.spec import DataSpec
from bonepipe.data.store import amendments, existing
from bonepipe.data.submission import ANSWER, read_answer
from bonepipe.data.thumbnails import SIDE, Usual, copies, thumbnail
from bonepipe.errors import BonepipeError, suggestion
from bonepipe.files import find_files, name_fault, passed_over, printable
from bonepipe.parallel import cores

COMMON_SHARE = 0.9  # where so many images have one size, another size is worth a look
WASTEFUL = 1.5  # from this factor between the aspects of images and training size on, another size suits better
OPEN_STEPS, OPEN_SHARE = 3.0, 0.2  # an outline is open whose gap is so many times its longest step, and its length
NEAR_BORDER = 0.02  # of the image's width or height
TURNED = "data.negatives names it and has turned it"
LARGEST_ASPECT = 4.0  # long side to short side; a radiograph beyond it is probably a strip of one


@dataclass(frozen=True)
class Finding:
    """One problem.

    Attributes:
        severity: `error` where training or the submission would fail, else `warning`.
        field: the place in the file, for example `annotations[3].label`; empty where the whole file is meant.
        topic: the kind of problem, the same words for the same kind.
    """

    severity: Literal["error", "warning"]
    path: Path
    field: str
    message: str
    topic: str

    def __str__(self) -> str:
        return ": ".join(part for part in (printable(self.path), self.field, self.message) if part)


@dataclass(frozen=True)
class Checked:
    """What is known about an image once it has been opened; all but the findings is None where that failed.

    Attributes:
        digest: of its pixels.
        thumbnail: see `bonepipe.data.thumbnails`.
        depth: bits that its greys use, of an image with 16.
    """

    image: Radiograph
    findings: tuple[Finding, ...]
    shape: tuple[int, int] | None = None
    digest: bytes | None = None
    thumbnail: np.ndarray | None = None
    depth: int | None = None

    @property
    def path(self) -> Path:
        """The image's file."""
        return self.image.path


def audit(spec: DataSpec, folds: FoldSpec) -> list[Finding]:
    """All problems of a dataset and of its fold file, errors first."""
    if not spec.root or not spec.path.is_dir():
        message = "no such folder; set DATA=... (or data.root=...), or make the phantom with `make data`"
        return [Finding("error", spec.path, "data.root", message, "no dataset")]
    images, findings = find_images(spec)
    others, more = find_external(spec)
    findings += [*more, *check_parts(spec, images), *check_names([*images, *others]), *check_patients(images)]
    findings += [
        *check_annotation_files(spec, images),
        *check_metadata(spec, images),
        *check_folds(folds, images, spec),
    ]
    checked, external = check_files(images, spec), check_files(others, spec)
    findings += [*check_lists(spec, [*checked, *external]), *check_answer(spec, checked)]
    findings += [finding for image in [*checked, *external] for finding in image.findings]
    findings += [*check_duplicates([*checked, *external]), *check_sizes(checked, spec)]
    findings += check_aspects(checked, external, {image.path for image in images if image.split == "test"}, spec)
    findings += [*check_greys(checked, external), *check_depths([*checked, *external])]
    return sorted(findings, key=lambda finding: finding.severity)


def find_images(spec: DataSpec) -> tuple[list[Radiograph], list[Finding]]:
    """The images, without metadata, and a finding for each whose patient is unknown or whose name cannot be written."""
    images, findings = [], []
    for split, path in image_paths(spec):
        if fault := name_fault(path):
            findings.append(Finding("error", path, "", fault, "name that no CSV can hold"))
            continue
        annotation = annotation_path(spec, path) if split == "train" else None
        try:
            patient, negative = patient_of(spec, path, split), is_negative(spec, path)
            images.append(
                Radiograph(path.name, patient, path, split, annotation, negative=negative, limits=spec.limits)
            )
        except BonepipeError as error:
            findings.append(_from_error(error, path, "unknown patient"))
    for pattern in unused_negatives(spec, [image.path for image in images]):
        findings.append(Finding("error", spec.path, "data.negatives", f"{pattern!r} fits no image", "unused setting"))
    return images, findings


def find_external(spec: DataSpec) -> tuple[list[Radiograph], list[Finding]]:
    """The images of external datasets that would be trained on, and what is wrong with those datasets' tables."""
    images: list[Radiograph] = []
    findings: list[Finding] = []
    for external in spec.external:
        other = spec.of(external)
        if not other.path.is_dir():
            findings.append(Finding("error", other.path, "data.external", "no such folder", "no external dataset"))
            continue
        there, more = find_images(other)
        train = [image for image in there if image.split == "train"]
        if not train:
            folder = other.path / other.train_images
            more.append(Finding("error", folder, "data.external", "no train images here", "no external dataset"))
        findings += [*more, *check_annotation_files(other, train), *check_metadata(other, there)]
        images += [replace(image, split="external", annotated=external.classes) for image in train]
    return images, findings


def check_parts(spec: DataSpec, images: Sequence[Radiograph]) -> Iterator[Finding]:
    """Both parts have images, and none is passed over."""
    splits = {image.split for image in images}
    for split, name in (("train", spec.train_images), ("test", spec.test_images)):
        folder = spec.path / name
        if split not in splits:
            severity: Literal["error", "warning"] = "error" if split == "train" else "warning"
            what = f"no {split} images"
            yield Finding(severity, folder, "", f"{what}, expected <patient>/{spec.patterns}", what)
        for path in find_image_files(folder, {*SUFFIXES, ""} - {*spec.images}):
            message = f"is passed over: only {spec.patterns} is read; data.images names what else shall be"
            yield Finding("warning", path, "", message, "image with another suffix")
        for path, reason in passed_over(folder, SUFFIXES):
            yield Finding("warning", path, "", f"is passed over: {reason}", "hidden image")


def check_names(images: Sequence[Radiograph]) -> Iterator[Finding]:
    """The submission tells images apart by file name only, results and annotations by the name without suffix."""
    for path, first in _repeats((image.stem, image.path) for image in images):
        yield Finding("error", path, "", f"has the same file name as {first}", "file name used twice")


def check_patients(images: Sequence[Radiograph]) -> Iterator[Finding]:
    """A patient in both parts makes the test score too good."""
    first = {
        split: {image.patient: image.path for image in images if image.split == split} for split in ("train", "test")
    }
    for patient in sorted(first["train"].keys() & first["test"].keys()):
        message = f"patient {patient} also has train images ({first['train'][patient].parent})"
        yield Finding("warning", first["test"][patient].parent, "", message, "patient in train and test")


def check_annotation_files(spec: DataSpec, images: Sequence[Radiograph]) -> Iterator[Finding]:
    """Images without annotation, and the other way round."""
    expected = {image.annotation: image.path for image in images if image.annotation is not None}
    for annotation, path in expected.items():
        if not annotation.is_file():
            yield Finding("error", path, "", f"no annotation, expected {annotation}", "image without annotation")
    folder = spec.path / spec.annotations
    for path in find_files(folder, ANNOTATION):
        if path not in expected:
            yield Finding("warning", path, "", "no image belongs to it", "annotation without image")
    for path, reason in passed_over(folder, ANNOTATION):
        yield Finding("warning", path, "", f"is passed over: {reason}", "hidden annotation")


def check_metadata(spec: DataSpec, images: Sequence[Radiograph]) -> Iterator[Finding]:
    """The tables of patients can be read, make sense, and list the patients that have images."""
    patients = {image.patient for image in images}
    try:
        rotated, (metadata, faults) = read_rotated(spec) or set(), read_metadata(spec)
    except BonepipeError as error:
        yield _from_error(error, spec.path / (spec.metadata or ""), "unreadable metadata")
        return
    for patient in sorted(rotated - patients):
        message = f"{patient!r} has no images{suggestion(patient, patients)}"
        yield Finding("warning", spec.path / ROTATED_FILE, "patient", message, "rotated wrist without images")
    if spec.metadata is None:
        return
    path = spec.path / spec.metadata
    if not path.is_file():
        yield Finding("warning", path, "data.metadata", "no such file; age and sex stay unknown", "no metadata")
        return
    for column, message in faults:
        yield Finding("warning", path, column, message, "metadata that is not known")
    for patient in sorted(metadata.keys() - patients):
        yield Finding("warning", path, "ID", f"{patient} has no images", "metadata without images")
    for patient in sorted(patients - metadata.keys()):
        yield Finding("warning", path, "ID", f"{patient} has images but no row", "images without metadata")


def check_lists(spec: DataSpec, checked: Sequence[Checked]) -> Iterator[Finding]:
    """The lists of labels that settings name can be read and fit the images, and leave some to train on."""
    bare = replace(spec, corrections=None, masks=None, pseudo=None)
    train = [image.image for image in checked if image.image.split != "test"]
    shapes = {image.image.name: image.shape for image in checked if image.shape is not None}
    lists = {
        "data.corrections": (spec.corrections, replace(bare, corrections=spec.corrections)),
        "data.masks": (spec.masks, replace(bare, masks=spec.masks)),
        "data.pseudo": (spec.pseudo, replace(bare, pseudo=spec.pseudo)),
    }
    for key, (path, with_list) in lists.items():
        if path is None:
            continue
        try:
            existing(key, Path(path))
            amended = amendments([*train, *pseudo_images(with_list)], with_list)
            for name in amended.keys() & shapes.keys():
                amended[name].require_inside(shapes[name])
        except BonepipeError as error:
            yield Finding("error", Path(path), key, str(error).removeprefix(f"{path}: "), "unusable list")
            continue
        kept = [image for image in train if not getattr(amended.get(image.name), "dropped", False)]
        if train and not kept:
            yield Finding("error", Path(path), key, "drops every image: none is left to train on", "unusable list")


def check_answer(spec: DataSpec, checked: Sequence[Checked]) -> Iterator[Finding]:
    """The test set's truth, where it is there, has masks of these images and classes that lie inside them."""
    path = spec.path / ANSWER
    shapes = {image.image.name: image.shape for image in checked if image.image.split == "test" and image.shape}
    if not os.path.lexists(path) or not shapes:
        return
    try:
        for warning in read_answer(path, shapes, spec.classes).warnings:
            yield Finding("warning", path, "", _without(path, warning), "incomplete answer")
    except BonepipeError as error:
        yield _from_error(error, path, "unusable answer")


def check_folds(folds: FoldSpec, images: Sequence[Radiograph], spec: DataSpec) -> Iterator[Finding]:
    """The fold file splits exactly these images, by patient if its kind says so; where there is none it can be made."""
    path = Path(folds.file)
    train = [image for image in images if image.split == "train"]
    if not train:
        return
    try:
        if not path.exists():
            require_enough(train, folds)
            if folds.stratified:  # each stratum needs enough; metadata tell of them
                split_into_folds([image for image in read_catalog(spec) if image.split == "train"], folds)
            return
        check_rule(folds)
        for message in find_faults(path, train, folds.count, groups=folds.groups):
            yield Finding("error", path, "", message, "fold file")
    except BonepipeError as error:
        yield _from_error(error, path, "fold file")


def check_files(images: Sequence[Radiograph], spec: DataSpec) -> list[Checked]:
    """Open every image and annotation, in threads: decoding releases the GIL."""
    with ThreadPoolExecutor(cores()) as pool:
        results = pool.map(lambda image: check_image(image, spec.labels), images)
        return list(tqdm(results, "audit", len(images), unit="image"))


def check_image(image: Radiograph, classes: Sequence[str]) -> Checked:
    """Decode one image and check its annotation against it."""
    findings: list[Finding] = []
    shape = digest = little = depth = None
    try:
        grey = image.read()
        shape, little = grey.shape, thumbnail(grey)
        digest = hashlib.sha256(f"{shape}".encode() + grey.tobytes()).digest()
        depth = picture_depth(image.path, image.limits)
        if message := _other_content(image.path):
            findings.append(Finding("warning", image.path, "", message, "suffix of another format"))
        if grey.min() == grey.max():
            findings.append(Finding("warning", image.path, "", f"every pixel is {grey.min()}", "blank image"))
    except BonepipeError as error:
        findings.append(_from_error(error, image.path, "unreadable image"))
    if image.annotation is not None and image.annotation.is_file():
        findings += check_annotation(image.annotation, classes, shape, image.annotated, image.limits)
    return Checked(image, tuple(findings), shape, digest, little, depth)


def _other_content(path: Path) -> str:
    """What to tell of a file that is not what its suffix says; empty where it is."""
    suffix = path.suffix.lower()
    with path.open("rb") as file:
        head = file.read(dicom.HEAD)
    if suffix == ".png" and not head.startswith(ENDS["PNG"][0]):
        return "is no PNG inside; it is read as what it is, but JPEG has lost detail"
    if suffix in dicom.SUFFIXES and not dicom.is_dicom(head):
        return "is no DICOM inside; it is read as what it is, and has no header"
    return ""


def check_annotation(
    path: Path,
    classes: Sequence[str],
    shape: tuple[int, int] | None,
    expected: Sequence[str] | None = None,
    limits: Limits = DEFAULTS,
) -> Iterator[Finding]:
    """Check one annotation file.

    Args:
        shape: its image's height and width in pixels, where that could be decoded.
        expected: classes that should occur; None for all.
        limits: of its size.
    """
    try:
        polygons, faults = read_with_faults(path, classes, limits)
    except BonepipeError as error:
        yield _from_error(error, path, "unreadable annotation")
        return
    for field, message in faults:
        yield Finding("error", path, field, message, "bad annotation")
    counts = Counter(label for label, _ in polygons)
    for number, name in enumerate(classes):
        if counts[number] == 0 and not faults and name in (classes if expected is None else expected):
            yield Finding("warning", path, "annotations", f"{name} is missing", "class missing")
        elif counts[number] > 1:
            message = f"{name} occurs {counts[number]} times; its mask is their union"
            yield Finding("warning", path, "annotations", message, "label repeated")
    for polygon in polygons:
        yield from _check_outline(path, polygon, classes, shape)
    yield from _check_frame(path, polygons, shape)


def _check_frame(path: Path, polygons: Sequence[Polygon], shape: tuple[int, int] | None) -> Iterator[Finding]:
    """Outlines drawn on a smaller picture, or in percent, all lie towards the top left."""
    if shape is None or len(polygons) < 3:
        return
    right, bottom = np.concatenate([points for _, points in polygons]).max(0).tolist()
    if 2 * right < shape[1] and 2 * bottom < shape[0]:
        message = (
            f"all outlines end at x = {right}, y = {bottom} of an image of {shape[1]} x {shape[0]} pixels: were they "
            "drawn on a smaller picture, or are they percent?"
        )
        yield Finding("warning", path, "annotations", message, "outlines in the top left quarter")


def _check_outline(
    path: Path, polygon: Polygon, classes: Sequence[str], shape: tuple[int, int] | None
) -> Iterator[Finding]:
    label, points = polygon
    name = classes[label]
    if len(points) < 3:
        yield Finding("warning", path, name, f"an outline of {len(points)} points has no area", "outline without area")
    if shape is None:
        return
    if gap := opening(points, shape):
        message = f"the outline is open: its ends are {gap:.0f} pixels apart and are joined by a straight line"
        yield Finding("warning", path, name, message, "open outline")
    outside = int(((points < 0) | (points >= np.array(shape[::-1]))).any(1).sum())
    if outside:
        message = f"{outside} of {len(points)} points lie outside the image of {shape[1]} x {shape[0]} pixels"
        yield Finding("warning", path, name, message, "points outside the image")


def opening(points: np.ndarray, shape: tuple[int, int]) -> float:
    """How far the ends of an outline `[K, 2]` are apart, pixels; 0 where it goes all the way round.

    What is drawn all round ends near its beginning, compared with its other steps and with its length, or leaves out
    the border of the image.
    """
    ends = points[[0, -1]].astype(float)
    steps = np.hypot(*np.diff(points, axis=0).T)
    gap = float(np.hypot(*(ends[1] - ends[0])))
    if len(points) < 4 or gap <= OPEN_STEPS * steps.max() or gap <= OPEN_SHARE * steps.sum():
        return 0.0
    size = np.array(shape[::-1])
    near = np.concatenate([ends < NEAR_BORDER * size, ends >= (1 - NEAR_BORDER) * size - 1], axis=1)
    return 0.0 if near.any(1).all() else gap


def check_duplicates(checked: Sequence[Checked]) -> Iterator[Finding]:
    """Images with the same pixels, whatever their files' bytes, and those that show the same picture nearly."""
    by_path, same = {image.path: image.image for image in checked}, set()
    for path, first in _repeats((image.digest, image.path) for image in checked if image.digest is not None):
        same.add(path)
        message = f"has the same pixels as {first}{_leak(by_path[path], by_path[first])}"
        yield Finding("warning", path, "", message, "duplicate image")
    images = [image for image in checked if image.thumbnail is not None and image.path not in same]
    for later, first_one in copies(_thumbnails(images)):
        image, other = images[later].image, images[first_one].image
        message = f"shows nearly the same picture as {other.path}{_leak(image, other)}"
        yield Finding("warning", image.path, "", message, "nearly the same image")


def _leak(image: Radiograph, other: Radiograph) -> str:
    """What makes two images with one picture worse than a repetition."""
    if image.split == "external" != other.split:
        return f", a {other.split} image of the dataset"
    if image.split != other.split:
        return f", a {other.split} image"
    return "" if image.patient == other.patient else f", of another patient ({other.patient})"


def check_greys(checked: Sequence[Checked], external: Sequence[Checked]) -> Iterator[Finding]:
    """Images that are negatives, and those exposed unlike the others, measured by the dataset's train images."""
    images = [image for image in [*checked, *external] if image.thumbnail is not None]
    train = [image for image in images if image.image.split == "train"]
    if not train:
        return
    usual, greys = Usual.of(_thumbnails(train)), _thumbnails(images)
    for index in np.flatnonzero(usual.negatives(greys)):
        path = images[index].path
        way_out = f"data.negatives=[{path.name}] turns it back" if not images[index].image.negative else TURNED
        yield Finding("warning", path, "", f"looks like a negative of the train images; {way_out}", "negative")
    for index in np.flatnonzero(usual.misexposed(greys)):
        message = f"mean grey {greys[index].mean():.1f}, while half of the train images have {usual.range}"
        yield Finding("warning", images[index].path, "", message, "unusual exposure")


def check_depths(checked: Sequence[Checked]) -> Iterator[Finding]:
    """Images of 16 bits are scaled by the bits that each uses: one of another depth has another brightness."""
    depths = Counter(image.depth for image in checked if image.depth is not None)
    if len(depths) < 2:
        return
    usual = depths.most_common(1)[0][0]
    for image in checked:
        if image.depth not in (None, usual):
            what = f"its greys use {image.depth} of 16 bits, and those of most images {usual}"
            how = "each is scaled by its own, so equal greys look unlike; save all with the same scale"
            yield Finding("warning", image.path, "", f"{what}: {how}", "another depth")


def _thumbnails(images: Sequence[Checked]) -> np.ndarray:
    return np.array([image.thumbnail for image in images], np.float32).reshape(-1, SIDE, SIDE)


def check_sizes(checked: Sequence[Checked], spec: DataSpec) -> Iterator[Finding]:
    """Images of a size that hardly any other has, strips, and images that the training size would blow up."""
    shapes = {image.path: image.shape for image in checked if image.shape is not None}
    if not shapes:
        return
    usual, count = Counter(shapes.values()).most_common(1)[0]
    for path, (height, width) in shapes.items():
        size = f"{width} x {height} pixels"
        if (height, width) != usual and count >= COMMON_SHARE * len(shapes):
            message = f"{size}, while {count} of {len(shapes)} images have {usual[1]} x {usual[0]}"
            yield Finding("warning", path, "", message, "unusual size")
        if max(height, width) > LARGEST_ASPECT * min(height, width):
            yield Finding("warning", path, "", f"{size}: is it cut off?", "unusual aspect")
    boxes = {shape: spec.frame.box(shape) for shape in shapes.values()}
    small = sum(shape[0] < boxes[shape].height or shape[1] < boxes[shape].width for shape in shapes.values())
    if small:
        message = f"{small} of {len(shapes)} images are smaller than data.size={spec.size}"
        yield Finding("warning", spec.path, "data.size", message, "images smaller than the training size")


def check_aspects(
    checked: Sequence[Checked], external: Sequence[Checked], test: Set[Path], spec: DataSpec
) -> Iterator[Finding]:
    """Test images of another aspect than what is trained on, and a training size of another one than most images."""
    known = {image.path: image.shape for image in checked if image.shape is not None}
    trained = [shape for path, shape in known.items() if path not in test]
    trained += [image.shape for image in external if image.shape is not None]
    if not trained or spec.region is not None:
        return
    tested = {str(path): shape for path, shape in known.items() if path in test}
    if message := strangers(tested, aspects(trained), spec.fit):
        yield Finding("warning", spec.path / spec.test_images, "", message, "another aspect than in training")
    yield from _check_training_aspect(trained, spec)


def _check_training_aspect(shapes: Sequence[tuple[int, int]], spec: DataSpec) -> Iterator[Finding]:
    """Another size would suit images of these heights and widths."""
    height, width = spec.shape
    usual = float(np.median([height / width for height, width in shapes]))
    ratio = height / width / usual
    factor = max(ratio, 1 / ratio)
    if factor > WASTEFUL:
        suited = (height, 8 * round(height / usual / 8)) if ratio < 1 else (8 * round(width * usual / 8), width)
        what = f"stays {1 - 1 / factor:.0%} black" if spec.fit == "pad" else f"stretches them {factor:.2f} times"
        message = f"{height} x {width} {what}, as height / width of the images is {usual:.2f}; try {list(suited)}"
        yield Finding("warning", spec.path, "data.size", message, "training size of another aspect than the images")


def _repeats(pairs: Iterable[tuple[Hashable, Path]]) -> list[tuple[Path, Path]]:
    """The paths whose key an earlier one has, each with the first that has it, key by key."""
    groups: dict[Hashable, list[Path]] = defaultdict(list)
    for key, path in pairs:
        groups[key].append(path)
    return [(path, group[0]) for group in groups.values() for path in group[1:]]


def _from_error(error: BonepipeError, path: Path, topic: str) -> Finding:
    return Finding("error", path, "", _without(path, error), topic)


def _without(path: Path, text: object) -> str:
    """A message without the path that it begins with."""
    return str(text).removeprefix(f"{path}: ")
