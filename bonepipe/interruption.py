"""Signals that ask a command to stop: it leaves what it does, cleans up, says how to go on, and ends with 128 + signal.

Nothing is saved at that moment: a training's last.ckpt holds its last finished epoch at any time, and every other file
is written whole or not at all.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

# SLURM asks by the signal that `sbatch --signal=...` names, usually one of the last two, and in the end by SIGTERM.
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
SIGNALS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))
ONCE = 15.0  # seconds in which a request that comes again, as from a terminal and from a parent, is the same one
SOON = 0.05  # seconds until a request that was lost is made again
PARENT = "BONEPIPE_PARENT"  # the process that a command is a part of, and ends with
LOOK = 1.0  # seconds between two looks for it


class Interrupted(KeyboardInterrupt):
    """A signal asked to stop. Whoever cleans up after Ctrl-C does so after it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signal = signal.Signals(signum)


def signal_of(error: KeyboardInterrupt) -> signal.Signals:
    """What asked to stop."""
    return error.signal if isinstance(error, Interrupted) else signal.SIGINT


def exit_code(error: KeyboardInterrupt) -> int:
    """As a shell has it for a program that the signal ends."""
    return 128 + signal_of(error)


def ending(code: int) -> str:
    """` (SIGTERM)` for the exit code of a process that a signal stopped or killed; nothing for others."""
    signum = -code if code < 0 else code - 128
    return f" ({signal.Signals(signum).name})" if signum in signal.valid_signals() else ""


_asked = 0  # the signal that asked this command to stop


def is_stopping() -> bool:
    """Whether a signal asked this command to stop; what fails from then on fails because of it."""
    return bool(_asked)


@contextlib.contextmanager
def heard() -> Iterator[None]:
    """Turn requests to stop into `Interrupted`; one that comes again soon is passed over, a second Ctrl-C ends all.

    What this process was told to ignore it goes on ignoring (nohup, background jobs); its forks end as ever. An error
    after the request comes of the stopping itself, of loader processes that were asked as well, and tells nobody more.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    global _asked  # noqa: PLW0603 - signals are the process's, and so is what they ask for
    owner, first, _asked = os.getpid(), 0.0, 0

    def stop(signum: int, frame: FrameType | None) -> None:
        global _asked
        nonlocal first
        again = _asked and time.monotonic() < first + ONCE
        if os.getpid() != owner and signum == signal.SIGINT:
            signal.default_int_handler(signum, frame)
        elif os.getpid() != owner or (again and signum == signal.SIGINT):
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        elif not again:
            first, _asked = time.monotonic(), signum
            raise Interrupted(signum)

    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    replaced = [signum for signum, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    for signum in replaced:
        signal.signal(signum, stop)
    try:
        with _made_again_where_lost():
            yield
    except Exception as error:
        if _asked:
            raise Interrupted(_asked) from error
        raise
    finally:
        _asked = 0
        for signum in replaced:
            signal.signal(signum, before[signum])


@contextlib.contextmanager
def _made_again_where_lost() -> Iterator[None]:
    """A request that comes while Python runs a destructor is passed over there: make it again when that is over."""
    told, timers, main = sys.unraisablehook, [], threading.main_thread().ident or 0

    def ask(signum: int) -> None:
        if not _asked:  # since then
            signal.pthread_kill(main, signum)

    def ignored(error: "sys.UnraisableHookArgs") -> None:
        global _asked  # noqa: PLW0603 - as in `heard`
        if not isinstance(error.exc_value, Interrupted):
            told(error)
            return
        _asked = 0
        timers.append(threading.Timer(SOON, ask, (error.exc_value.signal,)))
        timers[-1].start()

    sys.unraisablehook = ignored
    try:
        yield
    finally:
        sys.unraisablehook = told
        for timer in timers:
            timer.cancel()


def end_with_parent() -> None:
    """Stop, as by SIGTERM, as soon as the process that called this command as a part of itself is gone."""
    if parent := int(os.environ.pop(PARENT, 0)):
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK)
    os.kill(os.getpid(), signal.SIGTERM)
