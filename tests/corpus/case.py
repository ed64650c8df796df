"""What a case is, and how files are broken."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


class Case(NamedTuple):
    """A bad input.

    Attributes:
        title: what is wrong.
        spoil: breaks the place, which is the working folder.
        ask: the command's words, parted by blanks; or a function that must raise BonepipeError.
        said: parts of the message, which name the file and the field, or the way out.
        code: the command's exit code.
        printed: whether the command reports on its output, as `doctor` and `check` do, and not by a message.
    """

    title: str
    spoil: Callable[[], Any]
    ask: str | Callable[[], Any]
    said: tuple[str, ...]
    code: int = 1
    printed: bool = False


def nothing():
    """Nothing is broken: the request is."""


def put(path, content=""):
    """A file of this content, whatever was there."""

    def spoil():
        clear(path)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(content if isinstance(content, bytes) else content.encode())

    return spoil


def swap(path, old, new, times=1):
    """Other words in a text file, which may be a link to one that others share."""

    def spoil():
        text = Path(path).read_text(encoding="utf-8")
        assert old in text, f"{path} has no {old!r}"
        put(path, text.replace(old, new, times))()

    return spoil


def cut(path, share=0.5):
    """The beginning of a file, as of an interrupted copy."""

    def spoil():
        content = Path(path).read_bytes()
        put(path, content[: int(len(content) * share)])()

    return spoil


def flip(path, place=0.5):
    """Four other bytes somewhere in a file."""

    def spoil():
        content = bytearray(Path(path).read_bytes())
        start = int(len(content) * place)
        content[start : start + 4] = bytes(255 - byte for byte in content[start : start + 4])
        put(path, bytes(content))()

    return spoil


def gone(path):
    """No such file or folder."""
    return lambda: clear(path)


def moved(path, target):
    """Elsewhere."""

    def spoil():
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        Path(path).rename(target)

    return spoil


def copied(path, target):
    """A copy elsewhere."""

    def spoil():
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)

    return spoil


def folder(path):
    """A folder in the place of a file."""

    def spoil():
        clear(path)
        Path(path).mkdir(parents=True)

    return spoil


def pipe(path):
    """A pipe in the place of a file."""

    def spoil():
        clear(path)
        os.mkfifo(path)

    return spoil


def link(path, target):
    """A link in the place of a file."""

    def spoil():
        clear(path)
        Path(path).symlink_to(target)

    return spoil


def both(*spoils):
    """Several things at once."""

    def spoil():
        for one in spoils:
            one()

    return spoil


def clear(path):
    """Remove whatever is there."""
    path = Path(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
