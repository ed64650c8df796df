"""Files: found by what they are, read as tables that people edit, written whole or not at all."""

import contextlib
import csv
import io
import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any, TextIO

from bonepipe.disk import naming, require_file
from bonepipe.errors import BonepipeError, reason
from bonepipe.leftovers import part_of, remove, sweep_once

# A code of a large, ragged mask is longer than the csv module's limit, which holds for the whole process: every CSV is
# read with this module or after it. The largest number that a C long holds everywhere.
csv.field_size_limit(2**31 - 1)

LEFTOVERS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN")  # folders that archives and disks add, and file managers hide
HIDDEN, ABOVE = "a file manager hides it", "a link to a folder above it"
LARGEST_TABLE = 1 << 30  # bytes of a CSV that is read whole: run lengths of some 50,000 images of 29 classes
DELIMITERS = ",;\t"  # spreadsheets write semicolons where the decimal separator is a comma


def find_files(folder: Path, suffixes: Collection[str] | None = None) -> list[Path]:
    """The files below a folder that a person sees there, in sorted path order; none where there is no such folder.

    Symbolic links to folders and files are followed; one to a folder above it is not. A file or folder is hidden if its
    name begins with a dot or is one of LEFTOVERS.

    Args:
        suffixes: of files to find, in small letters; files have them in any case. None for all files.

    Raises:
        BonepipeError: a folder cannot be read.
    """
    return sorted(path for path, reason in _walk(folder, (), suffixes, deep=False) if not reason)


def file_suffix(path: PurePath) -> str:
    """A file's suffix in small letters; "" without one. The last number of a DICOM UID (`1.2.840.10008`) is none."""
    suffix = path.suffix.lower()
    return "" if suffix[1:].isdigit() else suffix


def file_stem(path: PurePath) -> str:
    """A file's name without its suffix, see `file_suffix`."""
    return path.stem if file_suffix(path) else path.name


def passed_over(folder: Path, suffixes: Collection[str]) -> list[tuple[Path, str]]:
    """The files with these suffixes that `find_files` leaves out, and links that it does not follow, with reasons."""
    return sorted((path, reason) for path, reason in _walk(folder, (), suffixes, deep=True) if reason)


def _walk(
    folder: Path, above: tuple[Path, ...], suffixes: Collection[str] | None, *, deep: bool, hidden: str = ""
) -> Iterator[tuple[Path, str]]:
    """Files below a folder, each with the reason why it is left out; `deep` looks into hidden folders."""
    above = (*above, folder.resolve())
    for path in _entries(folder):
        reason = HIDDEN if path.name.startswith(".") or path.name in LEFTOVERS else hidden
        if reason and not deep:
            continue
        if not path.is_dir():  # a link that leads nowhere is listed: whoever reads it says so
            if suffixes is None or file_suffix(path) in suffixes:
                yield path, reason
        elif path.is_symlink() and any(place.is_relative_to(path.resolve()) for place in above):
            yield path, ABOVE
        else:
            yield from _walk(path, above, suffixes, deep=deep, hidden=reason)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BonepipeError(f"{folder}: cannot be read ({error.strerror})") from error


def name_fault(path: Path) -> str | None:
    """Why a path cannot be written into CSV and JSON files and read back; None where it can."""
    if any(unicodedata.category(letter) == "Cc" for letter in str(path)):
        return "its path holds a line break or another control character; rename it"
    try:
        same = os.fsencode(path).decode("utf-8") == str(path)
    except UnicodeDecodeError:
        return "its path is not UTF-8 (CP949, perhaps); rename it"
    return None if same else "its path was not read as UTF-8; set PYTHONUTF8=1 before Python starts"


def require_writable_names(paths: Iterable[Path]) -> None:
    """Raise BonepipeError for a path that cannot be written into CSV and JSON files."""
    for path in paths:
        if fault := name_fault(path):
            raise BonepipeError(f"{printable(path)}: {fault}")


def printable(path: Path) -> str:
    """A path on one line, with escapes for what no text file can hold."""
    letters = str(path)
    return "".join(ascii(c)[1:-1] if unicodedata.category(c) in ("Cc", "Cs") else c for c in letters)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a name beside `path` to write to; it becomes `path` when the block ends well, and is removed otherwise.

    The suffix stays, as some writers choose the format by it. Two processes that write at once do not meet. What killed
    processes left half-written in the folder is removed, see `leftovers`.
    """
    with contextlib.suppress(FileNotFoundError):
        require_file(path)  # root would put a file in the place of a device
    sweep_once(path.parent)
    part = part_of(path)  # in the same folder: across devices is no move
    try:
        with naming(path, part):
            yield part
            part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """Yield a new folder beside `folder` to fill; it becomes `folder` when the block ends well, else it is removed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    sweep_once(folder.parent)
    part = part_of(folder)
    remove(part)  # what an earlier process of this number left
    part.mkdir()
    try:
        with naming(folder):
            yield part
            part.rename(folder)
    finally:
        with contextlib.suppress(OSError):
            remove(part)


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
    with naming(path), path.open("a", newline="", encoding="utf-8") as file:
        file.write(text.getvalue())


def normalised(name: str) -> str:
    r"""A column's name or a word as people mean it, whoever typed it.

    One form of composed letters, small ones, without blanks, line breaks and the escapes that spreadsheets write for
    control characters: `키\n(신장) ` and `키(신장)` are one, and so are `ID` and `id`.
    """
    text = unicodedata.normalize("NFKC", re.sub(r"_x[0-9a-fA-F]{4}_", "", name)).casefold()
    return "".join(letter for letter in text if unicodedata.category(letter)[0] not in "ZC")


def read_csv(
    path: Path, columns: Sequence[str], where: str = "", way_out: str = "", unique: Sequence[str] = ()
) -> list[tuple[int, dict[str, str]]]:
    """Line number and fields of each row that is not blank; what a short row lacks is empty.

    Args:
        path: UTF-8, with or without the byte-order mark that spreadsheets put first; the fields are parted by commas,
            or by semicolons or tabs where the header is.
        columns: that it must have; their names are compared as `normalised`.
        where: names the file in messages; its path unless told.
        way_out: added to the message where it cannot be read.
        unique: columns whose values together no two rows may share.

    Raises:
        BonepipeError: it cannot be read, has no such column or has it twice, a row is longer than the header, or two
            rows are about the same.
    """
    where = where or str(path)
    (_, names), *rows = read_rows(path, where, way_out) or [(1, [])]
    wanted = {normalised(column): column for column in columns}
    header = [wanted.get(normalised(name), name) for name in names]
    for column in columns:
        if column not in header:
            raise BonepipeError(f"{where}: no column {column!r}; expected {','.join(columns)}")
        if header.count(column) > 1:
            raise BonepipeError(f"{where}: column {column!r} is there twice")
    for line, fields in rows:
        if any(fields[len(header) :]):
            raise BonepipeError(f"{where}: line {line}: {len(fields)} fields where the header has {len(header)}")
    blank = dict.fromkeys(header, "")
    table = [(line, blank | dict(zip(header, fields, strict=False))) for line, fields in rows]
    _refuse_doubles(where, table, unique)
    return table


def _refuse_doubles(where: str, table: Iterable[tuple[int, dict[str, str]]], unique: Sequence[str]) -> None:
    lines: dict[tuple[str, ...], int] = {}
    for line, row in table:
        key = tuple(row[column] for column in unique)
        if key and (first := lines.setdefault(key, line)) != line:
            named = ", ".join(reason(part, 100) for part in key if part)
            raise BonepipeError(f"{where}: line {line}: {named} again, first at line {first}; remove one of them")


def read_rows(path: Path, where: str = "", way_out: str = "") -> list[tuple[int, list[str]]]:
    """Line number and fields of each row of a CSV that is not blank, the header's among them; see `read_csv`."""
    try:
        require_file(path, LARGEST_TABLE)
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter=_delimiter(file), strict=True)
            return [(reader.line_num, fields) for fields in reader if any(map(str.strip, fields))]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise BonepipeError(f"{where or path}: cannot be read ({reason}){way_out}") from error


def _delimiter(file: TextIO) -> str:
    """The delimiter that the first line holds most of; a comma where it holds none."""
    counts = Counter(file.readline())
    file.seek(0)
    return max(DELIMITERS, key=lambda delimiter: counts[delimiter])


def epoch_file(epoch: int | str) -> str:
    """Name of the file in a fold's folder with the weights of an epoch, counted from 1."""
    return f"epoch-{epoch}.safetensors"
