"""Signals that ask a command to stop, at any moment."""

import signal
import time
from collections.abc import Iterator, Sequence
from functools import partial

from . import processes
from .place import COMMANDS, Command, Place, misspoken
from .trials import Outcome, Trial, chance

STOPPED = "asked to stop by a signal"
SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2")
BEGUN = 0.1  # s, in which a forked command comes to hear signals
PATIENCE = 30.0  # s until it must be gone


def trials(place: Place, commands: Sequence[str], count: int, seed: int) -> Iterator[Trial]:
    """`count` moments for each command and signal."""
    for command in map(COMMANDS.__getitem__, commands):
        for name in SIGNALS:
            for number in range(count):
                title = f"{command.title}: {name} {number}"
                yield Trial(STOPPED, title, partial(stop, place, command, getattr(signal, name), number, seed))


def stop(place: Place, command: Command, signum: signal.Signals, number: int, seed: int) -> Outcome:
    """Ask a command to stop, as a terminal does all its processes or as a scheduler the first, and give it again."""
    dice, folder = chance(seed, command.title, signum, number), place.copy(command.state, "stopped")
    latest = max(2 * BEGUN, place.undisturbed(command).seconds)
    running = processes.fork(folder, command.words)
    time.sleep(dice.uniform(BEGUN, latest))
    running.send(signum, everybody=bool(number % 2))
    ended = running.wait(PATIENCE)
    struck = ended.code == 128 + signum
    about = f"stopped by {signum.name}; the same command goes on" if struck else ""
    # Where it comes after the command's last word, the interpreter has it.
    fault = misspoken(command, ended, [0, 128 + signum, -signum], about=about) or processes.outlived(running.pid)
    return Outcome(struck, fault or place.recovered(command, folder))
