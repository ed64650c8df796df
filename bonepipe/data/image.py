"""Reading radiographs as grey bytes: PNG, JPEG, TIFF or BMP (grey, colour, palette, alpha; 8 or 16 bit), and DICOM."""

import contextlib
import os
import struct
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from bonepipe.data import dicom, headers
from bonepipe.data.limits import DEFAULTS, Limits
from bonepipe.disk import require_file
from bonepipe.errors import BonepipeError
from bonepipe.files import file_suffix, find_files

# Of files with radiographs, in small letters.
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", *dicom.SUFFIXES)
# How a file begins, and what it must hold to be whole. The decoder notices where a TIFF or BMP stops short.
ENDS = {"PNG": (b"\x89PNG", b"IEND\xaeB`\x82"), "JPEG": (b"\xff\xd8\xff", b"\xff\xd9")}
SCANS = 200  # of a JPEG; progressive ones have about ten, and each is a pass over all pixels, however short its code
STRAY = 0.005  # share of a 16-bit image's pixels that may lie beyond the picture's depth

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # its messages do not name the file; ours do


def read_grey(path: Path, limits: Limits = DEFAULTS) -> np.ndarray:
    """Read an image as uint8 `[H, W]`, the first one of a file with several.

    Colours become luma; an alpha channel is ignored (in a TIFF of 8 bits it dims the image). 16-bit images are scaled
    from the smallest of 8, 10, 12, 14 or 16 bits that holds them, because detectors store 12-bit values in 16-bit
    files; hot pixels and a burnt-in marker beyond it become white, see `used_bits`. An image that its file says is
    turned or mirrored is read as viewers show it. What a DICOM header asks for is done, see `bonepipe.data.dicom`.

    Raises:
        BonepipeError: the file is missing, is no image, was cut short, has neither 8 nor 16 bits, or says that it has
            more pixels than the limits allow.
    """
    data = _content(path, limits)
    if dicom.is_dicom(data):
        return dicom.read_grey(data, path, limits)
    for kind, (start, end) in ENDS.items():
        if data.startswith(start) and end not in data:
            raise BonepipeError(
                f"{path}: truncated {kind} (no end marker after {len(data)} bytes); copy the file again"
            )
    scans = data.count(b"\xff\xda") if data.startswith(ENDS["JPEG"][0]) else 0
    if scans > SCANS:
        raise BonepipeError(f"{path}: a JPEG of {scans} scans, and {SCANS} are the most that are read; save it as PNG")
    image = _decoded(data, path, limits)
    if image is None:
        raise BonepipeError(
            f"{path}: cannot be decoded as an image (PNG, JPEG, TIFF, BMP or DICOM); copy the file again"
        )
    if image.dtype == np.uint8:
        return image
    if image.dtype != np.uint16:
        raise BonepipeError(f"{path}: has {image.dtype} pixels; export it with 8 or 16 bits a pixel")
    return 255 - _to_bytes(image) if _white_is_zero(data) else _to_bytes(image)


def picture_depth(path: Path, limits: Limits = DEFAULTS) -> int | None:
    """The bits from which `read_grey` scales a 16-bit PNG or TIFF, see `used_bits`; None for other images."""
    with path.open("rb") as file:
        head = file.read(25)
    if head[:2] not in (b"II", b"MM") and not (head.startswith(ENDS["PNG"][0]) and head.endswith(b"\x10")):
        return None  # most files need not be read twice
    image = _decoded(_content(path, limits), path, limits)
    return used_bits(image) if image is not None and image.dtype == np.uint16 else None


def _decoded(data: bytes, path: Path, limits: Limits) -> np.ndarray | None:
    """The greys of a file's content as they are in it; None where it is no image."""
    image, shape = None, headers.told_shape(data)
    if shape is not None:
        limits.require_pixels(shape, str(path))
        with contextlib.suppress(cv2.error):
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    return image


def _content(path: Path, limits: Limits) -> bytes:
    try:
        require_file(path, limits.image_bytes, limits.told("pixels"))
        return path.read_bytes()
    except OSError as error:
        raise BonepipeError(f"{path}: cannot be read ({error.strerror})") from error


def _to_bytes(image: np.ndarray) -> np.ndarray:
    full = (1 << used_bits(image)) - 1
    table = np.rint(np.minimum(np.arange(1 << 16), full) * (255.0 / full)).astype(np.uint8)
    return table[image]


def used_bits(image: np.ndarray) -> int:
    """The bits of an image uint16 `[H, W]` that its picture uses: 8, 10, 12, 14 or 16.

    A marker that was burnt in afterwards has one value, on less than half of the pixels; hot pixels and a marker's
    blurred edges are at most STRAY of them. Neither says how deep the picture is.
    """
    for bits in (8, 10, 12, 14):
        beyond = image[image >> bits > 0]
        if not beyond.size:
            return bits
        if 2 * beyond.size < image.size and beyond.size - np.bincount(beyond).max() <= STRAY * image.size:
            return bits
    return 16


def _white_is_zero(data: bytes) -> bool:
    """Whether a TIFF counts from white to black (PhotometricInterpretation 0), which OpenCV minds only at 8 bits."""
    return data[:2] in (b"II", b"MM") and headers.tiff_tags(data).get(headers.TAGS["photometric"]) == 0


def read_shape(path: Path, limits: Limits = DEFAULTS) -> tuple[int, int]:
    """Height and width of an image as `read_grey` gives it.

    Those of a whole PNG or DICOM file come from its headers; anything else is decoded.

    Raises:
        BonepipeError: as `read_grey`.
    """
    try:
        require_file(path)
        with path.open("rb") as file:
            shape = _png_shape(file)
    except OSError as error:
        raise BonepipeError(f"{path}: cannot be read ({error.strerror})") from error
    if shape is None and dicom.is_dicom_file(path):
        shape = dicom.read_shape(_content(path, limits), path, limits)
    if shape is not None:
        limits.require_pixels(shape, str(path))
    return shape or read_grey(path, limits).shape


def find_images(folder: Path, suffixes: Collection[str] = (*SUFFIXES, "")) -> list[Path]:
    """The images below a folder, see `find_files`; of files without suffix, where "" is among them, DICOM alone."""
    return [path for path in find_files(folder, suffixes) if file_suffix(path) or dicom.is_dicom_file(path)]


def _png_shape(file: BinaryIO) -> tuple[int, int] | None:
    """Height and width of a PNG; None for what is no whole PNG, or is turned by its metadata, which may come last."""
    shape = None
    if file.read(8) != b"\x89PNG\r\n\x1a\n":
        return None
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind in (b"eXIf", b"IEND"):
            return None if kind == b"eXIf" else shape
        content = file.read(length) if kind == b"IHDR" else b""
        if len(content) >= 8:
            width, height = struct.unpack_from(">II", content)
            shape = height, width
        file.seek(length - len(content) + 4, os.SEEK_CUR)  # a checksum ends each part
    return None


def resize_grey(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize uint8 `[H, W]` to a shape (height, width), pixel centres aligned, each axis by itself.

    An axis that shrinks is averaged over areas, one that grows is interpolated.
    """
    small = min(shape[0], image.shape[0]), min(shape[1], image.shape[1])
    for size, method in ((small, cv2.INTER_AREA), (shape, cv2.INTER_LINEAR)):
        if image.shape != size:
            image = cv2.resize(image, size[::-1], interpolation=method)
    return image
