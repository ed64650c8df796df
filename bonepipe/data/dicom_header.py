"""What a DICOM header says of patient and picture; only the elements that are asked for are read, never the pixels."""

import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bonepipe.data import dicom
from bonepipe.data.limits import DEFAULTS, Limits
from bonepipe.data.metadata import PLAUSIBLE
from bonepipe.errors import BonepipeError, suggestion

if TYPE_CHECKING:
    from pydicom import Dataset

SIDES, SEXES = ("ImageLaterality", "Laterality"), ("F", "M")
# Calibrated in the patient first, then in the plane of the detector, which is a little larger than what it shows, then
# in the plane of a scanned film.
SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
FACTS = ("PatientAge", "PatientSex", "PatientWeight", "PatientSize", *SIDES)
YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}  # in a unit of Patient's Age


class Spacing(NamedTuple):
    """How far apart pixels are.

    Attributes:
        row: millimetres from the centre of a row to the next.
        column: millimetres from the centre of a column to the next.
        source: keyword of the element that says so.
    """

    row: float
    column: float
    source: str


def spacing(path: Path, limits: Limits = DEFAULTS) -> Spacing | None:
    """The spacing of an image's pixels; None where the file is no DICOM or does not say. Raises as `patient`."""
    header = _header(path, SPACINGS, limits)
    for name in SPACINGS:
        values = header.get(name) if header is not None else None
        if values and len(values) == 2 and min(values) > 0:
            return Spacing(float(values[0]), float(values[1]), name)
    return None


def patient(path: Path, keyword: str, limits: Limits = DEFAULTS) -> str:
    """The element that tells whose image it is, as text.

    Raises:
        BonepipeError: pydicom is missing, the file is no DICOM, there is no such keyword, or the element is empty.
    """
    header = _header(path, (_known(keyword, path),), limits)
    way_out = "null takes the patient from the path"
    if header is None:
        raise BonepipeError(f"{path}: data.patient_tag={keyword}: is no DICOM file; {way_out}")
    value = str(header.get(keyword) or "").strip()
    if not value:
        raise BonepipeError(f"{path}: data.patient_tag={keyword}: the header does not have it; {way_out}")
    return value


def facts(path: Path, limits: Limits = DEFAULTS) -> dict[str, Any]:
    """What is known of side, age (years), sex, weight (kilograms) and height (centimetres); nothing where no DICOM."""
    header = _header(path, FACTS, limits)
    if header is None:
        return {}
    sides = [header.get(name) for name in SIDES]
    told = {
        "side": next((side for side in sides if side in ("L", "R")), None),
        "sex": header.get("PatientSex") if header.get("PatientSex") in SEXES else None,
        "age": _plausible("age", lambda: _years(str(header.get("PatientAge") or ""))),
        "weight": _plausible("weight", lambda: header.get("PatientWeight")),
        "height": _plausible("height", lambda: 100 * header.PatientSize),
    }
    return {key: value for key, value in told.items() if value is not None}


def _years(age: str) -> float | None:
    match = re.fullmatch(r"(\d{1,3})([DWMY])", age.strip())
    return int(match[1]) * YEARS[match[2]] if match else None


def _plausible(key: str, read: Callable[[], Any]) -> float | None:
    """A number; None where it is not there, cannot be read, or cannot be right."""
    low, high = PLAUSIBLE[key]
    try:
        value = float(read())
    except (TypeError, ValueError, AttributeError):
        return None
    return value if low <= value <= high else None


def _known(keyword: str, path: Path) -> str:
    known = dicom.library(path).datadict.keyword_dict
    if keyword not in known:
        hint = suggestion(keyword, known) or "; one is PatientID"
        raise BonepipeError(f"data.patient_tag={keyword!r}: DICOM has no such keyword{hint}")
    return keyword


def _header(path: Path, keywords: tuple[str, ...], limits: Limits) -> "Dataset | None":
    """Elements of a DICOM file; None where it is none. Raises BonepipeError where it is damaged or pydicom missing."""
    try:
        stat = path.stat()
    except OSError as error:
        raise BonepipeError(f"{path}: cannot be read ({error.strerror})") from error
    return _read(path, keywords, limits, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=1 << 16)  # a command asks for its catalog several times
def _read(path: Path, keywords: tuple[str, ...], limits: Limits, *_: int) -> "Dataset | None":
    return dicom.read_header(path, keywords, limits) if dicom.is_dicom_file(path) else None
