"""SIGKILL: at a command's operations on files, one after the other, and at any moment to whole trees of processes."""

import signal
import time
from collections.abc import Iterator, Sequence
from functools import partial

from . import processes, trap
from .place import COMMANDS, WORDS, Command, Place, require
from .trials import Outcome, Trial, chance, spread

PLACED, RANDOM = "killed at an operation on a file", "killed at any moment"
# With processes of their own: loaders, W&B's service, the folds of train-all.
TREES = {
    "train, loader processes, tracked offline": (
        COMMANDS["train, tracked offline"], ("trainer.workers=2", "trainer.epochs=6"),
    ),
    "train-all, two folds at once": (
        Command("train-all from the start", ("train-all", *WORDS, "executor.parallel=2"), "split",
                COMMANDS["train-all"].results),
        ("trainer.workers=1",),
    ),
}  # fmt: skip


def placed(place: Place, commands: Sequence[str], most: int) -> Iterator[Trial]:
    """Before an operation, and with half of a file that was about to take its place; `most` operations a command."""
    for command in map(COMMANDS.__getitem__, commands):
        for number, operation in spread([*enumerate(place.undisturbed(command).operations)], most):
            for half in (False, True) if operation.startswith(trap.HALVES) else (False,):
                title = f"{command.title}: {number}{', half written' if half else ''}"
                yield Trial(PLACED, title, partial(kill_at, place, command, number, half=half))


def kill_at(place: Place, command: Command, number: int, *, half: bool) -> Outcome:
    """Kill a command at an operation, and give it again."""
    folder = place.copy(command.state, "placed")
    ended = processes.run(folder, command.words, partial(trap.kill_at, number, folder, half=half))
    return Outcome(ended.code == -signal.SIGKILL, place.recovered(command, folder))


def trees(place: Place, count: int, seed: int) -> Iterator[Trial]:
    """`count` kills of each command that has processes of its own: of all of them, or of the first alone."""
    for title, (command, more) in TREES.items():
        longer = Command(title, (*command.words, *more), command.state, command.results)
        for number in range(count):
            yield Trial(RANDOM, f"{title}: {number}", partial(kill_tree, place, longer, number, seed))


def kill_tree(place: Place, command: Command, number: int, seed: int) -> Outcome:
    """Kill a command that was started as people do at a random moment, and give it again."""
    dice, folder = chance(seed, command.title, number), place.copy(command.state, "tree")
    running = processes.launch(folder, command.words)
    time.sleep(dice.uniform(0.5, _seconds(place, command)))
    running.send(signal.SIGKILL, everybody=number % 2 == 0)
    ended = running.wait()
    fault = processes.outlived(running.pid)
    return Outcome(ended.code == -signal.SIGKILL, fault or place.recovered(command, folder))


def _seconds(place: Place, command: Command) -> float:
    """How long a command takes with the start of its interpreter."""
    if command.title not in place.launched:
        start = time.monotonic()
        require(processes.launch(place.copy(command.state, "tree"), command.words).wait())
        place.launched[command.title] = time.monotonic() - start
    return place.launched[command.title]
