"""What goes wrong with tracking, told in a line on stderr."""

import contextlib
from typing import Any

from bonepipe import screen


def say(text: str) -> None:
    """Print a line."""
    screen.say(f"tracking: {text}")


def cause(error: Exception) -> str:
    """An error in a line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def let_go(run: Any = None) -> None:
    """End W&B's service, dead or alive, so that the next run starts a new one and nothing complains at the exit."""
    with contextlib.suppress(Exception):
        if run is not None:
            run.finish(exit_code=1)
    with contextlib.suppress(Exception, SystemExit):  # it exits with the code of its service
        import wandb

        wandb.teardown()
