"""Fold files, and the tables of patients and of a run's folder."""

import io
import math
import re
import zipfile
from pathlib import Path
from xml.sax.saxutils import escape

from hypothesis import strategies as st

from bonepipe.data import folds, metadata
from bonepipe.data.catalog import Radiograph
from bonepipe.data.spec import DataSpec
from bonepipe.inference.label_errors import read_planted
from bonepipe.pipeline import comparison
from bonepipe.pipeline.history import read_history
from bonepipe.training.tracking.history import read_rows

from . import mutate, plain
from .archives import tiny_weights
from .engine import Target
from .texts import CLASSES, IMAGES, Table, render

PATIENTS = {f"{patient}_{side}.png": patient for patient in ("ID001", "ID002", "ID003") for side in "LR"}
RADIOGRAPHS = [Radiograph(name, patient, Path(name), "train") for name, patient in PATIENTS.items()]
COUNT = 2  # folds


def check_folds(path: Path, content: bytes) -> None:
    """A fold file, and all of its faults."""
    rows = plain.table(content, folds.COLUMNS)
    expected = None if rows is None else plain.is_split(rows, PATIENTS, COUNT)
    faults = folds.find_faults(path, RADIOGRAPHS, COUNT)
    assert expected in (None, not faults), "another verdict"
    found = folds.read(path, RADIOGRAPHS, COUNT)
    assert rows is None or found == {row["image_name"]: int(row["fold"]) for row in rows}, "other folds"


def folds_target(_: Path) -> list[Target]:
    """Fold files."""

    def table(numbers: list[int]) -> Table:
        fold_of = dict(zip(dict.fromkeys(PATIENTS.values()), numbers, strict=True))
        return [[*folds.COLUMNS], *([name, patient, str(fold_of[patient])] for name, patient in PATIENTS.items())]

    documents = st.lists(st.integers(0, COUNT - 1), min_size=3, max_size=3).map(table)
    about = "a plain reader with the rules as sets"
    return [Target("fold files", documents, render, mutate.rows, check_folds, "folds.csv", about)]


def check_workbook(path: Path, content: bytes) -> None:
    """The spreadsheet of patients."""
    facts, faults = metadata.read_with_faults(spec_of(path))
    for patient, known in facts.items():
        assert re.fullmatch(r"ID\d{3,}", patient, re.ASCII)
        assert known["sex"] in ("F", "M", None)
        for key, (low, high) in metadata.PLAUSIBLE.items():
            assert known[key] is None or low <= known[key] <= high
    assert all(name in metadata.COLUMNS for name, _ in faults)


def spec_of(path: Path) -> DataSpec:
    """A dataset whose spreadsheet lies at a path."""
    return DataSpec(name="hand", root=str(path.parent), classes=CLASSES, size=64, metadata=path.name)


NAMES = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
RELATION = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
WORKBOOK = {
    "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Override PartName="/xl/workbook.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.'
    'sheet.main+xml"/><Override PartName="/xl/worksheets/sheet1.xml" '
    'ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/></Types>',
    "_rels/.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    f'<Relationship Id="a" Type="{RELATION}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
    "xl/_rels/workbook.xml.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    f'<Relationship Id="b" Type="{RELATION}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
    "xl/workbook.xml": f'<workbook {NAMES} xmlns:r="{RELATION}"><sheets>'
    '<sheet name="a" sheetId="1" r:id="b"/></sheets></workbook>',
}


def workbook(table: Table) -> bytes:
    """A table as a spreadsheet: numbers where a field is one, else text."""
    cells = ("".join(map(_cell, row)) for row in table)
    sheet = f"<worksheet {NAMES}><sheetData>{''.join(f'<row>{row}</row>' for row in cells)}</sheetData></worksheet>"
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in {**WORKBOOK, "xl/worksheets/sheet1.xml": sheet}.items():
            archive.writestr(name, text)
    return file.getvalue()


def _cell(field: str) -> str:
    if re.fullmatch(r"-?[0-9]+(\.[0-9]+)?(e[0-9]+)?", field):
        return f"<c><v>{field}</v></c>"
    return f'<c t="inlineStr"><is><t>{escape(field)}</t></is></c>'


def patients() -> st.SearchStrategy[Table]:
    """Rows as people type them."""
    row = st.tuples(
        st.sampled_from(("3", "ID007", "12.0", "５")), st.sampled_from(("30", "41.5", "?")),
        st.sampled_from(("여", "M", "female", "")), st.sampled_from(("61,5", "70", "-")),
        st.sampled_from(("172", "1.7e2")),
    ).map(list)  # fmt: skip
    header = ["ID", "나이", "성별", "체중(몸무게)", "키\n(신장)"]
    return st.lists(row, max_size=4).map(lambda rows: [header, *rows])


def check_rotated(path: Path, content: bytes) -> None:
    """The list of rotated wrists."""
    for patient in metadata.read_rotated(spec_of(path)) or ():
        assert patient == patient.strip() != ""


def metadata_target(_: Path) -> list[Target]:
    """What is known of patients."""
    listed = st.sampled_from(
        ([["patient"], ["ID001"], ["ID002"]], [["ID001"], ["ID003"]], [["patient", "x"], ["a", "b"]])
    )
    about = "the plausible ranges"
    return [
        Target("spreadsheets", patients(), workbook, mutate.rows, check_workbook, "meta_data.xlsx", about),
        Target("lists of rotated wrists", listed, render, mutate.rows, check_rotated, "rotated.csv"),
    ]


def check_dice(path: Path, content: bytes) -> None:
    """A table of Dice out of fold."""
    rows, scores = plain.table(content, comparison.COLUMNS), comparison.read_dice(path)
    if rows is not None:
        expected = {(row["image_name"], row["class"]): float(row["dice"]) for row in rows}
        assert repr(scores) == repr(expected), "other Dice"


def check_history(path: Path, content: bytes) -> None:
    """A metrics.csv, as choosing an epoch and the dashboard read it."""
    read_rows(path)
    history = read_history(path.parent, 4)
    assert len(history.epochs) == len(history.dice) > 0
    assert (history.epochs[1:] >= history.epochs[:-1]).all()
    assert all(map(math.isfinite, history.dice))


def check_planted(path: Path, content: bytes) -> None:
    """A list of known wrong annotations."""
    read_planted(path)


def run_tables_target(folder: Path) -> list[Target]:
    """Tables of a run's folder."""
    tiny_weights(folder / "weights.safetensors", {"chosen": {"source": "average", "epoch": 1, "dice": 0.5}})
    scores = [[*comparison.COLUMNS], *([image, label, "0.5"] for image in IMAGES for label in CLASSES)]
    metrics = [
        ["epoch", "step", "val/dice", "train/loss"],
        ["0", "9", "0.1", ""],
        ["1", "19", "", "0.5"],
        ["1", "19", "0.3", ""],
    ]
    planted = [["image_name", "kind", "classes"], ["a.png", "swap", "Ulna Radius"]]
    return [
        Target("Dice out of fold", st.just(scores), render, mutate.rows, check_dice, "oof_dice.csv", "a plain reader"),
        Target("histories", st.just(metrics), render, mutate.rows, check_history, "metrics.csv"),
        Target("planted errors", st.just(planted), render, mutate.rows, check_planted, "planted.csv"),
    ]
