"""Settings with their defaults and meanings, read from the comments in conf/; nothing heavy is imported for it."""

import re
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from bonepipe.config import GROUPS, conf_dir, heading
from bonepipe.files import find_files

LINE = re.compile(r"^(\w+):[ \t]*(.*?)[ \t]*(?:# *(.*))?$", re.MULTILINE)
NOT_SHOWN = ("_target_", "defaults")
MARGIN = " " * 32
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
        head, lines = f"  {self.name}={self.value}", textwrap.wrap(self.meaning, 88)
        if lines and len(head) < len(MARGIN) - 1:
            head = head.ljust(len(MARGIN)) + lines.pop(0)
        return "\n".join([head, *(MARGIN + line for line in lines)])


def text(keys: Sequence[str]) -> str:
    """Rows for keys, groups or dotted keys, then how every setting is changed."""
    rows = [str(row) for key in keys for row in describe(key)]
    experiments = ", ".join(path.stem for path in find_files(conf_dir() / "experiment", (".yaml",)))
    head = ["settings (default, before the experiment's own):", *rows, ""] if rows else []
    return "\n".join([*head, SETTINGS.format(experiments=experiments, groups=textwrap.fill(", ".join(GROUPS), 112))])


def describe(key: str) -> list[Key]:
    """A setting, or a group's option and all its settings, as the comments in conf/ explain them."""
    group = key.partition(".")[0]
    root = _read("config.yaml")
    if group not in GROUPS:
        return [row for row in _rows(root, "") if row.name == key]
    option = re.search(rf"^  - {group}: (\w+)", root, re.MULTILINE)[1]  # type: ignore[index]
    content = _read(f"{group}/{option}.yaml")
    rows = _rows(content, f"{group}.")
    return [row for row in rows if row.name == key] if key != group else [Key(group, option, heading(content)), *rows]


def _read(name: str) -> str:
    return (conf_dir() / name).read_text(encoding="utf-8")


def _rows(content: str, prefix: str) -> list[Key]:
    """The keys of the topmost level."""
    return [Key(f"{prefix}{key}", value, why) for key, value, why in LINE.findall(content) if key not in NOT_SHOWN]


def rows(name: str, prefix: str) -> list[Key]:
    """The keys of the topmost level of a file of conf/."""
    return _rows(_read(name), prefix)
