"""The log of a run: all that was told, as W&B's own process writes it down.

That process keeps an error of the disk to itself and never adds to the log after one, even where there is room again.
"""

import contextlib
import errno
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from bonepipe.training.tracking.log_format import read_messages
from bonepipe.training.tracking.telling import let_go

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)  # errors of a full, closed or broken disk
PATIENCE = 30.0  # seconds after which what was told is on the disk for sure; W&B takes one
SETTLED = 2.0  # seconds after which the end of a run is on the disk, as a rule
SAMPLE = 1 << 16  # bytes


def log_of(run: Any) -> Path:
    """The log of a run of W&B."""
    return Path(run.settings.sync_file)


def fault_of(error: Exception) -> str:
    """What is wrong with the disk, in the system's words; empty for any other error."""
    return error.strerror or "" if isinstance(error, OSError) and error.errno in DISK else ""


class Growth:
    """Watches that a log grows while rows are told.

    Args:
        log: `run-<id>.wandb`.
    """

    def __init__(self, log: Path) -> None:
        self.log, self._size, self._time = log, -1, float("-inf")

    def check(self) -> None:
        """Called before a row is told.

        Raises:
            OSError: what was told `PATIENCE` ago has not been written down.
        """
        if (now := time.monotonic()) > self._time + PATIENCE:
            size = self.log.stat().st_size
            if size == self._size:
                raise _why(self.log.parent)
            self._size, self._time = size, now


def require_whole(log: Path) -> None:
    """Check that a run that was finished is written down to its end.

    W&B's process still writes for some milliseconds; where it seems to be slower it is ended, and has written all then.

    Raises:
        OSError: it is not.
    """
    end = time.monotonic() + SETTLED
    while not _is_whole(log):
        if time.monotonic() > end:
            let_go()
            break
        time.sleep(SETTLED / 100)
    if not _is_whole(log):
        raise _why(log.parent)


def _is_whole(log: Path) -> bool:
    """Whether the last message is that of a run's end."""
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined] # by its version

    *_, (_, last) = [(0, b""), *read_messages(log)]
    return Record.FromString(last).HasField("exit")


def cut(log: Path) -> None:
    """Cut off the message that was being written when the disk was full: W&B's client uploads no torn log."""
    with contextlib.suppress(OSError):  # at worst it stays
        *_, (end, _) = [(0, b""), *read_messages(log)]
        os.truncate(log, end)


def _why(folder: Path) -> OSError:
    """Why nothing more could be written into a folder."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(SAMPLE))
            file.flush()
            os.fsync(file.fileno())  # which is when network disks say it
    except OSError as error:
        return error
    return OSError(errno.ENOSPC, "the disk was full for a while")
