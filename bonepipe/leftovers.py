"""Half-written files and folders: named by who writes them, so that those of killed processes are told and removed."""

import contextlib
import hashlib
import os
import re
import shutil
import socket
import time
from functools import cache
from pathlib import Path

ABANDONED = 24 * 3600  # s; whoever writes a file writes to it more often
_NAME = re.compile(r"\..+\.(?P<place>[0-9a-f]{8})-(?P<process>\d+)(\.[^.]+)?")


@cache
def _place() -> str:
    """Where process numbers mean what they mean here: the host and, in a container, its own numbering."""
    numbering = Path("/proc/self/ns/pid")
    with contextlib.suppress(OSError):
        return _mark(f"{socket.gethostname()} {numbering.readlink()}")
    return _mark(socket.gethostname())


def _mark(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def part_of(path: Path) -> Path:
    """The name beside `path` that this process writes to until all of it is there; it keeps the suffix."""
    return path.with_name(f".{path.stem}.{_place()}-{os.getpid()}{path.suffix}")


def sweep(folder: Path) -> list[Path]:
    """Remove the parts in a folder that nobody writes any more, and return them.

    Those of a process of this host that is gone; any others, on shared file systems and under a process number that was
    given away again, once nothing was written to them for a day. What cannot be removed stays.
    """
    gone = []
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            match = _NAME.fullmatch(entry.name)
            with contextlib.suppress(OSError):
                if match and (_is_dead(match) or time.time() - entry.stat(follow_symlinks=False).st_mtime > ABANDONED):
                    remove(Path(entry.path))
                    gone.append(Path(entry.path))
    return gone


def remove(path: Path) -> None:
    """Delete a file or a folder with all that is in it; nothing where there is none. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@cache
def sweep_once(folder: Path) -> None:
    """Sweep a folder, unless this process did so already: thousands of files may be written to it."""
    sweep(folder)


def _is_dead(match: re.Match[str]) -> bool:
    if match["place"] != _place() or os.name != "posix":
        return False
    try:
        os.kill(int(match["process"]), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # somebody else's, or no process number at all
        return False
    return False
