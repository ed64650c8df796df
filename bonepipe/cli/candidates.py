"""What a half-written command line may go on with; read from conf/ without any YAML library, so that TAB is instant."""

import argparse
from collections.abc import Iterable, Iterator, Sequence

from bonepipe.config import DEVICES, GROUPS, PLAIN_KEYS, conf_dir
from bonepipe.files import find_files
from bonepipe.report import settings

SWITCHES = ("true", "false")


def candidates(words: Sequence[str], actions: Sequence[argparse.Action], *, settings: bool) -> list[str]:
    """Whole words that the last of a command's words may become; none where it can only be a file.

    Args:
        words: after the command's name, the unfinished one last; it may be empty.
        actions: of the command's parser.
        settings: whether the command takes overrides.
    """
    before, current = words[:-1], words[-1] if words else ""
    flags = {flag: action for action in actions for flag in action.option_strings}
    action = flags.get(before[-1]) if before else None
    if action is not None and action.nargs != 0:
        return _like(current, action.choices or ())
    if current.startswith("-"):
        return _like(current, flags)
    named = [choice for action in actions if not action.option_strings for choice in action.choices or ()]
    takes_files = any(not action.option_strings for action in actions)
    if not settings or (takes_files and not current):
        return _like(current, named)
    return _like(current, overrides(current))


def overrides(current: str) -> Iterator[str]:
    """Overrides that begin like a word: first the group, then its keys; after `=` the options, devices, yes or no."""
    key, equals, _ = current.partition("=")
    if equals:
        yield from (f"{key}={value}" for value in _values(key))
    elif "." in key:
        yield from (f"{name}=" for name in _keys(key.partition(".")[0]))
    else:
        yield from (f"{name}=" for name in (*PLAIN_KEYS, "experiment", *GROUPS))
        yield from (f"{group}." for group in GROUPS)


def _values(key: str) -> Sequence[str]:
    if key in GROUPS or key == "experiment":
        return [path.stem for path in find_files(conf_dir() / key, (".yaml",))]
    if key == "device":
        return DEVICES
    return SWITCHES if _keys(key.partition(".")[0]).get(key) in SWITCHES else ()


def _keys(group: str) -> dict[str, str]:
    """Dotted keys that any file of a group sets, with a value; none for what is no group."""
    paths = find_files(conf_dir() / group, (".yaml",)) if group in GROUPS else []
    return {row.name: row.value for path in paths for row in settings.rows(f"{group}/{path.name}", f"{group}.")}


def _like(current: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(current)]
