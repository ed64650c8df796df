"""`bonepipe options`: everything that can be chosen, group by group."""

import argparse
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from bonepipe import config as configs
from bonepipe.errors import UsageError, suggestion
from bonepipe.report import markdown

EPILOG = """\
Each line is a file of conf/GROUP/. Choose it with the override in the first column; every setting is an override too.

examples:
  bonepipe options loss
  bonepipe options --costs
  bonepipe train loss=tversky loss.alpha=0.6
"""
HEADER = ("override", "what it is", "settings")
HIDDEN = {"classes"}  # too long to show


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    result = argparse.ArgumentParser(
        "bonepipe options",
        description="List the options of every config group with their settings.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("groups", metavar="GROUP", nargs="*", help=f"of {', '.join(configs.GROUPS)}, experiment")
    result.add_argument(
        "--costs", action="store_true", help="measure the models instead: parameters, FLOPs, time, memory"
    )
    result.add_argument("--document", type=Path, help="rewrite the list in this Markdown file")
    return result


def main(arguments: Sequence[str]) -> int:
    """Print or write the list."""
    asked = parser().parse_args(arguments)
    known = (*configs.GROUPS, "experiment")
    for group in asked.groups:
        if group not in known:
            raise UsageError(f"no group {group!r}{suggestion(group, known)} (there are {', '.join(known)})")
    text = costs() if asked.costs else "\n\n".join(section(group) for group in asked.groups or known)
    if asked.document:
        name, title = ("models", "What the models cost") if asked.costs else ("options", "Options")
        markdown.replace_block(asked.document, name, text, title)
    else:
        print(text)
    return 0


def costs() -> str:
    """The table of all models."""
    from tqdm import tqdm

    from bonepipe.report import models

    names = [path.stem for path in paths("model")]
    return models.markdown(row for name in tqdm(names, "models", unit="model") for row in models.model_table([name]))


def section(group: str) -> str:
    """A heading and a table, a line an option."""
    return f"## {group}\n\n{markdown.table(HEADER, [_row(group, path) for path in paths(group)])}"


def paths(group: str) -> list[Path]:
    """The files of a group, by name."""
    return sorted((configs.conf_dir() / group).glob("*.yaml"))


def _row(group: str, path: Path) -> tuple[str, str, str]:
    text = path.read_text(encoding="utf-8")
    node = yaml.safe_load(text) or {}
    shown = _settings(node) if "_target_" in node else {}
    settings = ", ".join(f"`{key}={_value(value)}`" for key, value in shown.items() if key not in HIDDEN)
    return f"`{group}={path.stem}`", _escape(description(text)), _escape(settings)


def description(text: str) -> str:
    """The comment that a config begins with; in experiments without the command that runs them."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        words = line.removeprefix("#").strip()
        if words and not words.startswith(("@package", "make ")):
            lines.append(words)
    return " ".join(lines)


def _settings(node: dict[str, Any]) -> dict[str, Any]:
    """All settings of an option: the constructor's defaults, then what the file says."""
    parameters = configs.settings(configs.locate(node["_target_"]))
    defaults = {name: p.default for name, p in parameters.items() if p.default is not inspect.Parameter.empty}
    return {**defaults, **{key: value for key, value in node.items() if key != "_target_"}}


def _value(value: Any) -> str:
    """A value as an override would give it."""
    if isinstance(value, list | tuple | dict):
        text: str = yaml.safe_dump(_plain(value), default_flow_style=True, width=10**6, allow_unicode=True)
        return text.strip()
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _plain(value: Any) -> Any:
    """Tuples as lists, all the way down: YAML has no tuples."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _escape(text: str) -> str:
    return text.replace("|", "\\|")
