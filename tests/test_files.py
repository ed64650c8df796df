import ast
import json
import os
import unicodedata
from pathlib import Path

import pytest

import bonepipe
from bonepipe.errors import BonepipeError
from bonepipe.files import find_files, name_fault, passed_over, printable, read_csv, replacing, write_csv, write_json


def test_a_file_that_fails_half_way_leaves_the_old_one_and_nothing_else(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("table.csv", "old")]


def test_a_file_that_ends_well_takes_the_name(tmp_path):
    with replacing(tmp_path / "counts.npz") as part:
        assert part.suffix == ".npz" and part.parent == tmp_path
        part.write_text("new")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("counts.npz", "new")]


def test_json_keeps_letters_of_all_languages(tmp_path):
    write_json(tmp_path / "scores.json", {"여": 0.5})
    text = (tmp_path / "scores.json").read_text(encoding="utf-8")
    assert "여" in text and json.loads(text) == {"여": 0.5}


@pytest.fixture
def tree(tmp_path):
    """A folder `in` with links to a file and a folder outside, links in a circle, leftovers, endings in any case."""
    files = ["in/b/x.png", "in/b/Y.PNG", "in/a.png", "in/notes.txt", "out/c/z.png", "in/.hidden/h.png", "in/b/._x.png"]
    for name in [*files, "in/b/.ipynb_checkpoints/x.png", "in/__MACOSX/m.png", "elsewhere.png"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    links = {"in/linked": "out/c", "in/file.png": "elsewhere.png", "in/gone.png": "nothing.png", "in/b/up": "in"}
    for link, target in {**links, "in/b/root": ".", "out/c/back": "out", "in/self.png": "in/self.png"}.items():
        (tmp_path / link).symlink_to(tmp_path / target)
    return tmp_path / "in"


def test_files_are_found_as_a_person_sees_them(tree):
    """Links that lead nowhere are among them, so that whoever reads them names them."""
    found = [str(path.relative_to(tree)) for path in find_files(tree, (".png",))]
    assert found == ["a.png", "b/Y.PNG", "b/x.png", "file.png", "gone.png", "linked/z.png", "self.png"]
    assert {path.name for path in find_files(tree)} == {Path(name).name for name in found} | {"notes.txt"}
    assert find_files(tree / "nowhere") == []
    with pytest.raises(BonepipeError, match=r"notes\.txt: cannot be read"):
        find_files(tree / "notes.txt")


def test_a_folder_below_a_hidden_one_is_not_hidden_by_that(tree):
    assert [path.name for path in find_files(tree / ".hidden", (".png",))] == ["h.png"]


def test_what_is_passed_over_is_told_with_its_reason(tree):
    hidden, above = "a file manager hides it", "a link to a folder above it"
    assert {str(path.relative_to(tree)): reason for path, reason in passed_over(tree, (".png",))} == {
        ".hidden/h.png": hidden, "__MACOSX/m.png": hidden, "b/._x.png": hidden, "b/.ipynb_checkpoints/x.png": hidden,
        "b/root": above, "b/up": above, "linked/back": above,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        (b"x\ny.png", "a line break or another control character"),
        (b"x\ty/z.png", "a line break or another control character"),
        ("손.png".encode("cp949"), "is not UTF-8"),
        ("손/é, 1.png".encode(), None),
    ],
)
def test_a_name_that_no_csv_can_hold_is_told(name, fault):
    path = Path(os.fsdecode(name))
    told = name_fault(path)
    assert told is None if fault is None else fault in told
    printable(path).encode("utf-8")
    assert len(printable(path).splitlines()) == 1


ROWS = [
    (2, {"image_name": "a.png", "class": "손", "rle": "1 2"}),
    (3, {"image_name": "b.png", "class": "x", "rle": ""}),
]
COLUMNS = ("image_name", "class", "rle")


@pytest.mark.parametrize(
    "text",
    [
        "image_name,class,rle\na.png,손,1 2\nb.png,x,\n",
        "\ufeffimage_name;class;rle\r\na.png;손;1 2\r\nb.png;x;\r\n;;\r\n",
        '"image_name"\t"class"\t"rle"\n"a.png"\t"손"\t"1 2"\nb.png\tx\n',
        " Image_Name ,CLASS,Rle\na.png,손,1 2,\nb.png,x\n\n",
    ],
    ids=["plain", "BOM and semicolons", "tabs and quotes", "other letters, a trailing comma"],
)
def test_a_table_is_read_however_a_spreadsheet_writes_it(tmp_path, text):
    (tmp_path / "a.csv").write_text(text, encoding="utf-8", newline="")
    assert read_csv(tmp_path / "a.csv", COLUMNS) == ROWS


def test_columns_are_told_apart_by_letters_and_not_by_their_composition(tmp_path):
    (tmp_path / "a.csv").write_text(unicodedata.normalize("NFD", "키(신장),나이\n170,30\n"), encoding="utf-8")
    assert read_csv(tmp_path / "a.csv", ("나이", "키(신장)")) == [(2, {"나이": "30", "키(신장)": "170"})]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no column 'image_name'; expected image_name,class,rle"),
        ("image_name,class\n", "no column 'rle'"),
        ("image_name,class,rle,Class\n", "column 'class' is there twice"),
        ("image_name,class,rle\na.png,x,1 2,3 4\n", "line 2: 4 fields where the header has 3"),
        ('image_name,class,rle\na.png,"x,1 2\nb.png,x,\n', "cannot be read .*unexpected end of data"),
        ("image_name,class,rle\na.png,x,\nb.png,x,\na.png,x,1 2\n", "line 4: a.png, x again, first at line 2"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(tmp_path, text, reason):
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    with pytest.raises(BonepipeError, match=rf"a\.csv: {reason}"):
        read_csv(tmp_path / "a.csv", COLUMNS, unique=COLUMNS[:2])


def test_a_field_may_be_longer_than_the_csv_module_allows(tmp_path):
    code = "1 2, " * 50_000
    write_csv(tmp_path / "a.csv", ("rle",), [(code,)])
    assert read_csv(tmp_path / "a.csv", ("rle",)) == [(2, {"rle": code})]


def test_every_text_file_is_opened_with_its_encoding():
    """Of paths and of open(): without a mode, with one of text, or with an encoding among the arguments."""
    package = Path(bonepipe.__file__).parent
    silent = []
    for path in find_files(package, (".py",)):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(node.func, "attr", getattr(node.func, "id", "")) if isinstance(node, ast.Call) else ""
            if name in ("open", "read_text", "write_text") and ast.unparse(node.func) not in (
                "os.open",
                "archive.open",
                "self._archive.open",
            ):
                words = [ast.unparse(argument) for argument in node.args]
                named = [key.arg for key in node.keywords]
                binary = name == "open" and any(word.endswith("b'") for word in words)
                if not binary and "encoding" not in named and not any("utf-8" in word for word in words):
                    silent.append(f"{path.relative_to(package)}:{node.lineno}")
    assert silent == []
