"""Which words of a command line are settings."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

OVERRIDE = re.compile(r"[~+]{0,2}[\w@./][\w@./-]*=|~")


def positions(words: Sequence[str], actions: Sequence[argparse.Action]) -> list[int]:
    """Where overrides stand: words that look like one, are no flag's value, and no file where files are taken.

    Args:
        words: of the command line.
        actions: of the command's parser, which know the flags that take a value.
    """
    flags = {flag: action for action in actions for flag in action.option_strings}
    files = any(not action.option_strings for action in actions)
    result, values = [], 0
    for position, word in enumerate(words):
        if word == "--":
            break
        if values:
            values -= 1
        elif OVERRIDE.match(word) and not (files and _exists(word)):
            result.append(position)
        elif word in flags:
            count = flags[word].nargs
            values = count if isinstance(count, int) else int(count is None)
    return result


def _exists(word: str) -> bool:
    try:
        return Path(word).exists()
    except (OSError, ValueError):  # too long for a file's name, or no name at all
        return False
