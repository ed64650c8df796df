"""Folds in the process of the test: it has imported PyTorch already, which takes longer than to train a tiny fold."""

from collections.abc import Sequence

from bonepipe.cli import main
from bonepipe.training.executors import Command, Local


def folds_here(patch):
    """From now on `executor=local` runs its commands, `python -m bonepipe train ...`, here; `patch` undoes it."""
    patch.setattr(Local, "run", run)


def run(_: Local, commands: Sequence[Command]) -> list[int]:
    return [main(list(words)) for _, _, _, *words in commands]
