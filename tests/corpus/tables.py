"""Tables: metadata, folds, corrections, masks, pseudo-labels, submissions, answers; and how their text is written."""

import io
from functools import partial
from pathlib import Path

from bonepipe.data import submission
from corpus.case import Case, both, copied, cut, folder, gone, link, nothing, pipe, put, swap

MENDED, HEAD = "mended.csv", "image_name,class,action,value\n"
IMAGE = "scan004.png"
SCORE, VOTE, CHECK = "score sub.csv truth.csv", "vote sub.csv other.csv -o out.csv", "check sub.csv --data data"
FIRST = "scan012.png,Left Lung,"  # the first row of sub.csv begins so


def sheet(*rows):
    """A spreadsheet's bytes."""
    import pandas as pd

    file = io.BytesIO()
    pd.DataFrame(rows).to_excel(file, index=False, header=False)
    return file.getvalue()


def facts(title, content, *said, name="meta.xlsx"):
    """A case of the tables of patients, which the audit reads as the training does."""
    spoil = put(f"data/{name}", content() if callable(content) else content)
    return Case(title, spoil, "split data.metadata=meta.xlsx", (f"data/{name}", *said))


def mended(title, rows, *said):
    """A case of corrections."""
    content = rows if isinstance(rows, bytes) else HEAD + rows
    return Case(title, put(MENDED, content), f"doctor data.corrections={MENDED}", (MENDED, *said), 1, True)


def folds(title, spoil, *said):
    """A case of the fold file."""
    return Case(title, spoil, "split", ("folds.csv", *said))


def coded(title, code, *said, ask=SCORE):
    """A case of a run-length code in the first row of a submission."""

    def spoil():
        lines = Path("sub.csv").read_text(encoding="utf-8").splitlines()
        assert lines[1].startswith(FIRST)
        put("sub.csv", "\n".join([lines[0], FIRST + code, *lines[2:]]) + "\n")()

    return Case(title, spoil, ask, ("sub.csv: line 2: ", *said), 1, ask == CHECK)


def rows(change):
    """Other rows in sub.csv."""

    def spoil():
        lines = Path("sub.csv").read_text(encoding="utf-8").splitlines()
        put("sub.csv", "\n".join([lines[0], *change(lines[1:])]) + "\n")()

    return spoil


def answer(title, content, *said):
    """A case of the test set's truth, which is read before anything is trained for it."""
    ask = partial(submission.read_answer, Path("data/answer.csv"), {"scan012.png": (96, 120)}, ["Left Lung"])
    return Case(title, put("data/answer.csv", content), ask, ("data/answer.csv", *said))


def sure(title, rows_of, *said, audited=True):
    """A case of pseudo-labels."""
    text = "image_name,class,rle,ambiguous\n" + "".join(f"{row}\n" for row in rows_of)
    command = "doctor" if audited else "train fold=0"
    return Case(title, put("sure.csv", text), f"{command} data.pseudo=sure.csv", ("sure.csv", *said), 1, audited)


ALL = ("Left Lung", "Right Lung", "Cardiomediastinum", "Airways", "Ground Glass Opacities")


def whole(image="scan012.png", code="1 2", unsure=""):
    """Rows of all classes."""
    return [f"{image},{label},{code},{unsure}" for label in ALL]


CASES = [
    facts("no spreadsheet", "ID,age\n1,2\n", "cannot be read as a spreadsheet"),
    facts("an empty spreadsheet", "", "cannot be read as a spreadsheet"),
    facts("half a spreadsheet", lambda: sheet(["ID", "age"], [1, 2])[:2000], "cannot be read as a spreadsheet"),
    facts("an archive of nothing", b"PK\5\6" + bytes(18), "cannot be read as a spreadsheet"),
    facts("no ID", lambda: sheet(["patient", "age"], [1, 2]), "no column 'ID'"),
    facts("a column twice", lambda: sheet(["ID", "age", "나이"], [1, 2, 3]), "column '나이' is there twice"),
    facts("an ID that is no number", lambda: sheet(["ID", "age"], ["x", 2]), "row 2, column ID: 'x' is not a whole"),
    facts("half an ID", lambda: sheet(["ID"], [1.5]), "row 2, column ID: 1.5 is not a whole number"),
    facts("an ID twice", lambda: sheet(["ID"], [1], ["ID001"]), "row 3, column ID: ID001 again, first in row 2"),
    facts("an empty list of wrists", "", "no column 'patient'", name="rotated.csv"),
    facts("wrists in columns", "a,b\n1,2\n", "no column 'patient'", name="rotated.csv"),
    facts("wrists in another code", "환자\n".encode("cp949"), "cannot be read ('utf-8'", name="rotated.csv"),
    Case("a pipe for a spreadsheet", pipe("data/meta.xlsx"), "split data.metadata=meta.xlsx", ("meta.xlsx", "a pipe")),
    Case("a spreadsheet elsewhere", link("data/meta.xlsx", "x"), "split data.metadata=meta.xlsx", ("No such file",)),
    mended("nothing at all", b"", "no column 'image_name'"),
    mended("other columns", b"image_name,class\n", "no column 'action'"),
    mended("a column twice", b"image_name,class,action,value,Class\n", "column 'class' is there twice"),
    mended("no such image", f"scan99.png,,drop,\n{IMAGE},,drop,\n", "line 2: column image_name: 'scan99.png' is not"),
    mended("no such class", f"{IMAGE},Left Long,drop,\n", "unknown class 'Left Long'; did you mean 'Left Lung'"),
    mended("no such action", f"{IMAGE},Left Lung,erase,\n", "column action: 'erase' is not one of drop, permute"),
    mended("no permutation", f"{IMAGE},Left Lung,permute,Right Lung\n", "are no permutation; see Left Lung"),
    mended("no code", f"{IMAGE},Left Lung,replace,a b\n", "column value: run 1: 'a' is not an integer"),
    mended("beyond the image", f"{IMAGE},Left Lung,replace,1 99999\n", "ends at pixel 99999, beyond the image's 11520"),
    mended("dropped and replaced", f"{IMAGE},Left Lung,drop,\n{IMAGE},Left Lung,replace,1 2\n", "both dropped and"),
    mended("a row twice", f"{IMAGE},,drop,\n{IMAGE},,drop,\n", "line 3: scan004.png, drop again, first at line 2"),
    mended("a row too long", f"{IMAGE},,drop,,,7\n", "line 2: 6 fields where the header has 4"),
    mended("another code of text", (HEAD + f"{IMAGE},왼쪽,drop,\n").encode("cp949"), "cannot be read ('utf-8'"),
    mended("two bytes a letter", (HEAD + f"{IMAGE},,drop,\n").encode("utf-16"), "cannot be read ('utf-8'"),
    mended("an open quote", f'{IMAGE},"Left Lung,drop,\n', "cannot be read (unexpected end of data)"),
    mended("a line break in a name", HEAD.encode() + b'"scan\n.png",,drop,\n', "'scan\\n.png' is not in the dataset"),
    mended("no image is left", "".join(f"scan{n:03d}.png,,drop,\n" for n in range(12)), "drops every image"),
    Case("no corrections", nothing, "train fold=0 data.corrections=no.csv", ("data.corrections=no.csv: no such",)),
    Case("a folder of corrections", folder(MENDED), f"train fold=0 data.corrections={MENDED}", (MENDED, "no such")),
    folds("no such column", swap("folds.csv", "fold\n", "split\n"), "no column 'fold'"),
    folds("nothing at all", put("folds.csv"), "no column 'image_name'"),
    folds("no rows", put("folds.csv", "image_name,patient,fold\n"), "no rows; `bonepipe split` writes them"),
    folds("a patient in two", swap("folds.csv", f"{IMAGE},case02,", f"{IMAGE},case02,1,"), "fields where the header"),
    folds("a fold of no number", swap("folds.csv", f"{IMAGE},case02,", f"{IMAGE},case02,a"), "is not one of 0..4"),
    folds("an image that is not there", swap("folds.csv", IMAGE, "scan99.png"), "scan004.png is missing (1 images"),
    folds("an image twice", swap("folds.csv", "scan005.png", IMAGE), "scan004.png is listed twice"),
    folds("two bytes a letter", put("folds.csv", "image_name,patient,fold\n".encode("utf-16")), "cannot be read"),
    folds("a folder", folder("folds.csv"), "cannot be read (Is a directory)"),
    folds("a pipe", pipe("folds.csv"), "cannot be read (a pipe"),
    folds("a broken rule", put("folds.json", "{"), "delete it to take folds.csv as it is"),
    folds("a rule of another kind", put("folds.json", "[1]"), "delete it to take folds.csv as it is"),
    folds("another rule", swap("folds.json", '"group"', '"kfold"'), "was made with folds.kind='kfold' and not 'group'"),
    coded("a start alone", "3", "3", "has no length"),
    coded("letters", "a 3", "run 1: 'a' is not an integer"),
    coded("halves", "1.5 3", "run 1: '1.5' is not an integer"),
    coded("no pixel", "3 0", "run 1: length 0 is below 1"),
    coded("before the image", "0 3", "run 1: start 0 is below 1"),
    coded("less than nothing", "5 -3", "run 1: length -3 is below 1"),
    coded("no order", "9 2 3 2", "run 2: start 3 starts before the run before it"),
    coded("over one another", "3 4 5 2", "run 2: start 5 overlaps the run before it"),
    coded("a million million pixels", "1 1000000000000", "no image has a pixel 1000000000000; 1073741824 are the most"),
    coded("more than a number holds", f"1 {10**30}", "run 1"),
    coded("a million million, voted on", "1 1000000000000", "no image has a pixel 10000", ask=VOTE),
    coded("beyond the image", "1 99999", "rle: run 1: ends at pixel 99999, beyond the image's", ask=CHECK),
    coded("commas", '"1,3"', "run 1: '1,3' is not an integer"),
    Case("no submission", gone("sub.csv"), SCORE, ("sub.csv: cannot be read (No such file",)),
    Case("a folder", folder("sub.csv"), SCORE, ("sub.csv: cannot be read (Is a directory)",)),
    Case("a pipe", pipe("sub.csv"), VOTE, ("sub.csv: cannot be read (a pipe",)),
    Case("nothing at all", put("sub.csv"), SCORE, ("sub.csv: no column 'image_name'",)),
    Case("other columns", swap("sub.csv", "rle", "mask"), SCORE, ("sub.csv: no column 'rle'; the header is",)),
    Case("two bytes a letter", put("sub.csv", "image_name,class,rle\n".encode("utf-16")), SCORE, ("is not UTF-8",)),
    Case("zeros", put("sub.csv", bytes(3000)), CHECK, ("sub.csv: no column 'image_name'",)),
    Case("a field too many", rows(lambda r: [r[0] + ",7", *r[1:]]), SCORE, ("line 2: 4 fields where",)),
    Case("a field too few", rows(lambda r: ["scan012.png", *r[1:]]), SCORE, ("line 2: 1 fields where the header",)),
    Case("a row twice", rows(lambda r: [r[0], *r]), SCORE, ("sub.csv: line 3: scan012.png, Left Lung again",)),
    Case("a row missing", rows(lambda r: r[1:]), SCORE, ("sub.csv: no row for scan012.png, Left Lung",)),
    Case("a row beside", rows(lambda r: ["x.png,Left Lung,", *r]), SCORE, ("truth.csv: no row for x.png, Left Lung",)),
    Case("no truth", put("truth.csv", "image_name,class,rle\n"), SCORE, ("truth.csv: no row",)),
    Case("an unknown image", rows(lambda r: ["x.png,Left Lung,", *r]), CHECK, ("unknown image 'x.png'",), 1, True),
    Case("a name of a million letters", rows(lambda r: ["x" * 10**6 + ",Left Lung,", *r]), SCORE, ("truth.csv",)),
    Case("an unknown class", swap("sub.csv", "Airways", "Airway"), CHECK, ("unknown class 'Airway'",), 1, True),
    Case("another order", rows(lambda r: r[::-1]), CHECK, ("line 3: ", "out of order, belongs at line"), 1, True),
    Case("half of it", cut("sub.csv"), CHECK, ("missing: scan01",), 1, True),
    Case("further columns", copied("truth.csv", "sub.csv"), CHECK, ("line 1: columns are", "expected"), 1, True),
    Case("no test set", nothing, "check sub.csv --data nowhere", ("data.root: no folder 'nowhere'",)),
    Case("no such classes", nothing, f"{CHECK} --classes lungs", ("--classes lungs: no file",), 2),
    Case("a vote of one", nothing, "vote sub.csv -o out.csv", ("a vote needs two files or more",), 2),
    Case("two rows of different images", both(copied("sub.csv", "other.csv"), rows(lambda r: r[1:])), VOTE, (
        "other.csv: line 2: scan012.png, Left Lung where sub.csv has scan012.png, Right Lung",)),
    Case("a vote of a shorter one", both(copied("sub.csv", "other.csv"), rows(lambda r: r[:-1])), VOTE, (
        "sub.csv: ends before",)),
    Case("weights of words", nothing, f"{VOTE} --weights a,b", ("--weights a,b: expected numbers",), 2),
    Case("a weight too many", nothing, f"{VOTE} --weights 1,2,3", ("--weights 1,2,3: 3 weights for 2 files",), 2),
    Case("weights that are no numbers", nothing, f"{VOTE} --weights nan,1", ("must be finite, not negative",), 2),
    Case("more votes than there are", nothing, f"{VOTE} --min-votes 3", ("--min-votes 3: must be above 0",), 2),
    Case("no votes", nothing, f"{VOTE} --min-votes 0", ("--min-votes 0: must be above 0",), 2),
    Case("a file that does not vote", nothing, f"{VOTE} --only Airways=a.csv", ("a.csv is not among the files",), 2),
    Case("a class that nobody has", nothing, f"{VOTE} --only Airway=sub.csv", ("no class 'Airway'; did",), 2),
    Case("no folder to write to", nothing, "vote sub.csv sub.csv -o no/out.csv", ("no/out.csv: No such file",)),
    answer("no answer to it", "image_name,class,rle\na.png,b,\n", "has no row of this test set's images and classes"),
    answer("no table", "hello", "no column 'image_name'"),
    answer("beyond the image", f"image_name,class,rle\n{FIRST}1 99999\n", "line 2", "beyond the image's 11520 pixels"),
    answer("twice", f"image_name,class,rle\n{FIRST}\n{FIRST}\n", "line 3", "again, first at line 2"),
    Case("an answer's folder", folder("data/answer.csv"), "submit", ("data/answer.csv: is a folder", "move it away")),
    Case("an answer beyond the image", swap("data/answer.csv", FIRST, f"{FIRST}1 99999 "), "doctor", (
        "data/answer.csv: line 2: scan012.png, Left Lung: run", ), 1, True),
    Case("no pseudo-labels", nothing, "train fold=0 data.pseudo=no.csv", ("data.pseudo", "no.csv")),
    sure("a class is missing", whole()[1:], "scan012.png has no row of Left Lung"),
    sure("an unknown class", [*whole(), "scan012.png,Long,,"], "line 7: unknown class 'Long'"),
    sure("no code", whole(code="1"), "line 2: column rle: "),
    sure("no ambiguous code", whole(unsure="x y"), "line 2: column ambiguous: run 1: 'x' is not an integer"),
    sure("pixels beyond the image", whole(code="1 99999"), "scan012.png, class 0: run 1: ends at pixel 99999, beyond"),
    sure("no test image", whole("scan001.png"), "scan001.png is not a test image of data", audited=False),
    sure("a row twice", [*whole(), *whole()[:1]], "line 7: scan012.png, Left Lung again, first at line 2"),
    Case("masks of no image", put("masks.csv", "image_name,class,rle\n"), "doctor data.masks=masks.csv", (
        "masks.csv", "no row of scan000.png, Left Lung; an empty mask has an empty code"), 1, True),
    Case("masks of no class", put("masks.csv", "image_name,class,rle\na,b,\n"), "doctor data.masks=masks.csv", (
        "masks.csv", "unknown class 'b'"), 1, True),
]  # fmt: skip
