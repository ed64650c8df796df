"""What is known of patients: the spreadsheet of age, sex, weight and height, and the list of rotated wrists.

Both are edited by people, so values are read as people write them; what cannot be read is unknown, and a fault tells.
"""

import contextlib
import math
import os
import re
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bonepipe.data.spec import DataSpec
from bonepipe.disk import require_file
from bonepipe.errors import BonepipeError, quoted
from bonepipe.files import normalised, read_csv, read_rows

ROTATED_FILE = "rotated.csv"  # a column `patient`, or one a line: wrists bent sideways, where somebody has listed them
# Column of the spreadsheet -> what it holds; the English names are read as well.
COLUMNS = {"나이": "age", "성별": "sex", "체중(몸무게)": "weight", "키(신장)": "height"}
SEXES = {
    **dict.fromkeys(("여", "여자", "여성", "f", "female", "w", "woman"), "F"),
    **dict.fromkeys(("남", "남자", "남성", "m", "male", "man"), "M"),
}
UNKNOWN = ("", "na", "n/a", "#n/a", "<na>", "nan", "null", "none")  # normalised
LARGEST, ROWS, WIDEST = 64 << 20, 100_000, 256  # bytes of a spreadsheet, unpacked; its rows and columns
PLAUSIBLE = {"age": (0, 120), "weight": (1, 400), "height": (30, 250)}  # years, kilograms, centimetres

Facts = dict[str, Any]  # age, sex, weight and height of a patient, None where unknown
Fault = tuple[str, str]  # column, what is wrong with it


def read_metadata(spec: DataSpec) -> dict[str, Facts]:
    """Patient -> age, sex, weight, height, from the first sheet; empty where the dataset has no such file.

    Raises:
        BonepipeError: as `read_with_faults`.
    """
    return read_with_faults(spec)[0]


def read_with_faults(spec: DataSpec) -> tuple[dict[str, Facts], list[Fault]]:
    """The metadata, and for each column that it lacks, or of which some value cannot be right, a fault.

    Raises:
        BonepipeError: the file is no spreadsheet, a column is there twice, or the column ID is missing, holds something
            else than whole numbers, or one of them twice.
    """
    if spec.metadata is None or not os.path.lexists(path := spec.path / spec.metadata):
        return {}, []
    header, *rows = _cells(path)
    columns = _columns(path, header)
    facts: dict[str, Facts] = {}
    lines: dict[str, int] = {}
    odd: dict[str, list[str]] = defaultdict(list)
    for line, row in enumerate(rows, 2):
        if all(_blank(value) for value in row):
            continue
        patient = _patient_id(row[columns["ID"]], f"{path}: row {line}")
        if (first := lines.setdefault(patient, line)) != line:
            raise BonepipeError(f"{path}: row {line}, column ID: {patient} again, first in row {first}; remove one")
        facts[patient] = {key: _fact(key, row, columns, odd, line) for key in COLUMNS.values()}
    return facts, list(_faults(columns, odd))


def _cells(path: Path) -> list[list[Any]]:
    """The rows of the first sheet, as wide as the first one. A file of a few kilobytes may claim billions of cells."""
    from openpyxl import load_workbook

    try:
        require_file(path, LARGEST)
        with zipfile.ZipFile(path) as file:
            _require("bytes unpacked", sum(part.file_size for part in file.infolist()), LARGEST)
        book = load_workbook(path, read_only=True, data_only=True, keep_links=False)
        with contextlib.closing(book):
            rows = list(_rows(book.worksheets[0]))
    except Exception as error:  # a damaged workbook raises whatever the parser of its damaged part does
        raise BonepipeError(f"{path}: cannot be read as a spreadsheet ({quoted(str(error), 200)})") from error
    width = len(rows[0]) if rows else 0
    return [[*row[:width], *[None] * (width - len(row))] for row in rows] or [[]]


def _rows(sheet: Any) -> Iterator[list[Any]]:
    sheet.reset_dimensions()  # which it says of itself, often wrongly
    for number, row in enumerate(sheet.iter_rows(values_only=True), 1):
        _require("rows", number, ROWS)
        _require(f"columns in row {number}", len(row), WIDEST)
        yield list(row)


def _require(what: str, value: int, most: int) -> None:
    if value > most:
        raise ValueError(f"it has more than {most} {what}; delete what is empty there")


def _columns(path: Path, header: Sequence[Any]) -> dict[str, int]:
    """What a column holds -> its place."""
    known = {normalised(name): key for name, key in COLUMNS.items()}
    known |= {normalised(key): key for key in ("ID", *COLUMNS.values())}
    places: dict[str, int] = {}
    for place, name in enumerate(header):
        key = known.get(normalised(str(name)))
        if key in places:
            raise BonepipeError(f"{path}: column {name!r} is there twice ({header[places[key]]!r} is the first)")
        if key is not None:
            places[key] = place
    if "ID" not in places:
        raise BonepipeError(f"{path}: no column 'ID' in the first row")
    return places


def _fact(key: str, row: Sequence[Any], columns: Mapping[str, int], odd: dict[str, list[str]], line: int) -> Any:
    """A value of a row, None where it is unknown; one that cannot be read is added to the odd ones of its column."""
    value = row[columns[key]] if key in columns else None
    if _blank(value):
        return None
    read: Callable[[Any], Any] = (lambda cell: SEXES.get(normalised(str(cell)))) if key == "sex" else _number
    fact = read(value)
    if fact is None or (key in PLAUSIBLE and not PLAUSIBLE[key][0] <= fact <= PLAUSIBLE[key][1]):
        odd[key].append(f"{value!r} in row {line}")
        return None
    return fact


def _faults(columns: Mapping[str, int], odd: Mapping[str, Sequence[str]]) -> Iterator[Fault]:
    for name, key in COLUMNS.items():
        if key not in columns:
            yield name, f"no such column; the {key} stays unknown"
        elif key in odd:
            more = f" (and {len(odd[key]) - 1} more)" if len(odd[key]) > 1 else ""
            limits = "F, M, 여 or 남" if key == "sex" else "a number from {} to {}".format(*PLAUSIBLE[key])
            yield name, f"{odd[key][0]}{more}: expected {limits}; taken as unknown"


def _blank(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value)) or normalised(str(value)) in UNKNOWN


def _patient_id(value: Any, where: str) -> str:
    """`ID007` from 7, 7.0, `7`, `007` or `ID007`."""
    match = re.fullmatch(r"(?:id)?(\d{1,18})(?:\.0+)?", normalised(str(value)))
    if match is None:
        raise BonepipeError(f"{where}, column ID: {quoted(value)} is not a whole number")
    return f"ID{int(match[1]):03d}"


def _number(value: Any) -> float | None:
    """A number as people type it: with a decimal comma, as text, with blanks around it."""
    if isinstance(value, bool):
        return None
    try:
        number = float(normalised(str(value)).replace(",", "."))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def read_rotated(spec: DataSpec) -> set[str] | None:
    """The patients listed in rotated.csv; None where there is no such file.

    It has a column `patient`, further ones are passed over; or it has no header and a patient a line.

    Raises:
        BonepipeError: it cannot be read, or has several columns and none of them is `patient`.
    """
    path = spec.path / ROTATED_FILE
    if not os.path.lexists(path):
        return None
    rows = [fields for _, fields in read_rows(path)]
    if rows and len(rows[0]) == 1 and normalised(rows[0][0]) != "patient":
        return _names(fields[0] for fields in rows)
    return _names(row["patient"] for _, row in read_csv(path, ("patient",)))


def _names(fields: Iterable[str]) -> set[str]:
    return {name for field in fields if (name := field.strip())}
