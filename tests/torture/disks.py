"""Disks that become full, limits on the size of files, folders that can only be read."""

import ctypes
import resource
import shutil
import stat
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

from . import processes
from .place import COMMANDS, Command, Place, misspoken
from .trials import Outcome, Trial, chance, spread

FULL, LIMITED, LOCKED = "disk full", "limit on the size of files", "folder that can only be read"
PAGE, PLENTY = 4096, 1 << 30
TALK = 8192  # bytes, which what a command says may need itself: it goes to a file, too


@cache
def may_mount() -> bool:
    """Whether this user may mount a file system of a chosen size."""
    with TemporaryDirectory() as folder:
        command = ["mount", "-t", "tmpfs", "tmpfs", folder]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
            return False
        subprocess.run(["umount", folder], check=True)
        return True


@contextmanager
def disk(folder: Path) -> Iterator[Path]:
    """A file system in memory, below a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={PLENTY}", "tmpfs", folder], check=True)
    try:
        yield folder / "place"
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def _resize(folder: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=True)


def full(place: Place, commands: Sequence[str], count: int, seed: int) -> Iterator[Trial]:
    """`count` disks for each command, of sizes between nothing and what it writes; none where nobody may mount."""
    for command in map(COMMANDS.__getitem__, commands if may_mount() else ()):
        for number in range(count):
            yield Trial(FULL, f"{command.title}: {number}", partial(fill, place, command, number, count, seed))


def fill(place: Place, command: Command, number: int, count: int, seed: int) -> Outcome:
    """Run a command on a disk that becomes full, then, when there is space again, once more."""
    share = (number + chance(seed, command.title, number).random()) / count
    with disk(place.cache / "disk") as folder:
        shutil.copytree(place.state(command.state), folder, symlinks=True)
        room = sum(-(-size // PAGE) + 1 for size in place.undisturbed(command).sizes)
        filled = shutil.disk_usage(folder).used
        _resize(folder.parent, filled + max(1, int(share * room)) * PAGE)
        ended = processes.run(folder, command.words)
        fault = misspoken(command, ended, [0, 1, 2], about="space" if ended.code else "")
        _resize(folder.parent, PLENTY)
        return Outcome(ended.code != 0, fault or place.recovered(command, folder))


def limited(place: Place, commands: Sequence[str], most: int) -> Iterator[Trial]:
    """Limits below the size of each of the longer files that a command writes."""
    for command in map(COMMANDS.__getitem__, commands):
        sizes = {size for size in place.undisturbed(command).sizes if size > TALK}
        for size in spread(sorted(sizes), most):
            yield Trial(LIMITED, f"{command.title}: {size - 1} bytes", partial(limit, place, command, size - 1))


def limit(place: Place, command: Command, size: int) -> Outcome:
    """Run a command that may write no longer files, then, without the limit, once more."""
    folder = place.copy(command.state, "limited")
    ended = processes.run(folder, command.words, partial(_limit_files, size))
    fault = misspoken(command, ended, [0, 1, 2], about="File too large" if ended.code else "")
    return Outcome(ended.code != 0, fault or place.recovered(command, folder))


def _limit_files(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def locked(place: Place, commands: Sequence[str]) -> Iterator[Trial]:
    """Each folder of a state, with those below it, made so that nobody may write there."""
    for command in map(COMMANDS.__getitem__, commands):
        for name in _folders(place.state(command.state)):
            yield Trial(LOCKED, f"{command.title}: {name}", partial(lock, place, command, name))


def _folders(state: Path) -> list[str]:
    """`.`, and those of runs that are there."""
    runs = ("runs", "runs/debug", "runs/debug/fold-0", "runs/.store")
    return [".", *(name for name in runs if (state / name).is_dir())]


def lock(place: Place, command: Command, name: str) -> Outcome:
    """Run a command where it may not write, then, when it may, once more."""
    folder = place.copy(command.state, "locked")
    _permit(folder / name, writing=False)
    ended = processes.run(folder, command.words, give_up_privileges)
    _permit(folder / name, writing=True)
    fault = misspoken(command, ended, [0, 1, 2], about="Permission denied" if ended.code else "")
    return Outcome(ended.code != 0, fault or place.recovered(command, folder, give_up_privileges))


def give_up_privileges() -> None:
    """Be an owner of files like any other: root would not be asked for permission, capabilities(7)."""
    version, this_process = 0x20080522, 0
    header, none = (ctypes.c_uint32 * 2)(version, this_process), (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(header, none):
        raise OSError(ctypes.get_errno(), "capset")


def _permit(folder: Path, *, writing: bool) -> None:
    """Let the owner write in a folder and those below it, or not."""
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            mode = path.stat().st_mode
            path.chmod(mode | stat.S_IWUSR if writing else mode & ~0o222)
