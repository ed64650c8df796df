"""Stand between a process and its files: note each operation, or end the process at one of them.

Python tells a hook of every file that it opens, renames, removes and so on before it does so (PEP 578). A process
cannot take its hook off again, so each of these is for one that is about to end.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

OPERATIONS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "os.link", "os.symlink")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
HALVES = ("os.rename", "append")  # before which a file may be half written


def watch(folder: Path, see: Callable[[str, str], None]) -> None:
    """From now on tell `see` of this process's operations that change files below a folder, before they happen."""
    owner, inside, busy = os.getpid(), str(folder.resolve()) + os.sep, False

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal busy
        if busy or not _is_change(event, arguments) or os.getpid() != owner:
            return
        path = os.path.abspath(os.fsdecode(arguments[0]))  # noqa: PTH100 - resolving would look at the disk
        if path.startswith(inside):
            busy = True
            see("append" if event == "open" and arguments[2] & os.O_APPEND else event, path)
            busy = False

    sys.addaudithook(hook)


def _is_change(event: str, arguments: tuple[Any, ...]) -> bool:
    if event == "open":
        return not isinstance(arguments[0], int) and bool(arguments[2] & WRITING)
    return event in OPERATIONS and not isinstance(arguments[0], int)


def note(folder: Path, journal: Path) -> None:
    """Write a line for each operation: what it is and, below the folder, on what."""
    lines = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    inside = str(folder.resolve()) + os.sep
    watch(folder, lambda event, path: os.write(lines, f"{event} {path.removeprefix(inside)}\n".encode()) and None)


def kill_at(number: int, folder: Path, *, half: bool) -> None:
    """End this process and its children by SIGKILL at the n-th operation, counted from 0.

    Args:
        number: of the operation.
        folder: below which operations count.
        half: leave half of the file that is about to take its place, or a part of the last line of the one that is
            about to be added to, as a kill while it was written does.
    """
    left = number

    def see(event: str, path: str) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            return
        if half and event in HALVES and Path(path).is_file():
            size = Path(path).stat().st_size
            os.truncate(path, size // 2 if event == "os.rename" else max(0, size - 5))
        os.killpg(os.getpgid(0), signal.SIGKILL)

    watch(folder, see)
