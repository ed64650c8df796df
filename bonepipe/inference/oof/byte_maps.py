"""Out-of-fold probabilities as bytes inside the boxes where a class can be: what ensembles are chosen from.

A probability p is kept as floor(256 p), the bin that it has in the histograms. A class occupies about 1% of a
radiograph, but what a model is not sure of makes the box of all that is not 0 many times as large. So the bytes of an
image are deflated together, in the file and in memory, and inflated when the image is asked for.
"""

import math
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.lib.format as npy
from numpy.typing import NDArray

from bonepipe.errors import BonepipeError, reason
from bonepipe.files import replacing
from bonepipe.labels.cutout import Box, bounds
from bonepipe.labels.histogram import levels as levels_of

LEVELS = 256
LARGEST = 1 << 15  # pixels of a side
WAY_OUT = "train this fold again: its weights are kept, only the predictions are made again"
Piece = tuple[Box, NDArray[np.uint8]]  # where a class can be, and the bytes there [box.height, box.width]
Packed = tuple[NDArray[np.int32], bytes]  # an image's boxes [C, 4], and the deflated bytes inside them


class ImageBytes(NamedTuple):
    """An image's probabilities: the maps' height and width in pixels, and a piece a class."""

    shape: tuple[int, int]
    pieces: Sequence[Piece]


@dataclass(frozen=True)
class ByteMaps:
    """Probabilities of several images.

    Attributes:
        names: image names, N of them.
        shapes: height and width of each image's maps in pixels.
        boxes: int32 `[N, C, 4]`: top, left, bottom, right.
        streams: of each image the pixels of its boxes, uint8, one box after the other, deflated.
        where: they come from, for messages.
    """

    names: list[str]
    shapes: Sequence[tuple[int, int]]
    boxes: NDArray[np.int32]
    streams: Sequence[bytes]
    where: str = "probabilities"

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.boxes.nbytes + sum(map(len, self.streams))

    def maps(self, index: int) -> NDArray[np.float32]:
        """Probabilities float32 `[C, h, w]` of an image: the middle of each byte's bin, 0 for byte 0."""
        result = np.zeros((self.boxes.shape[1], *self.shapes[index]), np.float32)  # untouched pages cost nothing
        for map_, (box, levels) in zip(result, self.pieces(index), strict=True):
            map_[box.slices] = _MIDDLES[levels]
        return result

    def image(self, index: int) -> ImageBytes:
        """The boxes and bytes of an image, with their size."""
        return ImageBytes(self.shapes[index], self.pieces(index))

    def pieces(self, index: int) -> list[Piece]:
        """The box of each class in an image and its bytes. Raises BonepipeError where they do not fill it."""
        boxes = [Box(*box) for box in self.boxes[index].tolist()]
        *cuts, total = np.cumsum([box.height * box.width for box in boxes]).tolist()
        try:
            values = np.frombuffer(zlib.decompressobj().decompress(self.streams[index], total + 1), np.uint8)
        except zlib.error:
            values = np.zeros(total + 1, np.uint8)
        if len(values) != total:
            raise BonepipeError(f"{self.where}: {self.names[index]} has not as many bytes as its boxes; {WAY_OUT}")
        parts = np.split(values, cuts)
        return [(box, part.reshape(box.height, box.width)) for box, part in zip(boxes, parts, strict=True)]


def expand(piece: Piece, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Probabilities float32 `[h, w]` of a piece, see `ByteMaps.maps`."""
    box, levels = piece
    result = np.zeros(shape, np.float32)  # untouched pages cost nothing
    result[box.slices] = _MIDDLES[levels]
    return result


_MIDDLES = np.where(np.arange(LEVELS) > 0, (np.arange(LEVELS) + 0.5) / LEVELS, 0).astype(np.float32)


def pack(maps: NDArray[np.float32]) -> Packed:
    """Boxes and bytes of an image's probabilities `[C, h, w]`."""
    return pack_levels(levels_of(maps))


def pack_levels(levels: NDArray[np.uint8]) -> Packed:
    """The same from the probabilities' bins `[C, h, w]`."""
    boxes = [bounds(level) for level in levels]
    return _packed([(box, level[box.slices]) for level, box in zip(levels, boxes, strict=True)])


def _packed(pieces: Sequence[Piece]) -> Packed:
    boxes, values = zip(*pieces, strict=True)
    return np.array(boxes, np.int32), zlib.compress(b"".join(value.tobytes() for value in values), level=1)


def write(
    path: Path,
    names: Sequence[str],
    classes: Sequence[str],
    shapes: Sequence[tuple[int, int]],
    packed: Sequence[Packed],
) -> None:
    """Write what `pack` made of each image's maps, of these heights and widths, whole."""
    boxes, streams = zip(*packed, strict=True)
    with replacing(path) as part:
        np.savez(
            part,
            names=np.array(names),
            classes=np.array(classes),
            shape=np.array(shapes),
            boxes=np.stack(boxes),
            streams=np.frombuffer(b"".join(streams), np.uint8),
            ends=np.cumsum([len(stream) for stream in streams]),
        )


def take(sources: Sequence[ByteMaps], picked: Sequence[int]) -> list[Packed]:
    """What `write` takes, each class's box and bytes those of the source picked for it.

    Args:
        sources: of the same images and classes.
        picked: index into the sources of each class.
    """
    packed = []
    for index in range(len(sources[0].names)):
        pieces = [source.pieces(index) for source in sources]
        packed.append(_packed([pieces[source][label] for label, source in enumerate(picked)]))
    return packed


class Arrays:
    """The arrays of an `.npz`, each read to the end of its entry, where zipfile compares the checksum.

    `numpy.load` stops at the last value: an entry whose length in the directory is damaged is then taken unchecked.
    """

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def __getitem__(self, name: str) -> NDArray[Any]:
        with self._archive.open(f"{name}.npy") as stream:
            array: NDArray[Any] = npy.read_array(stream, allow_pickle=False)
            if stream.read(1):
                raise ValueError(f"{name} has more bytes than values")
            return array


def read(path: Path, classes: Sequence[str]) -> ByteMaps:
    """Read probabilities.

    Raises:
        BonepipeError: the file is missing, broken, or of other classes.
    """
    with opened(path, classes) as file:
        names, boxes = names_of(file), file["boxes"]
        shapes = np.broadcast_to(file["shape"], (len(names), 2))  # earlier versions wrote one for all
        data, ends = file["streams"].tobytes(), file["ends"]
        _check(boxes, shapes, ends, len(data), len(classes))
        streams = [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        return ByteMaps(names, [(height, width) for height, width in shapes.tolist()], boxes, streams, str(path))


def _check(boxes: NDArray[Any], shapes: NDArray[Any], ends: NDArray[Any], size: int, classes: int) -> None:
    """Raise ValueError unless boxes `[N, C, 4]` lie inside shapes `[N, 2]`, and ends `[N]` part so many bytes."""
    if boxes.shape != (len(shapes), classes, 4) or any(array.dtype.kind not in "iu" for array in (boxes, shapes, ends)):
        raise ValueError(
            f"boxes are {boxes.dtype} {list(boxes.shape)}, expected whole numbers [{len(shapes)}, {classes}, 4]"
        )
    corners, limits = boxes.reshape(*boxes.shape[:2], 2, 2), shapes[:, None]
    inside = (corners[:, :, 0] >= 0) & (corners[:, :, 0] <= corners[:, :, 1]) & (corners[:, :, 1] <= limits)
    if not inside.all() or (shapes > LARGEST).any():
        raise ValueError("a box does not lie inside its map")
    if ends.shape != (len(shapes),) or (np.diff(ends, prepend=0, append=size) < 0).any():
        raise ValueError(f"its {size} bytes cannot be parted as it says")


def read_names(path: Path, classes: Sequence[str]) -> list[str]:
    """Only the image names; raises as `read`."""
    with opened(path, classes) as file:
        return names_of(file)


def names_of(file: Arrays) -> list[str]:
    """The image names in an open file. Raises ValueError where they are none."""
    names = file["names"]
    if names.ndim != 1 or names.dtype.kind != "U":
        raise ValueError(f"names are {names.dtype} {list(names.shape)}, expected a list of texts")
    return list(names.tolist())


def is_whole(path: Path) -> bool:
    """Whether a file is there with all the bytes that were written."""
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except (OSError, zipfile.BadZipFile, zlib.error):
        return False


@contextmanager
def opened(path: Path, classes: Sequence[str]) -> Iterator[Arrays]:
    """The arrays of a file of out-of-fold predictions; raises as `read`."""
    try:
        with zipfile.ZipFile(path) as archive:
            _require_filled(archive)
            file = Arrays(archive)
            labels = file["classes"].tolist()
            if labels != list(classes):
                named = " ".join(", ".join(map(str, labels)).split())
                raise BonepipeError(f"{path}: was written for other classes ({named[:300]})")
            yield file
    except (BonepipeError, MemoryError):
        raise
    except Exception as error:  # zipfile, zlib and numpy's reader of headers raise a dozen kinds
        raise BonepipeError(f"{path}: cannot be read ({reason(error)}); {WAY_OUT}") from error


def _require_filled(archive: zipfile.ZipFile) -> None:
    """Raise ValueError where an array of an `.npz` says that it is larger than what is there: it would be allocated."""
    for entry in archive.infolist():
        with archive.open(entry) as stream:
            read = npy.read_array_header_1_0 if npy.read_magic(stream) == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = read(stream)
        if math.prod(shape) * dtype.itemsize > entry.file_size:
            raise ValueError(f"{entry.filename} has not the {math.prod(shape)} values that it tells of")
