"""What a disk or its owner refuses: told with the file, the cause and the way out, whatever library met it."""

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from bonepipe.errors import BonepipeError

ELSEWHERE = "or write to another place (runs=..., -o ...); what is finished is kept"
WAYS_OUT = {  # of what a disk or its owner refuses
    errno.ENOSPC: f"free some space on this disk, {ELSEWHERE}",
    errno.EDQUOT: f"your share of this disk is used up: free some of it, {ELSEWHERE}",
    errno.EFBIG: f"a limit on the size of files is reached (`ulimit -f` shows it): raise it, {ELSEWHERE}",
    errno.EROFS: f"this disk can only be read: mount it for writing, {ELSEWHERE}",
    errno.EACCES: f"you may not: change its owner or mode (`ls -ld` shows them), {ELSEWHERE}",
    errno.EPERM: f"you may not: change its owner or mode (`ls -ld` shows them), {ELSEWHERE}",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOTDIR: "a file is in the way where a folder is needed: move it away, or write to another place",
    errno.EEXIST: "a file is in the way where a folder is needed: move it away, or write to another place",
    errno.EISDIR: "a folder, where a file is needed: name a file, or move the folder away",
    errno.ELOOP: "a link leads back to itself: remove it",
    errno.EMFILE: "too many files are open: raise the limit (`ulimit -n 4096`), or lower the number of workers",
    errno.EIO: f"the disk fails: look into the system's log, {ELSEWHERE}",
    errno.ESTALE: f"the network's file server no longer knows it: mount it anew, {ELSEWHERE}",
}


def disk_fault(error: BaseException) -> OSError | None:
    """What a disk or its owner refused, if that is behind an error: libraries wrap it, or leave only its number."""
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, OSError) and behind.errno in WAYS_OUT:
            return behind
        number = re.search(r"\(os error (\d+)\)", str(behind))  # of a library in Rust, such as safetensors
        if number and int(number[1]) in WAYS_OUT:
            return OSError(int(number[1]), os.strerror(int(number[1])))
        behind = behind.__cause__ or behind.__context__
    return None


def refusal(error: Exception) -> str | None:
    """What to tell of a disk that refuses a file; None for a bug, and for what may be of the output."""
    fault = error if isinstance(error, OSError) else disk_fault(error)
    if fault is None or (fault is error and fault.filename is None):
        return None
    return told(fault)


def told(error: OSError) -> str:
    """An error of the operating system in one line: file, cause and way out."""
    return cause(error) if error.filename is None else f"{error.filename}: {cause(error)}"


def cause(error: OSError) -> str:
    """The cause and the way out alone."""
    way_out = WAYS_OUT.get(error.errno or 0)
    return f"{error.strerror or error}{f'; {way_out}' if way_out else ''}"


def require_file(path: Path, most: int | None = None, raised: str = "") -> None:
    """Refuse what is there and is no file: a pipe would be waited for, and a device may never end.

    Args:
        path: of the file.
        most: bytes that it may have; None for any number.
        raised: how the user raises that number, for the message.

    Raises:
        OSError: naming the path; also where nothing is there.
    """
    about = path.stat()
    if not stat.S_ISREG(about.st_mode) and not stat.S_ISDIR(about.st_mode):  # of a folder the system says so
        raise OSError(errno.EINVAL, "a pipe, a socket or a device, and no file", str(path))
    if most is not None and about.st_size > most and not stat.S_ISDIR(about.st_mode):
        told = f"it has {about.st_size} bytes, and {most} are the most that are read"
        raise OSError(errno.EINVAL, f"{told}{f'; {raised}' if raised else ''}", str(path))


@contextlib.contextmanager
def naming(path: Path, part: Path | None = None) -> Iterator[None]:
    """Have an error of the disk name the file that could not be written: Python names only what cannot be opened.

    Args:
        path: of the file.
        part: what it is called while it is written.

    Raises:
        OSError: with the path, also where a library made something else of it.
    """
    try:
        yield
    except BonepipeError:
        raise
    except Exception as error:
        fault = disk_fault(error) or error
        if not isinstance(fault, OSError) or fault.errno is None or fault.filename not in (None, str(path), str(part)):
            raise
        raise OSError(fault.errno, fault.strerror, str(path)) from error


def reserve(path: Path) -> None:
    """Have the disk set aside the bytes of a sparse file before it is mapped: a full one ends who writes to a map.

    Raises:
        OSError: they are not there; names the file.
    """
    if not hasattr(os, "posix_fallocate"):  # macOS
        return
    with path.open("r+b") as file, naming(path):
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # a file system that cannot set aside
                raise
