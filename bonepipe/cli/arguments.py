"""One grammar for every command: settings are overrides (key=value), files are arguments, flags are few.

Nothing here imports PyTorch or Hydra: a command's help, and what is wrong with its words, are told at once.
"""

import argparse
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from bonepipe.config import GROUPS, conf_dir, heading
from bonepipe.errors import UsageError, suggestion

OVERRIDE = re.compile(r"[~+]{0,2}[\w@./][\w@./-]*=|~")
LINE = re.compile(r"^(\w+):[ \t]*(.*?)[ \t]*(?:# *(.*))?$", re.MULTILINE)
NOT_SHOWN = ("_target_", "defaults")
SETTINGS = """\
Settings come from conf/ and are changed by overrides:
  experiment=NAME   a file of conf/experiment/: {experiments}
  GROUP=OPTION      another file of conf/GROUP/, for example loss=bce
  GROUP.KEY=VALUE   one setting, for example trainer.epochs=30
groups: {groups}
`bonepipe options [GROUP]` lists their options with all settings. A misspelt key or a value of the wrong type is refused
before anything runs."""


class Key(NamedTuple):
    """A setting as its file of conf/ has it."""

    name: str
    value: str
    meaning: str

    def __str__(self) -> str:
        """A row of a command's help; the meaning stands below where the key is long."""
        head, margin = f"  {self.name}={self.value}", " " * 32
        lines = textwrap.wrap(self.meaning, 88)
        if lines and len(head) < len(margin) - 1:
            head = head.ljust(len(margin)) + lines.pop(0)
        return "\n".join([head, *(margin + line for line in lines)])


class Parser(argparse.ArgumentParser):
    """A command's parser, which tells overrides from files and flags.

    Args:
        command: its name.
        summary: what it does; a paragraph or more, shown as it is.
        keys: the settings that its help shows: keys, groups or dotted keys; None for a command without overrides.
        examples: lines that show its use.
    """

    def __init__(self, command: str, summary: str, keys: Sequence[str] | None, examples: str) -> None:
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(f"bonepipe {command}", description=summary, formatter_class=formatter, allow_abbrev=False)
        self.keys, self.examples = keys, examples

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """The parser's own arguments, and as `overrides` the words that are settings, in their order.

        Raises:
            UsageError: an unknown flag, an argument too many or too few, a value of the wrong type.
        """
        overrides = [] if self.keys is None else self._overrides(words)
        positions = {position for position, _ in overrides}
        rest = [word for position, word in enumerate(words) if position not in positions]
        given, unknown = self.parse_known_intermixed_args(rest)
        if unknown:
            raise UsageError(self._unknown(unknown[0]))
        given.overrides = [word for _, word in overrides]
        return given

    def error(self, message: str) -> NoReturn:
        """Raise UsageError; the nearest name is suggested for a value that is none of a fixed set."""
        choice = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        raise UsageError(message + (suggestion(choice[1], re.findall(r"[\w-]+", choice[2])) if choice else ""))

    def format_usage(self) -> str:
        """One paragraph, with the place of overrides."""
        usage = super().format_usage()
        return usage if self.keys is None else f"{usage.rstrip()} [KEY=VALUE ...]\n"

    def format_help(self) -> str:
        """What the command does, its arguments, its settings with their meaning, examples."""
        usage, plain = super().format_usage(), super().format_help()
        parts = [self.format_usage() + plain.removeprefix(usage), self._settings(), self._examples()]
        return "\n\n".join(part.rstrip() for part in parts if part) + "\n"

    def _settings(self) -> str:
        if self.keys is None:
            return ""
        rows = [str(row) for key in self.keys for row in describe(key)]
        experiments = ", ".join(sorted(path.stem for path in (conf_dir() / "experiment").glob("*.yaml")))
        text = SETTINGS.format(experiments=experiments, groups=textwrap.fill(", ".join(GROUPS), 112))
        head = ["settings (default, before the experiment's own):", *rows, ""] if rows else []
        return "\n".join([*head, text])

    def _examples(self) -> str:
        return f"examples:\n{textwrap.indent(textwrap.dedent(self.examples).strip(), '  ')}" if self.examples else ""

    def _overrides(self, words: Sequence[str]) -> list[tuple[int, str]]:
        """Position and text of the words that are settings."""
        result, values = [], 0
        files = any(not action.option_strings for action in self._actions)
        for position, word in enumerate(words):
            if word == "--":
                break
            if values:
                values -= 1
            elif OVERRIDE.match(word) and not (files and _exists(word)):
                result.append((position, word))
            else:
                values = self._values(word)
        return result

    def _values(self, word: str) -> int:
        """How many of the next words a flag takes as its values, whatever they look like."""
        action = self._option_string_actions.get(word)
        if action is None:
            return 0
        return action.nargs if isinstance(action.nargs, int) else int(action.nargs is None)

    def _unknown(self, word: str) -> str:
        if word.startswith("-"):
            flag = word.partition("=")[0]
            hint = suggestion(flag, self._option_string_actions)
            return f"no flag {flag!r} here{hint or '; settings are overrides, key=value' * (self.keys is not None)}"
        if self.keys is None:
            return f"one argument too many: {word!r}"
        return f"{word!r} is not an override; write key=value, for example experiment=demo"


def make_parser(
    command: str, summary: str, *, keys: Sequence[str] | None = None, examples: str = "", run: bool = False
) -> Parser:
    """The parser of a command, see `Parser`; with `run` it takes `--run FOLDER`, a Path or None."""
    parser = Parser(command, summary, keys, examples)
    if run:
        what = "a finished run, ensemble or cascade, in place of an experiment's settings"
        parser.add_argument("--run", metavar="FOLDER", type=Path, help=what)
    return parser


def describe(key: str) -> list[Key]:
    """A setting, or a group's option and all its settings, as the comments in conf/ explain them."""
    group = key.partition(".")[0]
    root = _text("config.yaml")
    if group not in GROUPS:
        return [row for row in _rows(root, "") if row.name == key]
    option = re.search(rf"^  - {group}: (\w+)", root, re.MULTILINE)[1]  # type: ignore[index]
    text = _text(f"{group}/{option}.yaml")
    rows = _rows(text, f"{group}.")
    return [row for row in rows if row.name == key] if key != group else [Key(group, option, heading(text)), *rows]


def _text(name: str) -> str:
    return (conf_dir() / name).read_text(encoding="utf-8")


def _rows(text: str, prefix: str) -> list[Key]:
    """The keys of the topmost level."""
    rows = [Key(f"{prefix}{key}", value, meaning) for key, value, meaning in LINE.findall(text)]
    return [row for row in rows if row.name.removeprefix(prefix) not in NOT_SHOWN]


def _exists(word: str) -> bool:
    try:
        return Path(word).exists()
    except (OSError, ValueError):  # too long for a file's name, or no name at all
        return False
