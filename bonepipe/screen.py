"""What is told while something runs: on standard error, so that results can be piped."""

import sys
from pathlib import Path

from tqdm import tqdm


def say(text: str) -> None:
    """A line about progress, above a bar that is being drawn."""
    tqdm.write(text, file=sys.stderr)
    sys.stderr.flush()


def end_bars() -> None:
    """End the bars that an error or a signal has left standing, so that what is told of it has a line of its own."""
    for bar in list(getattr(tqdm, "_instances", ())):
        bar.close()


def tell_next(path: Path) -> None:
    """The last line of a command: which of its files to open."""
    if sys.stdout is not None:
        sys.stdout.flush()  # results stand above, where both go into one file too
    say(f"open {path}")
