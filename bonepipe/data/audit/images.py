"""Images, opened: whether they can be read, are there twice, and are like each other."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from bonepipe.data import dicom
from bonepipe.data.audit.annotation import check_annotation
from bonepipe.data.audit.finding import Checked, Finding, from_error, repeats
from bonepipe.data.catalog import Radiograph
from bonepipe.data.frame import aspects, strangers
from bonepipe.data.image import ENDS, picture_depth
from bonepipe.data.spec import DataSpec
from bonepipe.data.thumbnails import SIDE, Usual, copies, thumbnail
from bonepipe.errors import BonepipeError
from bonepipe.parallel import cores

COMMON_SHARE = 0.9  # where so many images have one size, another size is worth a look
WASTEFUL = 1.5  # from this factor between the aspects of images and training size on, another size suits better
TURNED = "data.negatives names it and has turned it"
LARGEST_ASPECT = 4.0  # long side to short side; a radiograph beyond it is probably a strip of one


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
        findings.append(from_error(error, image.path, "unreadable image"))
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


def check_duplicates(checked: Sequence[Checked]) -> Iterator[Finding]:
    """Images with the same pixels, whatever their files' bytes, and those that show the same picture nearly."""
    by_path, same = {image.path: image.image for image in checked}, set()
    for path, first in repeats((image.digest, image.path) for image in checked if image.digest is not None):
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
