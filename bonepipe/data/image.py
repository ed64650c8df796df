"""Reading radiographs: PNG, JPEG, TIFF or BMP (grey, colour, palette, alpha; 8 or 16 bit) as grey bytes."""

import contextlib
import struct
from pathlib import Path

import cv2
import numpy as np

from bonepipe.errors import BonepipeError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")  # of files with radiographs, in small letters
# How a file begins, and what it must hold to be whole. The decoder notices where a TIFF or BMP stops short.
ENDS = {"PNG": (b"\x89PNG", b"IEND\xaeB`\x82"), "JPEG": (b"\xff\xd8\xff", b"\xff\xd9")}
DICOM_MARK = b"DICM"  # after a preamble of 128 bytes
STRAY = 0.005  # share of a 16-bit image's pixels that may lie beyond the picture's depth

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # its messages do not name the file; ours do


def read_grey(path: Path) -> np.ndarray:
    """Read an image as uint8 `[H, W]`, the first one of a file with several.

    Colours become luma; an alpha channel is ignored (in a TIFF of 8 bits it dims the image). 16-bit images are scaled
    from the smallest of 8, 10, 12, 14 or 16 bits that holds them, because detectors store 12-bit values in 16-bit
    files; hot pixels and a burnt-in marker beyond it become white, see `used_bits`. An image that its file says is
    turned or mirrored is read as viewers show it.

    Raises:
        BonepipeError: the file is missing, is no image, was cut short, is DICOM, or has neither 8 nor 16 bits.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BonepipeError(f"{path}: cannot be read ({error.strerror})") from error
    for kind, (start, end) in ENDS.items():
        if data.startswith(start) and end not in data:
            raise BonepipeError(
                f"{path}: truncated {kind} (no end marker after {len(data)} bytes); copy the file again"
            )
    if data.startswith(DICOM_MARK, 128) or path.suffix.lower() == ".dcm":
        raise BonepipeError(f"{path}: is a DICOM file, which is not read; export it as PNG first")
    image = None
    with contextlib.suppress(cv2.error):  # no bytes at all, or a header that claims an absurd size
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    if image is None:
        raise BonepipeError(f"{path}: cannot be decoded as an image; copy the file again")
    if image.dtype == np.uint8:
        return image
    if image.dtype != np.uint16:
        raise BonepipeError(f"{path}: has {image.dtype} pixels; export it with 8 or 16 bits a pixel")
    return 255 - _to_bytes(image) if _white_is_zero(data) else _to_bytes(image)


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
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None:
        return False
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, start)
    fields = (struct.unpack_from(f"{order}HHIH", data, start + 2 + 12 * number) for number in range(count))
    return any(tag == 262 and value == 0 for tag, _, _, value in fields)


def read_shape(path: Path) -> tuple[int, int]:
    """Read the height and width of a PNG from its header, without decoding."""
    try:
        with path.open("rb") as file:
            head = file.read(24)
    except OSError as error:
        raise BonepipeError(f"{path}: cannot be read ({error.strerror})") from error
    if len(head) < 24 or not head.startswith(b"\x89PNG\r\n\x1a\n") or head[12:16] != b"IHDR":
        raise BonepipeError(f"{path}: is not a PNG file; copy the file again")
    width, height = struct.unpack(">II", head[16:24])
    return height, width


def resize_grey(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize uint8 `[H, W]` to a shape (height, width), pixel centres aligned: area averages where it shrinks."""
    if image.shape == shape:
        return image
    shrinks = shape[0] <= image.shape[0] and shape[1] <= image.shape[1]
    return cv2.resize(image, (shape[1], shape[0]), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
