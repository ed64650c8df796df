"""DICOM radiographs as grey bytes: decoded by pydicom with its plug-ins, and shown as their headers ask for.

The values of the file go through the modality LUT or rescaling, then the first VOI LUT or window, then the inversion
of MONOCHROME1 (DICOM PS3.3, C.11.1, C.11.2 and C.7.6.3.1.2), as a viewer shows them before anybody turns a knob.
"""

import logging
import re
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import cv2
import numpy as np

from bonepipe.data import headers
from bonepipe.data.limits import DEFAULTS, Limits
from bonepipe.disk import require_file
from bonepipe.errors import BonepipeError

if TYPE_CHECKING:
    from pydicom import Dataset

SUFFIXES = (".dcm", ".dicom")  # in small letters; many files have none
MARK, MARK_AT = b"DICM", 128  # after a preamble
HEAD = MARK_AT + len(MARK)  # bytes that tell
# A file without preamble begins with a low tag of group 2 or 8, little endian, and a type or a short length.
BARE = re.compile(rb"[\x02\x08]\0.\0(?:[A-Z]{2}|.\0\0\0)", re.DOTALL)
EXTRA = "pip install 'bonepipe[dicom]'"
CHUNK = 64 << 20  # bytes that are inflated at once to see how many there are
MOST_BITS = 16  # a pixel; radiographs have no more


def is_dicom(data: bytes) -> bool:
    """Whether a file with this content, or these first HEAD bytes, is DICOM."""
    return data.startswith(MARK, MARK_AT) or BARE.match(data) is not None


def is_dicom_file(path: Path) -> bool:
    """Whether a file is DICOM and no index of others (DICOMDIR); not where it cannot be read."""
    try:
        require_file(path)
        with path.open("rb") as file:
            return path.name != "DICOMDIR" and is_dicom(file.read(HEAD))
    except OSError:
        return False


def read_grey(data: bytes, path: Path, limits: Limits = DEFAULTS) -> np.ndarray:
    """A DICOM file's content as uint8 `[H, W]`.

    Where there is neither VOI LUT nor window, images of up to 8 bits are taken as they are, and deeper ones are scaled
    from their smallest to their largest value; padding, which counts for neither, becomes black. Colours become luma.

    Args:
        data: of the file.
        path: of the file, for messages.
        limits: of what it may say of its size.

    Raises:
        BonepipeError: pydicom or a plug-in is missing, there is no image, there are several, or it cannot be decoded or
            is too large.
    """
    with _blaming(path):
        dataset = _opened(data, path, limits)
        _require_decoder(dataset, path)
        _require_small_frame(dataset, path, limits)
        pixels = dataset.pixel_array
        if dataset.SamplesPerPixel > 1 or dataset.PhotometricInterpretation == "PALETTE COLOR":
            return _luma(pixels, dataset)
        return _shown(pixels, dataset)


def read_shape(data: bytes, path: Path, limits: Limits = DEFAULTS) -> tuple[int, int]:
    """Height and width without decoding. Raises BonepipeError as `read_grey`, but for what only decoding tells."""
    with _blaming(path):
        dataset = _opened(data, path, limits)
        _require_decoder(dataset, path)
        return int(dataset.Rows), int(dataset.Columns)


def read_header(path: Path, keywords: Sequence[str], limits: Limits = DEFAULTS) -> "Dataset":
    """Some elements of a DICOM file, the pixels aside. Raises BonepipeError where it is damaged or pydicom missing."""
    with _blaming(path), path.open("rb") as file:
        return _parsed(file, path, limits, stop_before_pixels=True, specific_tags=list(keywords))


def _parsed(file: BinaryIO, path: Path, limits: Limits, **options: Any) -> "Dataset":
    """A file's elements. One whose content is deflated is refused where it is too much: pydicom inflates it at once."""
    pydicom = library(path)
    pydicom.filereader.read_preamble(file, True)
    about = pydicom.filereader._read_file_meta_info(file)  # which leaves the file where the content begins
    if about.get("TransferSyntaxUID") == pydicom.uid.DeflatedExplicitVRLittleEndian:
        _require_small_content(file.read(), path, limits)
    file.seek(0)
    return pydicom.dcmread(file, force=True, **options)


def _require_small_content(packed: bytes, path: Path, limits: Limits) -> None:
    inflate, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while packed:
        size += len(inflate.decompress(packed, CHUNK))
        packed = inflate.unconsumed_tail
        if size > limits.image_bytes:
            what = f"its deflated content has more than {limits.image_bytes} bytes"
            raise BonepipeError(f"{path}: {what}; {limits.told('pixels')}")


@contextmanager
def _blaming(path: Path) -> Iterator[None]:
    """Whatever a parser throws at a damaged part is the file's fault, and becomes one BonepipeError that names it."""
    try:
        yield
    except (BonepipeError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise BonepipeError(
            f"{path}: cannot be read as DICOM ({reason}); copy the file again, or export it uncompressed or as PNG"
        ) from error


def library(path: Path) -> Any:
    """pydicom, which keeps quiet from now on: what matters is said here, with the name of the file to be read."""
    try:
        return _imported()
    except ImportError as error:
        raise BonepipeError(f"{path}: is a DICOM file, and pydicom, which reads it, is missing: {EXTRA}") from error


@cache
def _imported() -> Any:
    import pydicom

    warnings.filterwarnings("ignore", module="pydicom")
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    try:
        import gdcm

        for switch_off in (gdcm.Trace.WarningOff, gdcm.Trace.ErrorOff, gdcm.Trace.DebugOff):
            switch_off()
    except ImportError:
        pass  # uncompressed files need no plug-in
    return pydicom


def _opened(data: bytes, path: Path, limits: Limits) -> "Dataset":
    """All elements of a file that holds one whole image of at most 16 bits."""
    dataset = _parsed(BytesIO(data), path, limits)
    if "PixelData" not in dataset:
        what = "has no Pixel Data (7FE0,0010): it is cut short, or no image"
        raise BonepipeError(f"{path}: {what}; copy the file again, or leave it out")
    frames, bits = int(dataset.get("NumberOfFrames") or 1), int(dataset.BitsAllocated)
    if frames > 1:
        what = f"Number of Frames (0028,0008) is {frames}, and one is read"
        raise BonepipeError(f"{path}: {what}; save the frame to segment as a file of its own")
    if bits > MOST_BITS:
        raise BonepipeError(f"{path}: Bits Allocated (0028,0100) is {bits}; export it with 8 or 16 bits a pixel")
    limits.require_pixels((int(dataset.Rows), int(dataset.Columns)), str(path))
    _complete_syntax(dataset)
    _drop_empty(dataset)
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        _require_length(dataset, path)
    return dataset


def _complete_syntax(dataset: "Dataset") -> None:
    """A file without meta information is not compressed, and its syntax is the one that it was read by."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = FileMetaDataset()
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit


def _drop_empty(dataset: "Dataset") -> None:
    """Take out what says nothing of the grey values, as anonymisers and bad exports leave it, so that it is not used.

    That are empty elements, and windows without a width: of 1 at least where they are linear (PS3.3 C.11.2.1.2).
    """
    for name in ("VOILUTFunction", "RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth"):
        if name in dataset and dataset[name].is_empty:
            del dataset[name]
    if "WindowWidth" in dataset:
        width = dataset.WindowWidth
        least = 1 if dataset.get("VOILUTFunction", "LINEAR") == "LINEAR" else 1e-9
        if (width if isinstance(width, float) else width[0]) < least:
            del dataset.WindowWidth


def _require_length(dataset: "Dataset", path: Path) -> None:
    from pydicom.pixels.utils import get_expected_length

    expected, there = get_expected_length(dataset), len(dataset.PixelData)
    if there < expected:
        what = f"Pixel Data (7FE0,0010) has {there} of {expected} bytes"
        raise BonepipeError(f"{path}: is cut short: {what}; copy the file again")


def _require_small_frame(dataset: "Dataset", path: Path, limits: Limits) -> None:
    """The compressed picture has a header of its own, which its decoder believes."""
    from pydicom.encaps import get_frame
    from pydicom.uid import RLELossless

    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated or syntax == RLELossless:
        return
    shape = headers.told_shape(get_frame(dataset.PixelData, 0, number_of_frames=1))
    if shape is None:
        what = f"Pixel Data (7FE0,0010) does not begin as {syntax.name} does"
        raise BonepipeError(f"{path}: {what}; copy the file again, or export it uncompressed or as PNG")
    limits.require_pixels(shape, f"{path}: Pixel Data (7FE0,0010)")


def _require_decoder(dataset: "Dataset", path: Path) -> None:
    from pydicom.pixels import get_decoder

    syntax = dataset.file_meta.TransferSyntaxUID
    field = f"Transfer Syntax UID (0002,0010) is {syntax.name}"
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise BonepipeError(f"{path}: {field}, which is not read; export it uncompressed or as PNG") from error
    if not decoder.is_available:
        lacking = "; ".join(decoder.missing_dependencies)
        way_out = EXTRA if "gdcm" in lacking else f"install a plug-in ({lacking}), or export it uncompressed"
        raise BonepipeError(f"{path}: {field}, and what decodes it is missing: {way_out}")


def _luma(pixels: np.ndarray, dataset: "Dataset") -> np.ndarray:
    """Colours `[H, W, 3]`, or indices of a palette `[H, W]`, as grey bytes; pydicom has made RGB of any YBR."""
    from pydicom.pixels import apply_color_lut

    bits = int(dataset.BitsStored)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        pixels, bits = apply_color_lut(pixels, dataset)[..., :3], int(dataset.RedPaletteColorLookupTableDescriptor[2])
    grey = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
    return grey if bits == 8 else np.rint(grey * (255.0 / ((1 << bits) - 1))).clip(0, 255).astype(np.uint8)


def _shown(pixels: np.ndarray, dataset: "Dataset") -> np.ndarray:
    """Stored values `[H, W]` as grey bytes, worked out once a value and then looked up."""
    low = int(pixels.min())
    places = pixels.astype(np.int32) - low
    there = np.bincount(places.ravel()) > 0
    levels = np.arange(low, low + len(there))
    padding = _padding(levels, dataset)
    if (there & ~padding).any():
        there &= ~padding
    bright = _brightness(levels, there, dataset)
    shape = str(dataset.get("PresentationLUTShape") or "").strip().upper()
    if dataset.PhotometricInterpretation == "MONOCHROME1" or shape == "INVERSE":  # both say the same, PS3.3 C.8.11.3
        bright = 1 - bright
    return np.where(padding, 0, np.rint(255 * bright)).astype(np.uint8)[places]


def _padding(levels: np.ndarray, dataset: "Dataset") -> np.ndarray:
    """Which stored values mark pixels outside the image, bool `[K]` (PS3.3 C.7.5.1.1.2)."""
    first = dataset.get("PixelPaddingValue")
    if first is None:
        return np.zeros(len(levels), bool)
    last = dataset.get("PixelPaddingRangeLimit")
    low, high = sorted((int(first), int(first if last is None else last)))
    return (levels >= low) & (levels <= high)


def _brightness(levels: np.ndarray, there: np.ndarray, dataset: "Dataset") -> np.ndarray:
    """How bright stored values int `[K]` are, float `[K]` from 0 to 1, before any inversion.

    Args:
        there: which of them the image has, padding aside.
    """
    from pydicom.pixels import apply_modality_lut, apply_windowing

    values = apply_modality_lut(levels, dataset)
    tables = dataset.get("VOILUTSequence")
    if tables and "LUTData" in tables[0]:
        return _looked_up(values, tables[0], "<" if dataset.original_encoding[1] else ">")
    if None not in (dataset.get("WindowCenter"), dataset.get("WindowWidth")):
        with np.errstate(over="ignore"):
            low, high = apply_windowing(np.array([-np.inf, np.inf]), dataset)
            values = apply_windowing(values, dataset)
    elif dataset.BitsStored <= 8:
        first = -(1 << dataset.BitsStored - 1) if dataset.PixelRepresentation else 0
        ends = np.array([first, first + (1 << dataset.BitsStored) - 1])
        low, high = np.sort(apply_modality_lut(ends, dataset))
    else:
        low, high = values[there].min(), values[there].max()
    return np.asarray(np.clip((values - low) / ((high - low) or 1), 0, 1))


def _looked_up(values: np.ndarray, table: "Dataset", order: str) -> np.ndarray:
    """Values `[K]` through a VOI LUT, float `[K]` from 0 to 1.

    Not by pydicom's `apply_voi`, which takes places in a table of bytes for bytes: those beyond 255 wrap around.
    """
    count, first, bits = table.LUTDescriptor
    count, entries = count or 1 << 16, table.LUTData
    if isinstance(entries, bytes):
        kind = f"{order}u2" if len(entries) >= 2 * count else "u1"
        entries = np.frombuffer(entries, kind)[:count]
    places = np.clip(np.rint(values) - first, 0, count - 1).astype(int)
    return np.clip(np.asarray(entries, float)[places] / ((1 << bits) - 1), 0, 1)
