"""Files that appear whole or not at all, whatever interrupts the writing."""

import contextlib
import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bonepipe.errors import BonepipeError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a name beside `path` to write to; it becomes `path` when the block ends well, and is removed otherwise.

    The suffix stays, as some writers choose the format by it. Two processes that write at once do not meet.
    """
    part = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")  # the same folder: across devices is no move
    try:
        yield part
        part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def write_json(path: Path, content: Any, indent: int | None = 2) -> None:
    """Write JSON, whole; without an indent it is one line."""
    with replacing(path) as part:
        part.write_text(json.dumps(content, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Iterable[Any]]) -> int:
    """Write a header and rows as UTF-8, whole; returns the number of rows."""
    with replacing(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(header)
        return sum(1 for row in rows if table.writerow(row))


def append_csv(path: Path, rows: Iterable[Iterable[Any]]) -> None:
    """Add rows to a CSV of `write_csv`, in one piece."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    with path.open("a", newline="", encoding="utf-8") as file:
        file.write(text.getvalue())


def read_csv(
    path: Path, columns: Sequence[str], where: str = "", way_out: str = ""
) -> list[tuple[int, dict[str, str]]]:
    """Line number and fields of each row; what a short row lacks is empty.

    Args:
        path: UTF-8, with or without the byte-order mark that spreadsheets put first.
        columns: that it must have.
        where: names the file in messages; its path unless told.
        way_out: added to the message where it cannot be read.

    Raises:
        BonepipeError: it cannot be read, or has no such column.
    """
    where = where or str(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            csv.field_size_limit(1 << 24)  # a code of a large, ragged mask is longer than the default limit
            reader = csv.DictReader(file, restval="")
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BonepipeError(f"{where}: cannot be read ({error}){way_out}") from error
    if lacking := [column for column in columns if column not in (reader.fieldnames or ())]:
        raise BonepipeError(f"{where}: no column {lacking[0]!r}; expected {','.join(columns)}")
    return rows


def epoch_file(epoch: int | str) -> str:
    """Name of the file in a fold's folder with the weights of an epoch, counted from 1."""
    return f"epoch-{epoch}.safetensors"
