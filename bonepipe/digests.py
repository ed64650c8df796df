"""Digests of files' contents, cached: asking whether a thousand images are what they were costs milliseconds."""

import contextlib
import hashlib
import json
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Len
from typing_extensions import TypedDict

from bonepipe.disk import require_file
from bonepipe.errors import BonepipeError
from bonepipe.files import write_json
from bonepipe.forms import read_json
from bonepipe.parallel import cores

LENGTH = 24  # hexadecimal digits that are kept: 96 bits
UNSETTLED = 2_000_000_000  # ns; a file changed so lately may change again with the same times, and is not cached


class Cache(TypedDict):
    """Path of a file -> its state and its digest, and the digest of all that: what it says is believed."""

    digest: str
    files: dict[str, Annotated[list[int | str], Len(5, 5)]]


def digest(path: Path) -> str:
    """SHA-256 of a file's content, its first LENGTH hexadecimal digits.

    Raises:
        BonepipeError: the file cannot be read.
    """
    try:
        require_file(path)
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:LENGTH]
    except OSError as error:
        raise BonepipeError(f"{path}: cannot be read ({error.strerror})") from error


def combined(content: Any) -> str:
    """One digest of plain values: numbers, texts, lists and dictionaries."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:LENGTH]


def digests(paths: Iterable[Path], cache: Path) -> list[str]:
    """The digest of each file's content.

    It is taken from the cache where path, size, mtime, ctime and inode are those of last time: archives, `cp -p` and
    `rsync -t` keep size and mtime of other contents, but nothing sets a ctime back.

    Args:
        paths: of files.
        cache: a JSON file, made and brought up to date; a place that cannot be written costs only the time.

    Raises:
        BonepipeError: a file cannot be read.
    """
    known, files = _read(cache), list(paths)
    states = [_state(path) for path in files]
    names = [str(path.absolute()) for path in files]
    unknown = [number for number, name in enumerate(names) if known.get(name, [])[:-1] != states[number]]
    with ThreadPoolExecutor(cores()) as pool:  # hashing releases the interpreter
        fresh = dict(zip(unknown, pool.map(lambda number: digest(files[number]), unknown), strict=True))
    now = time.time_ns()
    settled = {names[k]: [*states[k], value] for k, value in fresh.items() if now - states[k][2] > UNSETTLED}
    if settled:
        with contextlib.suppress(OSError):
            cache.parent.mkdir(parents=True, exist_ok=True)
            content = {**_read(cache), **settled}
            write_json(cache, {"digest": combined(content), "files": content}, indent=None)
    return [fresh[k] if k in fresh else known[name][-1] for k, name in enumerate(names)]


def _state(path: Path) -> list[int]:
    """Size, mtime, ctime and inode."""
    try:
        stat = path.stat()
    except OSError as error:
        raise BonepipeError(f"{path}: cannot be read ({error.strerror})") from error
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _read(cache: Path) -> dict[str, list[Any]]:
    """What is known of files; nothing where the cache is missing or not as it was written."""
    try:
        content = read_json(cache, Cache, "all files are read again")
    except (OSError, BonepipeError):
        return {}
    return content["files"] if content["digest"] == combined(content["files"]) else {}
