"""What is tried, and what counts as a failure: anything but a typed error in one line, in bounded time.

hypothesis draws documents, valid ones and others; of each, further ones are made by `mutate`. A failure is kept under
its kind, the error and the line that raised it, with the shortest input of that kind.
"""

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain, takewhile
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from bonepipe.errors import BonepipeError

from . import mutate

LIMIT = 2.0  # seconds of CPU time for an input
LONGEST = 2000  # letters of a message
DRAWN = 25  # documents drawn at once
NEIGHBOURS = 100  # inputs made from each
NOWHERE = Path(os.devnull).open("w")  # noqa: SIM115 - warnings of what nothing depends on
ROOTS = tuple(str(Path(__file__).parents[2] / name) for name in ("bonepipe", "tests/fuzz"))


@dataclass(frozen=True)
class Target:
    """A reader.

    Attributes:
        name: in the table.
        documents: hypothesis' strategy for what `render` turns into bytes.
        render: the content of a file.
        change: makes another document of one.
        check: reads the file at a path whose content is as given; raises AssertionError where the result differs from
            that of an independent calculation.
        file: its name; none where `check` looks at the content alone.
        compared: with what results are compared, in words.
        typed: errors that it may raise.
        damage: bytes are changed as well, after they are rendered.
    """

    name: str
    documents: st.SearchStrategy[Any]
    render: Callable[[Any], bytes]
    change: Callable[[Random, Any], Any]
    check: Callable[[Path, bytes], object]
    file: str
    compared: str = ""
    typed: tuple[type[Exception], ...] = (BonepipeError,)
    damage: bool = True


@dataclass
class Outcome:
    """What became of the inputs of a target; seconds are CPU time.

    Attributes:
        inputs: all of them.
        places: lines of code that refused one.
        failures: kind -> its shortest input.
    """

    inputs: int = 0
    taken: int = 0
    refused: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    places: set[str] = field(default_factory=set)
    failures: dict[str, bytes] = field(default_factory=dict)

    def fail(self, kind: str, content: bytes) -> None:
        """Keep an input that failed."""
        if len(content) < len(self.failures.get(kind, content + b" ")):
            self.failures[kind] = content


class TooLong(BaseException):
    """No handler of errors may take it for one."""


def fuzz(
    target: Target, folder: Path, *, inputs: int = 10**9, seconds: float = 1e9, start: int = 0,
    tell: Callable[[int], object] = lambda count: None,
) -> Outcome:  # fmt: skip
    """Try a target until so many inputs or seconds are used up.

    Args:
        target: to try.
        folder: an empty one, for its file; nothing may be written elsewhere.
        inputs, seconds: whatever comes first; seconds are CPU time, of which a busy machine gives less.
        start: the seed.
        tell: is told how many inputs there were since it was told last.
    """
    outcome, end, told = Outcome(), time.process_time() + seconds, 0
    rounds = start * 1_000_003
    while outcome.inputs < inputs and time.process_time() < end:
        _round(target, folder, rounds, outcome, lambda: outcome.inputs >= inputs or time.process_time() >= end)
        tell(outcome.inputs - told)
        told, rounds = outcome.inputs, rounds + 1
    return outcome


def _round(target: Target, folder: Path, number: int, outcome: Outcome, enough: Callable[[], bool]) -> None:
    """Some documents and their neighbours."""

    @seed(number)
    @settings(
        max_examples=DRAWN, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck), print_blob=False,
    )  # fmt: skip
    @given(target.documents, st.integers(0, 1 << 62))
    def tries(document: Any, chance: int) -> None:
        rng, around = Random(chance), range(NEIGHBOURS)
        contents = chain([target.render(document)], (_neighbour(target, rng, document) for _ in around))
        for content in takewhile(lambda _: not enough(), contents):
            _attempt(target, folder, content, outcome)

    tries()


def _neighbour(target: Target, rng: Random, document: Any) -> bytes:
    for _ in range(1 + int(rng.expovariate(1.5))):
        document = target.change(rng, document)
    content = target.render(document)
    while target.damage and rng.random() < 0.25:
        content = mutate.blob(rng, content)
    return content


def _attempt(target: Target, folder: Path, content: bytes, outcome: Outcome) -> None:
    path = folder / (target.file or "none")
    outcome.inputs += 1
    if target.file:
        path.write_bytes(content)
    begin, kind = time.process_time(), ""
    with watched(folder) as elsewhere:
        try:
            with limited(), contextlib.redirect_stdout(NOWHERE), contextlib.redirect_stderr(NOWHERE):
                target.check(path, content)
            outcome.taken += 1
        except target.typed as error:
            outcome.refused += 1
            outcome.places.add(_place(error))
            kind = _oddity(error, path if BonepipeError in target.typed else None)
        except (Exception, TooLong) as error:
            kind = f"{type(error).__name__} at {_place(error)}: {str(error)[:100]}"
    spent = time.process_time() - begin
    outcome.seconds += spent
    outcome.slowest = max(outcome.slowest, spent)
    for what in filter(None, (kind, f"takes more than {LIMIT:g} s" if spent > LIMIT else "", *elsewhere)):
        outcome.fail(what, content)


def _place(error: BaseException) -> str:
    """The innermost line of this project that an error came through."""
    frames = traceback.walk_tb(error.__traceback__)
    lines = [(f.f_code.co_filename, number) for f, number in frames if f.f_code.co_filename.startswith(ROOTS)]
    name, number = lines[-1] if lines else ("?", 0)
    return f"{Path(name).relative_to(Path(ROOTS[0]).parent) if lines else name}:{number}"


def _oddity(error: Exception, path: Path | None) -> str:
    """What is wrong with a message; nothing where it is one line that names the file."""
    message = str(error)
    if "\n" in message or "\r" in message:
        return f"message of several lines at {_place(error)}"
    if len(message) > LONGEST:
        return f"message of more than {LONGEST} letters at {_place(error)}"
    if path is not None and path.name not in message:
        return f"message without the file's name at {_place(error)}"
    return ""


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Raise TooLong in what uses ten times the CPU time that an input may."""
    before = signal.signal(signal.SIGPROF, _too_long)
    signal.setitimer(signal.ITIMER_PROF, 10 * LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _too_long(signum: int, frame: FrameType | None) -> None:
    raise TooLong(f"{10 * LIMIT:g} s of CPU time")


# Audit events (PEP 578) of what a reader has no business with, whatever the arguments.
FORBIDDEN = (
    "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "subprocess.Popen",
    "socket.connect", "pickle.find_class",
)  # fmt: skip
CHANGES = (
    "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod",
    "os.chown", "shutil.rmtree",
    "shutil.copyfile", "shutil.move",
)  # fmt: skip
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class _Watch:
    """The one audit hook of this process; nobody can take one away again, so it looks only while it is told to."""

    folder, seen, thread, added = "", set[str](), 0, False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.thread or threading.get_ident() != self.thread:
            return
        paths: tuple[Any, ...] = ()
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES:
            paths = arguments[:1]
        elif event in CHANGES:
            paths = arguments[: 2 if event in ("os.rename", "os.link", "os.symlink", "shutil.move") else 1]
        elif event in FORBIDDEN:
            self.seen.add(f"{event}{arguments!r:.100}")
        for path in paths:
            if isinstance(path, str | bytes | os.PathLike) and self._is_elsewhere(Path(os.fsdecode(path))):
                self.seen.add(f"{event} of {os.fsdecode(path)}")

    def _is_elsewhere(self, path: Path) -> bool:
        inside = (os.path.normpath(Path.cwd() / path) + os.sep).startswith(self.folder)
        return not inside and str(path) != os.devnull and "__pycache__" not in path.parts


_watch = _Watch()


@contextlib.contextmanager
def watched(folder: Path) -> Iterator[set[str]]:
    """Yield what will be found written outside a folder, run or connected to by this thread."""
    if not _watch.added:
        _watch.added = True
        sys.addaudithook(_watch)
    _watch.folder, _watch.seen, _watch.thread = str(folder.resolve()) + os.sep, set(), threading.get_ident()
    try:
        yield _watch.seen
    finally:
        _watch.thread = 0
