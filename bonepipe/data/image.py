"""Reading radiographs: any PNG (grey, RGB, RGBA, palette; 8 or 16 bit) as grey bytes."""

import struct
from pathlib import Path

import cv2
import numpy as np

from bonepipe.errors import BonepipeError

PNG_END = b"IEND\xaeB`\x82"


def read_grey(path: Path) -> np.ndarray:
    """Read an image as uint8 `[H, W]`.

    Colours become luma; an alpha channel is ignored. 16-bit images are scaled from the smallest of 8, 10, 12, 14 or 16
    bits that holds their brightest pixel, because detectors store 12-bit values in 16-bit files.

    Raises:
        BonepipeError: the file is missing, is no image, or was cut short.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BonepipeError(f"{path}: cannot be read ({error.strerror})") from error
    if data[:4] == b"\x89PNG" and PNG_END not in data:
        raise BonepipeError(f"{path}: truncated PNG (no end marker after {len(data)} bytes); copy the file again")
    image = _decode(data)
    if image is None:
        raise BonepipeError(f"{path}: cannot be decoded as an image; copy the file again")
    return image if image.dtype == np.uint8 else _to_bytes(image)


def _decode(data: bytes) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    except cv2.error:  # no bytes at all, or a header that claims an absurd size
        return None


def _to_bytes(image: np.ndarray) -> np.ndarray:
    bits = next(bits for bits in (8, 10, 12, 14, 16) if int(image.max()) < 1 << bits)
    return np.rint(image * (255.0 / ((1 << bits) - 1))).astype(np.uint8)


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
