"""Which words of a command line are settings."""

import argparse
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from bonepipe.errors import suggestion

COMPLETE = "--complete"  # `bonepipe completion` asks what the words after it may go on with
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


def explain(word: str, flags: Iterable[str], *, settings: bool) -> str:
    """Why a command does not know a word, and what to write instead.

    Args:
        flags: that the command has.
        settings: whether it takes overrides.
    """
    if word.startswith("-"):
        flag = word.partition("=")[0]
        hint = suggestion(flag, flags)
        return f"no flag {flag!r} here{hint or '; settings are overrides, key=value' * settings}"
    if not settings:
        return f"one argument too many: {word!r}"
    return f"{word!r} is not an override; write key=value, for example experiment=demo"


def _exists(word: str) -> bool:
    try:
        return Path(word).exists()
    except (OSError, ValueError):  # too long for a file's name, or no name at all
        return False
