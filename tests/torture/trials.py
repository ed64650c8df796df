"""A trial: one disturbance of one command, and what became of it."""

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

Item = TypeVar("Item")


class Outcome(NamedTuple):
    """What became of a trial.

    Attributes:
        struck: whether the command was disturbed before its end.
        fault: what was lost, differs, or was said wrongly; empty where nothing was.
    """

    struck: bool
    fault: str = ""


class Trial(NamedTuple):
    """One disturbance.

    Attributes:
        kind: of disturbance, a row of the table.
        title: that no other trial of the kind has.
        run: does it.
    """

    kind: str
    title: str
    run: Callable[[], Outcome]


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most so many of them, evenly spread, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(number * (len(items) - 1) / max(1, most - 1))] for number in range(most)]


def chance(seed: int, *title: object) -> random.Random:
    """Random numbers of a trial's own: the same, whichever trials run beside it."""
    return random.Random(f"{seed} {title}")
