"""The size that an image's header tells of, before anything is decoded."""

import struct
from collections.abc import Callable

Shape = tuple[int, int]  # height and width, pixels

# Start-of-frame markers of JPEG (ITU-T T.81, table B.1) and JPEG-LS (T.87); 0xC4, 0xC8 and 0xCC are none.
FRAMES = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
ALONE = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})  # markers without a segment, and no marker at all
SEGMENTS = 10_000  # before the first frame; whoever has more plays for time
CODESTREAM = b"\xff\x4f\xff\x51"  # JPEG 2000 (T.800, annex A): start, and the size's marker
# TIFF 6.0, section 8.
TAGS = {"height": 257, "width": 256, "tile width": 322, "tile height": 323, "photometric": 262}


def told_shape(data: bytes) -> Shape | None:
    """Height and width of the first image in a file with this content, or of its tiles where they are larger.

    None for what is no PNG, JPEG, JPEG-LS, JPEG 2000, TIFF or BMP, or breaks off before it tells.
    """
    read = next((reader for start, reader in READERS.items() if data.startswith(start)), None)
    if read is None:
        return None
    try:
        height, width = read(data)
    except (struct.error, ValueError, IndexError, KeyError, OverflowError):
        return None
    return height, width


def _png(data: bytes) -> Shape:
    kind, width, height = struct.unpack_from(">4sII", data, 12)
    if kind != b"IHDR":
        raise ValueError
    return height, width


def _jpeg(data: bytes) -> Shape:
    """As decoders do, bytes between segments are skipped up to the next marker."""
    position = 2
    for _ in range(SEGMENTS):
        position = data.index(b"\xff", position) + 1
        while data[position] == 0xFF:
            position += 1
        marker, position = data[position], position + 1
        if marker in FRAMES:
            height, width = struct.unpack_from(">HH", data, position + 3)
            return height, width
        if marker not in ALONE:
            position += struct.unpack_from(">H", data, position)[0]
    raise ValueError


def _jpeg_2000(data: bytes) -> Shape:
    right, bottom, left, top = struct.unpack_from(">4I", data, data.index(CODESTREAM) + 8)
    return bottom - top, right - left


def _bmp(data: bytes) -> Shape:
    (size,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if size == 12 else "<ii", data, 18)
    return abs(height), abs(width)


def _tiff(data: bytes) -> Shape:
    tags = tiff_tags(data)
    shapes = [(tags[TAGS["height"]], tags[TAGS["width"]])]
    if {TAGS["tile height"], TAGS["tile width"]} <= tags.keys():
        shapes.append((tags[TAGS["tile height"]], tags[TAGS["tile width"]]))
    return max(shapes, key=lambda shape: shape[0] * shape[1])


def tiff_tags(data: bytes) -> dict[int, int]:
    """The first value of each tag of a TIFF's first directory that is a whole number; also of a BigTIFF.

    Raises:
        struct.error: it is no TIFF, or breaks off.
    """
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 8:
        raise struct.error
    big = struct.unpack_from(f"{order}H", data, 2) == (43,)
    place, entry, value = ("Q", "HHQ8s", 12) if big else ("I", "HHI4s", 8)
    (start,) = struct.unpack_from(order + place, data, 8 if big else 4)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
    first, size = start + (8 if big else 2), struct.calcsize(order + entry)
    tags: dict[int, int] = {}
    for number in range(min(count, 1 << 16)):
        tag, kind, _, _ = struct.unpack_from(order + entry, data, first + number * size)
        if form := {1: "B", 3: "H", 4: "I", 16: "Q"}.get(kind):
            (whole,) = struct.unpack_from(order + form, data, first + number * size + value)
            tags.setdefault(tag, whole)  # of a tag that is there twice decoders take the first
    return tags


READERS: dict[bytes, Callable[[bytes], Shape]] = {
    b"\x89PNG\r\n\x1a\n": _png,
    b"\xff\xd8": _jpeg,
    CODESTREAM: _jpeg_2000,
    b"\0\0\0\x0cjP  ": _jpeg_2000,
    b"II*\0": _tiff,
    b"MM\0*": _tiff,
    b"II+\0": _tiff,
    b"MM\0+": _tiff,
    b"BM": _bmp,
}
