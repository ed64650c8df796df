"""The spreadsheet of the patients, with the quirks of a file typed by several hands."""

import io
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bonepipe.data.phantom.person import DATASET_STREAM, draw_person, generator

COLUMNS = ("ID", "나이", "성별", "체중(몸무게)", "키(신장)", "Unnamed: 5")
SPELLINGS = {True: ("_x0008_남", "남", " 남"), False: ("_x0008_여", "여", " 여")}
SPELLING_SHARES = (0.25, 0.6, 0.15)
POLISH_NOTE = "네일있음"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date a zip archive can hold


def metadata_table(numbers: Sequence[int], seed: int) -> pd.DataFrame:
    """One row a patient: id, age (years), sex, weight (kg), height (cm) and a note on nail polish."""
    return pd.DataFrame([_row(number, seed) for number in numbers], columns=list(COLUMNS))


def _row(number: int, seed: int) -> tuple[int, int, str, int, int, str | None]:
    person = draw_person(seed, number)
    rng = generator(seed, number, DATASET_STREAM)
    # The first six patients go through all six spellings if their sexes allow, so that small sets have the quirk too.
    spelling = number % 3 if number <= 6 else int(rng.choice(3, p=SPELLING_SHARES))
    note = POLISH_NOTE if person.nail_polish else None
    return number, person.age, SPELLINGS[person.male][spelling], person.weight, person.height, note


def write_metadata(path: Path, table: pd.DataFrame) -> None:
    """Write `table` to the first sheet of an Excel file whose bytes depend on the table alone."""
    buffer = io.BytesIO()
    # The last column's header is the name pandas gives to an empty header cell.
    table.rename(columns={"Unnamed: 5": ""}).to_excel(buffer, index=False, engine="openpyxl")
    path.write_bytes(_without_clock(buffer.getvalue()))


def _without_clock(workbook: bytes) -> bytes:
    """Take the time of writing out of a workbook: openpyxl puts it into the archive and the properties."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(workbook)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "docProps/core.xml":
                content = re.sub(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", b"2022-08-22T00:00:00Z", content)
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(entry, content)
    return out.getvalue()
