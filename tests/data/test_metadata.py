import unicodedata

import pandas as pd
import pytest

from bonepipe.data.metadata import read_metadata, read_rotated, read_with_faults
from bonepipe.data.spec import DataSpec
from bonepipe.errors import BonepipeError

SPELLINGS = ["_x0008_여", "_x0008_남", "남", "여", " 여", " 남"]
HEADER = ["ID", "나이", "성별", "체중(몸무게)", "키(신장)", ""]
ROW = [1, 25, "여", 60.5, 170, "네일있음"]


@pytest.fixture
def spec(tmp_path):
    return DataSpec(name="hand", root=str(tmp_path), classes=("Radius",), size=64)


def write(spec, rows, header=HEADER):
    pd.DataFrame([header, *rows]).to_excel(spec.path / "meta_data.xlsx", index=False, header=False)


def column(spec, name, values):
    """What is read where one column has these values, a row each, and what is wrong with it."""
    place = HEADER.index(name)
    rows = [[number, *ROW[1:place], value, *ROW[place + 1 :]] for number, value in enumerate(values, 1)]
    write(spec, rows)
    facts, faults = read_with_faults(spec)
    key = ("", "age", "sex", "weight", "height")[place]
    return [facts[f"ID{number:03d}"][key] for number in range(1, len(values) + 1)], faults


def test_no_file_is_no_metadata(spec):
    assert read_with_faults(spec) == ({}, [])


def test_all_six_spellings_of_the_sexes(spec):
    assert column(spec, "성별", SPELLINGS) == (["F", "M", "M", "F", "F", "M"], [])


def test_sexes_in_other_words(spec):
    words = ["F", "m", "Female", " male ", "여자", "남성", unicodedata.normalize("NFD", "남"), "W\u00a0", "여\n"]
    assert column(spec, "성별", words) == (["F", "M", "F", "M", "F", "M", "M", "F", "F"], [])


def test_numbers_as_people_type_them(spec):
    values = [60.5, "60.5", "60,5", " 60,5\n", "６０．５", 60, "_x0008_60"]
    assert column(spec, "체중(몸무게)", values) == ([60.5] * 5 + [60.0] * 2, [])


@pytest.mark.parametrize(
    "header",
    [
        [unicodedata.normalize("NFD", name) for name in HEADER],
        ["id ", " 나이", "성별\n", "체중\n(몸무게)", "키 (신장)_x000D_", "x"],
        ["Id", "Age", "SEX", "weight", "height", None],
    ],
    ids=["NFD", "blanks and line breaks", "English"],
)
def test_headers_as_people_type_them(spec, header):
    write(spec, [ROW, [None] * 6], header)
    facts = {"age": 25.0, "sex": "F", "weight": 60.5, "height": 170.0}
    assert read_with_faults(spec) == ({"ID001": facts}, [])


@pytest.mark.parametrize("value", [7, 7.0, "7", "007", "ID007", " id7", "7.0"])
def test_one_patient_in_many_spellings(spec, value):
    write(spec, [[value, *ROW[1:]]])
    assert list(read_metadata(spec)) == ["ID007"]


@pytest.mark.parametrize("value", [1.5, "1,5", -1, None, "case1", True, "٣x", "9" * 5000])
def test_an_id_that_is_no_whole_number_is_refused(spec, value):
    write(spec, [ROW, [value, *ROW[1:]]])
    with pytest.raises(BonepipeError, match=r"meta_data\.xlsx: row 3, column ID: .* is not a whole number"):
        read_metadata(spec)


def test_an_id_twice_is_refused(spec):
    write(spec, [ROW, [2, *ROW[1:]], ["ID001", 30, *ROW[2:]]])
    with pytest.raises(BonepipeError, match=r"meta_data\.xlsx: row 4, column ID: ID001 again, first in row 2"):
        read_metadata(spec)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("나이", [30, -5, 10**9, None], "-5 in row 3 (and 1 more): expected a number from 0 to 120"),
        ("나이", [30, "old", None, None], "'old' in row 3: expected a number from 0 to 120"),
        ("체중(몸무게)", [30, True, None, None], "True in row 3: expected a number from 1 to 400"),
        ("키(신장)", [30, 1.7, float("inf"), None], "1.7 in row 3 (and 1 more): expected a number from 30 to 250"),
        ("성별", ["여", "x", "남/여", None], "'x' in row 3 (and 1 more): expected F, M, 여 or 남"),
    ],
)
def test_what_cannot_be_right_is_unknown_and_told_once_a_column(spec, name, values, expected):
    read, faults = column(spec, name, values)
    assert [value is None for value in read] == [False, True, True, True]
    assert faults == [(name, f"{expected}; taken as unknown")]


def test_a_column_that_is_missing_is_told(spec):
    write(spec, [ROW[:2]], HEADER[:2])
    facts, faults = read_with_faults(spec)
    assert facts == {"ID001": {"age": 25.0, "sex": None, "weight": None, "height": None}}
    missing = zip(HEADER[2:5], ("sex", "weight", "height"), strict=True)
    assert faults == [(name, f"no such column; the {key} stays unknown") for name, key in missing]


def test_a_damaged_spreadsheet_is_refused(spec):
    path = spec.path / "meta_data.xlsx"
    path.write_text("no spreadsheet")
    with pytest.raises(BonepipeError, match=r"meta_data\.xlsx: cannot be read as a spreadsheet"):
        read_metadata(spec)
    write(spec, [ROW])
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(BonepipeError, match=r"meta_data\.xlsx: cannot be read as a spreadsheet"):
        read_metadata(spec)
    write(spec, [[1]], ["patient"])
    with pytest.raises(BonepipeError, match=r"meta_data\.xlsx: no column 'ID'"):
        read_metadata(spec)
    write(spec, [[*ROW, 3]], [*HEADER, "age"])
    with pytest.raises(BonepipeError, match=r"meta_data\.xlsx: column 'age' is there twice \('나이' is the first\)"):
        read_metadata(spec)
    pd.DataFrame().to_excel(path)
    with pytest.raises(BonepipeError, match=r"meta_data\.xlsx: no column 'ID'"):
        read_metadata(spec)


@pytest.mark.parametrize(
    "content",
    [
        b"patient\nID001\nKim 02\n",
        b"ID001\nKim 02\n",
        b"\xef\xbb\xbfID001\r\n\r\nKim 02",
        b"\xef\xbb\xbf Patient \r\nID001\r\nKim 02\r\n",
        b",patient\n0,ID001\n1,Kim 02\n",
        b'"patient";"note"\n"ID001";"bent, and worn"\n"Kim 02 ";\n',
    ],
    ids=["plain", "no header", "BOM, no header", "BOM", "an index column", "quotes and semicolons"],
)
def test_rotated_wrists_however_they_are_listed(spec, content):
    (spec.path / "rotated.csv").write_bytes(content)
    assert read_rotated(spec) == {"ID001", "Kim 02"}


def test_a_list_of_rotated_wrists_that_cannot_be_read_is_refused(spec):
    assert read_rotated(spec) is None
    (spec.path / "rotated.csv").write_bytes(b"")
    with pytest.raises(BonepipeError, match=r"rotated\.csv: no column 'patient'"):
        read_rotated(spec)
    (spec.path / "rotated.csv").write_bytes(b"patient\n\xff\n")
    with pytest.raises(BonepipeError, match=r"rotated\.csv: cannot be read"):
        read_rotated(spec)
    (spec.path / "rotated.csv").write_bytes(b"0,ID001\n1,ID002\n")
    with pytest.raises(BonepipeError, match=r"rotated\.csv: no column 'patient'"):
        read_rotated(spec)
