"""One grammar for every command: settings are overrides (key=value), files are arguments, flags are few."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from bonepipe.cli import resolved
from bonepipe.cli.overrides import COMPLETE, explain, positions
from bonepipe.errors import UsageError, suggestion


def _named(value: Any) -> Any:
    """A path as it is, but `.` as the folder that it stands for: results are put beside it, and told by its name."""
    return value.resolve() if isinstance(value, Path) and not value.name else value


class Parser(argparse.ArgumentParser):
    """A command's parser, which tells overrides from files and flags; see `make_parser`."""

    def __init__(self, command: str, summary: str, keys: Sequence[str] | None, examples: str, composed: bool) -> None:
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(f"bonepipe {command}", description=summary, formatter_class=formatter, allow_abbrev=False)
        self.keys, self.composed = keys, composed and keys is not None
        self.examples = examples.strip("\n").splitlines()
        if keys is not None:
            self.add_argument("--cfg", action="store_true", help="print the settings as YAML, resolved, and do nothing")

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """The parser's own arguments, and as `overrides` the words that are settings, in their order.

        Raises:
            UsageError: an unknown flag, an argument too many or too few, a value of the wrong type.
        """
        if words[:1] == [COMPLETE]:
            from bonepipe.cli.candidates import candidates

            print("\n".join(candidates(words[1:], self._actions, settings=self.keys is not None)))
            self.exit()
        settings = [] if self.keys is None else positions(words, self._actions)
        rest = [word for position, word in enumerate(words) if position not in settings]
        if self.composed and "--cfg" in rest:
            resolved.need_nothing(self._actions)
        given, unknown = self.parse_known_intermixed_args(rest)
        if unknown:
            raise UsageError(explain(unknown[0], self._option_string_actions, settings=self.keys is not None))
        given.overrides = [words[position] for position in settings]
        for name, value in vars(given).items():
            setattr(given, name, [*map(_named, value)] if isinstance(value, list) else _named(value))
        if self.composed and getattr(given, "cfg", False):
            print(resolved.settings(given), end="")
            self.exit()
        return given

    def error(self, message: str) -> NoReturn:
        """Raise UsageError; the nearest name is suggested for a value that is none of a fixed set."""
        choice = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        raise UsageError(message + (suggestion(choice[1], re.findall(r"[\w-]+", choice[2])) if choice else ""))

    def format_help(self) -> str:
        """What the command does, its arguments, its settings with their meaning, examples."""
        from bonepipe.report import settings

        usage, text = self.format_usage(), super().format_help()
        if self.keys is not None:
            text = f"{usage.rstrip()} [KEY=VALUE ...]\n{text.removeprefix(usage)}\n{settings.text(self.keys)}\n"
        return text + "".join(["\nexamples:\n", *(f"  {line}\n" for line in self.examples)] if self.examples else [])


def make_parser(
    command: str, summary: str, *, keys: Sequence[str] | None = None, examples: str = "", run: bool = False,
    composed: bool = True,
) -> Parser:  # fmt: skip
    """The parser of a command.

    Args:
        command: its name.
        summary: what it does; a paragraph or more, shown as it is.
        keys: the settings that its help shows: keys, groups or dotted keys; None for a command without overrides.
        examples: lines that show its use.
        run: whether it takes `--run FOLDER`, a Path or None.
        composed: whether its settings are those of an experiment, so that `--cfg` can be answered here.
    """
    parser = Parser(command, summary, keys, examples, composed)
    if run:
        what = "a finished run, ensemble or cascade, in place of an experiment's settings"
        parser.add_argument("--run", metavar="FOLDER", type=Path, help=what)
    return parser
