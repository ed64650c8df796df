"""Commands in processes of their own: forked from a server that has imported everything, or started as people do."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
LIMIT = 300.0  # s; no command here takes a tenth of it
Step = Callable[[], None]  # what a process does before its command begins


@dataclass(frozen=True)
class Ended:
    """A process that has ended: its exit code, below 0 for a signal, and what it wrote on both streams."""

    code: int
    told: str

    @property
    def lines(self) -> list[str]:
        """What it said of itself; progress bars and the like left out."""
        pieces = self.told.replace("\r", "\n").splitlines()
        return [line for line in pieces if line.startswith("bonepipe ")]

    @property
    def last(self) -> str:
        """The last of these lines."""
        return self.lines[-1] if self.lines else "nothing was said"


class Running:
    """A command that runs in a session of its own.

    Args:
        process: of `subprocess` or `multiprocessing`.
        told: the file with what it writes.
    """

    def __init__(self, process: Any, told: Path) -> None:
        self.process, self.path = process, told
        self.pid: int = process.pid

    def send(self, signum: int, *, everybody: bool) -> None:
        """Send a signal to the command, or to all processes of its session."""
        for pid in members(self.pid) if everybody else [self.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)

    def wait(self, seconds: float = LIMIT) -> Ended:
        """Wait for its end; one that does not come is -9."""
        code = self._code(seconds)
        if code is None:
            self.send(signal.SIGKILL, everybody=True)
            return Ended(self._code(10.0) or -9, f"{self._said()}\nnot at its end after {seconds:.0f} s")
        return Ended(code, self._said())

    def _code(self, seconds: float) -> int | None:
        if isinstance(self.process, subprocess.Popen):
            try:
                return self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                return None
        self.process.join(seconds)
        return self.process.exitcode  # type: ignore[no-any-return]

    def _said(self) -> str:
        said = self.path.read_text(errors="replace") if self.path.exists() else ""
        self.path.unlink(missing_ok=True)
        return said


def run(folder: Path, words: Sequence[str], *before: Step) -> Ended:
    """Fork a command in a folder and wait for its end."""
    return fork(folder, words, *before).wait()


def fork(folder: Path, words: Sequence[str], *before: Step) -> Running:
    """Start a command in a folder, the steps before it in its own process."""
    told = _told()
    process = _server().Process(target=_begin, args=(folder, list(words), told, before))
    process.start()
    return Running(process, told)


def launch(folder: Path, words: Sequence[str], **variables: str) -> Running:
    """Start a command as people do, interpreter and all, with further variables in its environment."""
    told = _told()
    with told.open("w") as file:
        command = [sys.executable, "-m", "bonepipe", *words]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **variables}
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            start_new_session=True,
        )  # fmt: skip
    return Running(process, told)


def _told() -> Path:
    """A file for what a command writes, on a disk of its own: that of the command may be full."""
    return Path(tempfile.gettempdir(), f"torture-{os.getpid()}-{time.monotonic_ns()}.told")


@cache
def _server() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([f"{__package__}.preload"])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))  # or the server would not find it, and not say
    forkserver.ensure_running()
    return context


def _begin(folder: Path, words: list[str], told: Path, before: Sequence[Step]) -> None:
    """Be a command: streams, folder, session, exit code."""
    os.setsid()
    os.chdir(folder)
    file = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout, sys.stderr = (open(number, "w", closefd=False, buffering=1) for number in (1, 2))  # noqa: SIM115
    code = 1
    try:
        from bonepipe.cli import main

        for step in before:
            step()
        code = main(words)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def members(leader: int) -> list[int]:
    """The processes of a session that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(session) == leader and state != "Z":
            found.append(int(stat.parent.name))
    return found


def outlived(leader: int, seconds: float = 15.0) -> str:
    """Wait for the end of a session; says who is still there."""
    end = time.monotonic() + seconds
    while (left := members(leader)) and time.monotonic() < end:
        time.sleep(0.05)
    return f"{len(left)} processes outlive the command" if left else ""
