"""Submission and truth CSVs: reading, atomic writing, validity and score. Masks stay runs; pixels never appear."""

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from bonepipe.disk import require_file
from bonepipe.errors import BonepipeError, quoted, reason
from bonepipe.files import LARGEST_TABLE, write_csv
from bonepipe.labels import rle
from bonepipe.labels.dice import iou_of_dice

COLUMNS = ("image_name", "class", "rle")
ANSWER = "answer.csv"  # below a dataset's root: the truth of its test set
LONGEST_LINE = 1 << 26  # letters: some four million runs, which no mask has but noise
USAGE = "Usage"

Key = tuple[str, str]  # image name, class name


class Row(NamedTuple):
    """One mask. `line` counts the file's lines from 1, the header's; an empty mask has the empty text."""

    line: int
    image: str
    label: str
    rle: str
    usage: str = ""

    @property
    def title(self) -> str:
        """Image and class as messages name them."""
        return f"{reason(self.image, 100)}, {reason(self.label, 100)}"

    @property
    def key(self) -> Key:
        """Image and class."""
        return self.image, self.label


class Table(NamedTuple):
    """A CSV in memory."""

    path: Path
    columns: tuple[str, ...]
    rows: list[Row]


def stream(path: str | Path) -> Iterator[Row]:
    """Read a CSV row by row, so that many large files fit in memory at once.

    Raises:
        BonepipeError: the file is missing or no UTF-8 text, lacks a column, or a line has another number of fields.
    """
    path = Path(path)
    try:
        require_file(path)
        with path.open(encoding="utf-8", newline="") as file:
            columns = _read_header(path, file)
            pick = itemgetter(*(columns.index(name) for name in COLUMNS))
            usage = columns.index(USAGE) if USAGE in columns else None
            for line, text in enumerate(_lines(path, file), 2):
                fields = split(text)
                if fields == [""]:
                    continue
                if len(fields) != len(columns):
                    raise BonepipeError(
                        f"{path}: line {line}: {len(fields)} fields where the header has {len(columns)}"
                    )
                image, label, runs_text = pick(fields)
                yield Row(line, image, label, runs_text, "" if usage is None else fields[usage])
    except OSError as error:
        raise BonepipeError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise BonepipeError(f"{path}: is not UTF-8 text; save it as a UTF-8 CSV") from error


def read(path: str | Path) -> Table:
    """Read a whole CSV; raises like `stream`, and where it is too large for that."""
    path = Path(path)
    try:
        require_file(path, LARGEST_TABLE)
    except OSError as error:
        raise BonepipeError(f"{path}: cannot be read ({error.strerror})") from error
    rows = list(stream(path))
    with path.open(encoding="utf-8", newline="") as file:
        return Table(path, _read_header(path, file), rows)


def write(path: str | Path, rows: Iterable[Sequence[str]]) -> int:
    """Write rows of (image name, class, text) one by one; the file appears whole or not at all.

    Returns:
        The number of rows.

    Raises:
        OSError: the folder is missing or not writable; names the file.
    """
    return write_csv(Path(path), COLUMNS, rows)


def runs(path: Path, row: Row, shape: tuple[int, int] | None = None) -> rle.Runs:
    """Parse a row's runs, of an image of this height and width if that is known; BonepipeError names file and line."""
    try:
        parsed = rle.parse(row.rle)
        rle.check(parsed, None if shape is None else math.prod(shape))
        return parsed
    except ValueError as error:
        raise BonepipeError(f"{path}: line {row.line}: {row.title}: {error}") from error


def faults(table: Table, images: Mapping[str, tuple[int, int]], classes: Sequence[str]) -> list[str]:
    """Find all that makes a CSV invalid for a test set, by line: "line 7: unknown class 'finger-20'".

    Args:
        images: height and width in pixels by image name, in the order of the submission.
        classes: class names in the order of the submission.
    """
    problems = []
    if table.columns != COLUMNS:
        problems.append((1, f"columns are {','.join(table.columns)}; expected {','.join(COLUMNS)}"))
    known = set(classes)
    for row in table.rows:
        problems += [(row.line, text) for text in _row_faults(row, images, known)]
    problems += _order_faults(table.rows, list(product(images, classes)))
    return [f"line {line}: {text}" for line, text in sorted(problems, key=itemgetter(0))]


def dice_rows(prediction: Table, truth: Table) -> list[float]:
    """Compute the Dice of each of the truth's rows, in its order.

    Raises:
        BonepipeError: the tables hold different images or classes, a row twice, or bad runs.
    """
    return [rle.dice(*pair) for pair in _pairs(prediction, truth)]


def score_tables(prediction: Table, truth: Table) -> dict[str, Any]:
    """Score a prediction: mean Dice, mean IoU and pixel accuracy over the truth's images and classes.

    Classes may overlap, so each is a binary mask of its own. IoU is |A and B| / |A or B|, with the metric's smoothing
    (two empty masks have 1), and `miou` its mean over images and classes. `pixel_accuracy` asks for whole pixels: of
    those that any class covers in the truth or in the prediction, the share whose set of classes is right, averaged
    over the images; 1 for an image where nothing is covered. Background that both agree on counts nowhere: it would
    hide all else.

    Returns:
        `dice`, `miou`, `pixel_accuracy`, `per_class` (name -> Dice, in the truth's order), and `public` and `private`
        (Dice) where the truth's column Usage has such rows.

    Raises:
        BonepipeError: as `dice_rows`; a truth without rows.
    """
    if not truth.rows:
        raise BonepipeError(f"{truth.path}: no rows")
    pairs = _pairs(prediction, truth)
    scores = [rle.dice(*pair) for pair in pairs]
    images: dict[str, list[tuple[rle.Runs, rle.Runs]]] = {}
    for row, pair in zip(truth.rows, pairs, strict=True):
        images.setdefault(row.image, []).append(pair)
    result: dict[str, Any] = {
        "dice": math.fsum(scores) / len(scores),
        "miou": math.fsum(map(iou_of_dice, scores)) / len(scores),
        "pixel_accuracy": math.fsum(rle.pixel_accuracy(*zip(*of, strict=True)) for of in images.values()) / len(images),
    }
    result["per_class"] = _means(scores, (row.label for row in truth.rows))
    by_usage = _means(scores, (row.usage.strip().lower() for row in truth.rows))
    return result | {name: by_usage[name] for name in ("public", "private") if name in by_usage}


def _pairs(prediction: Table, truth: Table) -> list[tuple[rle.Runs, rle.Runs]]:
    """The predicted and the true runs of each of the truth's rows; raises as `dice_rows`."""
    predicted, true = _by_key(prediction), _by_key(truth)
    if missing := next((row for key, row in true.items() if key not in predicted), None):
        raise BonepipeError(f"{prediction.path}: no row for {missing.title} (line {missing.line} of {truth.path})")
    if extra := next((row for key, row in predicted.items() if key not in true), None):
        raise BonepipeError(
            f"{truth.path}: no row for {extra.title} (line {extra.line} of {prediction.path}), so the "
            "truth is incomplete or of another test set; add its rows (an empty mask has a row with an empty rle)"
        )
    return [(runs(prediction.path, predicted[key]), runs(truth.path, row)) for key, row in true.items()]


class Answer(NamedTuple):
    """What is known of a test set: rows of its images and classes, and what is odd about them, in words."""

    table: Table
    warnings: list[str]


def read_answer(path: Path, images: Mapping[str, tuple[int, int]], classes: Sequence[str]) -> Answer:
    """Read the truth of a test set, as far as it is there.

    Args:
        path: of the file.
        images: height and width in pixels by image name.
        classes: class names.

    Raises:
        BonepipeError: it is no CSV of masks, has a row twice or runs beyond its image, or no row of the test set.
    """
    if path.is_dir():
        raise BonepipeError(f"{path}: is a folder, not the CSV of the test set's true masks; move it away")
    table = read(path)
    rows, expected = _by_key(table), list(product(images, classes))
    known = {key: rows[key] for key in expected if key in rows}
    if not known:
        first = next((f", such as {', '.join(key)}" for key in rows), "")
        what = f"has no row of this test set's images and classes ({len(rows)} rows{first})"
        raise BonepipeError(f"{path}: {what}; mend it, or move it away")
    for row in known.values():
        runs(path, row, images[row.image])
    kept = [row for row in table.rows if row.key in known]
    return Answer(table._replace(rows=kept), list(_oddities(path, [*rows], [*known], expected)))


def _oddities(path: Path, rows: Sequence[Key], known: Sequence[Key], expected: Sequence[Key]) -> Iterator[str]:
    """What an answer lacks, and what of it belongs to no test image."""
    if len(known) < len(expected):
        lacking = next(key for key in expected if key not in set(known))
        many = f"{len(expected) - len(known)} of {len(expected)} masks"
        yield f"{path}: lacks {many} ({', '.join(lacking)} first); the test scores will be those of the others"
    if len(known) < len(rows):
        strange = next(key for key in rows if key not in set(known))
        beside = len(rows) - len(known)
        yield f"{path}: {beside} rows are of no test image or class ({', '.join(strange)} first); left out"


def restricted(table: Table, truth: Table) -> Table:
    """The rows of a table that a truth knows."""
    known = {row.key for row in truth.rows}
    return table._replace(rows=[row for row in table.rows if row.key in known])


def _lines(path: Path, file: TextIO) -> Iterator[str]:
    """Lines with their ends; one that would fill the memory is refused."""
    while text := file.readline(LONGEST_LINE + 1):
        if len(text) > LONGEST_LINE:
            raise BonepipeError(f"{path}: a line has more than {LONGEST_LINE} letters, so it is no CSV of masks")
        yield text


def _read_header(path: Path, file: TextIO) -> tuple[str, ...]:
    columns = tuple(split(next(_lines(path, file), "").removeprefix("\ufeff")))  # spreadsheets write a byte order mark
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        raise BonepipeError(
            f"{path}: no column {missing[0]!r}; the header is {quoted(','.join(columns), 300)}, "
            f"expected {','.join(COLUMNS)!r}"
        )
    return columns


def split(text: str) -> list[str]:
    """Fields of a line; splitting is five times as fast as the csv module, which only quotes need."""
    text = text.rstrip("\r\n")
    return text.split(",") if '"' not in text else next(csv.reader([text]))


def _row_faults(row: Row, images: Mapping[str, tuple[int, int]], classes: set[str]) -> Iterator[str]:
    if row.image not in images:
        yield f"unknown image {quoted(row.image)}"
    if row.label not in classes:
        yield f"unknown class {quoted(row.label)}"
    try:
        parsed = rle.parse(row.rle)
        rle.check(parsed, math.prod(images[row.image]) if row.image in images else None)
    except ValueError as error:
        yield f"rle: {error}"


def _order_faults(rows: Sequence[Row], expected: Sequence[Key]) -> list[tuple[int, str]]:
    """Find rows that are twice there, out of order or missing; unknown images and classes are told elsewhere."""
    rank = {key: number for number, key in enumerate(expected)}
    seen: dict[Key, int] = {}
    problems, previous = [], -1
    for row in rows:
        if row.key not in rank:
            continue
        if row.key in seen:
            problems.append((row.line, f"{row.title} again, first at line {seen[row.key]}"))
            continue
        seen[row.key] = row.line
        if rank[row.key] < previous:
            problems.append((row.line, f"{row.title} out of order, belongs at line {rank[row.key] + 2}"))
        previous = rank[row.key]
    missing = (key for key in expected if key not in seen)
    return problems + [(rank[key] + 2, f"missing: {key[0]}, {key[1]} belongs here") for key in missing]


def _by_key(table: Table) -> dict[Key, Row]:
    rows: dict[Key, Row] = {}
    for row in table.rows:
        first = rows.setdefault(row.key, row)
        if first is not row:
            raise BonepipeError(f"{table.path}: line {row.line}: {row.title} again, first at line {first.line}")
    return rows


def _means(scores: Sequence[float], names: Iterable[str]) -> dict[str, float]:
    groups: dict[str, list[float]] = {}
    for score, name in zip(scores, names, strict=True):
        groups.setdefault(name, []).append(score)
    return {name: math.fsum(values) / len(values) for name, values in groups.items()}
