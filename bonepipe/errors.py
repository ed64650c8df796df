"""The two errors that a user may cause; everything else is a bug and shows its traceback."""

import errno
import os
import re
from collections.abc import Iterable
from reprlib import Repr
from typing import Any

ELSEWHERE = "or write to another place (runs=... or -o ...); nothing finished is lost, the same command goes on"
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
    errno.EISDIR: "a folder is in the way where a file is needed: move it away, or name another file",
    errno.ELOOP: "a link leads back to itself: remove it",
    errno.EMFILE: "too many files are open: raise the limit (`ulimit -n 4096`), or lower the number of workers",
    errno.EIO: f"the disk fails: look into the system's log, {ELSEWHERE}",
    errno.ESTALE: f"the network's file server no longer knows it: mount it anew, {ELSEWHERE}",
}


class BonepipeError(Exception):
    """Bad data, a bad file or an impossible request. The message names the file, the field and the way out."""


class UsageError(BonepipeError):
    """A command line that cannot be understood: an unknown flag, a misspelt or ill-typed override."""


def suggestion(name: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """`; did you mean 'x'?` with the known name nearest to an unknown one, or nothing where none is alike."""
    import difflib  # only who errs pays for the import

    near = difflib.get_close_matches(name, list(known), n=1, cutoff=likeness)
    return f"; did you mean {near[0]!r}?" if near else ""


def quoted(value: Any, most: int = 80) -> str:
    """What a file holds, as a message shows it: a million letters or numbers are cut to their beginning and end."""
    shortener = Repr()
    shortener.maxstring = shortener.maxother = most
    return shortener.repr(value)


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


def told(error: OSError) -> str:
    """An error of the operating system in one line: file, cause and way out."""
    where = "" if error.filename is None else f"{error.filename}: "
    way_out = WAYS_OUT.get(error.errno or 0)
    return f"{where}{error.strerror or error}{f'; {way_out}' if way_out else ''}"
