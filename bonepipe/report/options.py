"""Everything that can be chosen, group by group, and what the models cost, as tables."""

import inspect
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from bonepipe import config as configs
from bonepipe.files import find_files
from bonepipe.report import markdown

if TYPE_CHECKING:
    from bonepipe.models.costs import ModelRow

HEADER = ("override", "what it is", "settings")
HIDDEN = {"classes"}  # too long to show


def section(group: str) -> str:
    """A heading and a table, a line an option."""
    return f"## {group}\n\n{markdown.table(HEADER, [_row(group, path) for path in paths(group)])}"


def paths(group: str) -> list[Path]:
    """The files of a group, by name."""
    return find_files(configs.conf_dir() / group, (".yaml",))


def _row(group: str, path: Path) -> tuple[str, str, str]:
    text = path.read_text(encoding="utf-8")
    node = yaml.safe_load(text) or {}
    shown = _settings(group, node) if "_target_" in node else {}
    settings = ", ".join(f"`{key}={_value(value)}`" for key, value in shown.items() if key not in HIDDEN)
    return f"`{group}={path.stem}`", _escape(configs.heading(text)), _escape(settings)


def _settings(group: str, node: dict[str, Any]) -> dict[str, Any]:
    """All settings of an option: the constructor's defaults, then what the file says."""
    parameters = configs.settings(configs.locate(group, node["_target_"]))
    defaults = {name: p.default for name, p in parameters.items() if p.default is not inspect.Parameter.empty}
    return {**defaults, **{key: value for key, value in node.items() if key != "_target_"}}


def _value(value: Any) -> str:
    """A value as an override would give it."""
    if isinstance(value, list | tuple | dict):
        plain = json.loads(json.dumps(value))
        return yaml.safe_dump(plain, default_flow_style=True, width=10**6, allow_unicode=True).strip()
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


def costs(rows: Iterable["ModelRow"]) -> str:
    """The models' costs as a table, fewest parameters first."""
    from bonepipe.models.costs import COST_SIZE, TIME_SIZE

    lines = [
        f"| `model=` | parameters, M | GFLOPs at {COST_SIZE} | CPU ms at {TIME_SIZE} | training GiB at {COST_SIZE} |",
        "| --- | --: | --: | --: | --: |",
    ]
    for row in sorted(rows, key=lambda row: row.parameters):
        memory, giga, mega = row.training_bytes / 2**30, row.operations / 1e9, row.parameters / 1e6
        lines.append(f"| {row.name} | {mega:.1f} | {giga:.0f} | {row.milliseconds:.0f} | {memory:.1f} |")
    return "\n".join(lines) + "\n"
