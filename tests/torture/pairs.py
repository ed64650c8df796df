"""Two commands at once on one run."""

from collections.abc import Iterator
from functools import partial

from . import processes
from .place import COMMANDS, WORDS, Command, Place, misspoken
from .trials import Outcome, Trial

TWICE = "two at once"
OTHER_FOLD = Command("train fold=1", ("train", "fold=1", *WORDS), "split",
                     tuple(name.replace("fold-0", "fold-1") for name in COMMANDS["train"].results))  # fmt: skip
PAIRS = {
    "the same fold": (COMMANDS["train"], COMMANDS["train"]),
    "two folds, both without a store": (COMMANDS["train"], OTHER_FOLD),
    **{
        f"{name} twice": (COMMANDS[name], COMMANDS[name])
        for name in ("phantom", "split", "convert", "train-all", "submit", "ensemble", "pseudo", "label-errors",
                     "predict", "export", "leaderboard", "vote", "clean", "autoaugment")
    },
}  # fmt: skip


def trials(place: Place, count: int, names: tuple[str, ...] = tuple(PAIRS)) -> Iterator[Trial]:
    """Each pair `count` times."""
    for name in names:
        for number in range(count):
            yield Trial(TWICE, f"{name}: {number}", partial(both, place, *PAIRS[name]))


def both(place: Place, first: Command, second: Command) -> Outcome:
    """Start both; each comes to its end or says that the other works there. Then both again, one after the other."""
    folder = place.copy(first.state, "twice")
    running = [processes.fork(folder, command.words) for command in (first, second)]
    ended = [process.wait() for process in running]
    for command, end in zip((first, second), ended, strict=True):
        if fault := misspoken(command, end, [0, 1, 2]):
            return Outcome(struck=True, fault=fault)
    refused = any(end.code for end in ended)
    if all(end.code for end in ended):
        return Outcome(struck=True, fault=f"both were refused: {ended[0].last[:200]}")
    return Outcome(refused, place.recovered(first, folder) or place.recovered(second, folder))
