"""Submission and truth CSVs: reading, atomic writing, validity and score. Masks stay runs; pixels never appear."""

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from bonepipe.errors import BonepipeError, quoted
from bonepipe.files import write_csv
from bonepipe.labels import rle

COLUMNS = ("image_name", "class", "rle")
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
        with path.open(encoding="utf-8", newline="") as file:
            columns = _read_header(path, file)
            pick = itemgetter(*(columns.index(name) for name in COLUMNS))
            usage = columns.index(USAGE) if USAGE in columns else None
            for line, text in enumerate(file, 2):
                fields = _split(text)
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
    """Read a whole CSV; raises like `stream`."""
    path = Path(path)
    rows = list(stream(path))
    with path.open(encoding="utf-8", newline="") as file:
        return Table(path, _read_header(path, file), rows)


def write(path: str | Path, rows: Iterable[Sequence[str]]) -> int:
    """Write rows of (image name, class, text) one by one; the file appears whole or not at all.

    Returns:
        The number of rows.

    Raises:
        BonepipeError: the folder is missing or not writable.
    """
    path = Path(path)
    try:
        return write_csv(path, COLUMNS, rows)
    except OSError as error:
        raise BonepipeError(f"{path}: cannot be written ({error.strerror})") from error


def runs(path: Path, row: Row) -> rle.Runs:
    """Parse a row's runs; BonepipeError names the file and the line."""
    try:
        return rle.parse(row.rle)
    except ValueError as error:
        raise BonepipeError(f"{path}: line {row.line}: {row.image}, {row.label}: {error}") from error


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
    predicted, true = _by_key(prediction), _by_key(truth)
    missing = next((row for key, row in true.items() if key not in predicted), None)
    if missing:
        raise BonepipeError(
            f"{prediction.path}: no row for {missing.image}, {missing.label} (line {missing.line} of {truth.path})"
        )
    extra = next((row for key, row in predicted.items() if key not in true), None)
    if extra:
        raise BonepipeError(
            f"{prediction.path}: line {extra.line}: {extra.image}, {extra.label} is not in {truth.path}; remove the row"
        )
    return [rle.dice(runs(prediction.path, predicted[key]), runs(truth.path, row)) for key, row in true.items()]


def score_tables(prediction: Table, truth: Table) -> dict[str, Any]:
    """Score a prediction: mean Dice over the truth's images and classes.

    Returns:
        `dice`, `per_class` (name -> Dice, in the truth's order), and `public` and `private` where the truth's column
        Usage has such rows.

    Raises:
        BonepipeError: as `dice_rows`; a truth without rows.
    """
    if not truth.rows:
        raise BonepipeError(f"{truth.path}: no rows")
    scores = dice_rows(prediction, truth)
    result: dict[str, Any] = {"dice": math.fsum(scores) / len(scores)}
    result["per_class"] = _means(scores, (row.label for row in truth.rows))
    by_usage = _means(scores, (row.usage.strip().lower() for row in truth.rows))
    return result | {name: by_usage[name] for name in ("public", "private") if name in by_usage}


def _read_header(path: Path, file: TextIO) -> tuple[str, ...]:
    columns = tuple(_split(file.readline().removeprefix("\ufeff")))  # spreadsheets write a byte order mark
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        raise BonepipeError(
            f"{path}: no column {missing[0]!r}; the header is {','.join(columns)!r}, expected {','.join(COLUMNS)!r}"
        )
    return columns


def _split(text: str) -> list[str]:
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
            problems.append((row.line, f"{row.image}, {row.label} again, first at line {seen[row.key]}"))
            continue
        seen[row.key] = row.line
        if rank[row.key] < previous:
            problems.append((row.line, f"{row.image}, {row.label} out of order, belongs at line {rank[row.key] + 2}"))
        previous = rank[row.key]
    missing = (key for key in expected if key not in seen)
    return problems + [(rank[key] + 2, f"missing: {key[0]}, {key[1]} belongs here") for key in missing]


def _by_key(table: Table) -> dict[Key, Row]:
    rows: dict[Key, Row] = {}
    for row in table.rows:
        first = rows.setdefault(row.key, row)
        if first is not row:
            raise BonepipeError(
                f"{table.path}: line {row.line}: {row.image}, {row.label} again, first at line {first.line}"
            )
    return rows


def _means(scores: Sequence[float], names: Iterable[str]) -> dict[str, float]:
    groups: dict[str, list[float]] = {}
    for score, name in zip(scores, names, strict=True):
        groups.setdefault(name, []).append(score)
    return {name: math.fsum(values) / len(values) for name, values in groups.items()}
