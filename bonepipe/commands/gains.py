"""`bonepipe gains`: what each step from one model to the final submission gains, and what it costs."""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bonepipe.errors import BonepipeError, UsageError
from bonepipe.files import write_json
from bonepipe.pipeline.experiment import say
from bonepipe.report import markdown

EPILOG = """\
The file lists rows: a name, the commands that make its scores, the run whose scores.json then holds them, and the row
that it is compared with (default: the one before). {runs} in a command stands for --runs, {base} for the file's base.
Rows with `more: true` are trained with --more only.
A row that is done is not done again, unless its commands or those before them have changed; what was interrupted goes
on: stop it and call it again whenever you like.
Core-minutes are those that processor cores worked; other work on the machine changes them less than minutes.

example: bonepipe gains conf/gains.yaml --document docs/gains.md
"""
SCORES = ("oof_dice", "public", "private", "test_dice")
HEADER = ("step", "OOF", "public", "private", "test", "OOF gain", "test gain", "over", "minutes", "core-minutes")


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        name: what was added.
        commands: bonepipe's commands in order, each a list of words.
        run: name of the run whose scores count.
        over: name of the row that it is compared with; None for none.
        more: whether it is left out unless it is asked for.
    """

    name: str
    commands: tuple[tuple[str, ...], ...]
    run: str
    over: str | None
    more: bool = False


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    result = argparse.ArgumentParser(
        "bonepipe gains",
        description="Go from one model to the final submission step by step; report gain and cost of each.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("file", nargs="?", type=Path, default=Path("conf/gains.yaml"), help="the steps (%(default)s)")
    result.add_argument("--runs", type=Path, default=Path("runs/gains"), help="folder of the runs (%(default)s)")
    result.add_argument("--more", action="store_true", help="take the steps that are marked as further ones, too")
    result.add_argument("--document", type=Path, help="Markdown file whose table is rewritten; else it is printed only")
    return result


def main(arguments: Sequence[str]) -> int:
    """Take the steps that were not taken yet, then lay out the table."""
    options = parser().parse_args(arguments)
    results = options.runs / "gains.json"
    found: dict[str, Any] = json.loads(results.read_text()) if results.is_file() else {}
    done: dict[str, Any] = {}
    rows = read(options.file, options.runs)
    for row, commands in histories(rows):
        if found.get(row.name, {}).get("commands") == commands:
            done[row.name] = found[row.name]
        elif options.more or not row.more:
            say(f"== {row.name}")
            seconds, core_seconds = _run(row)
            times = {"seconds": seconds, "core_seconds": core_seconds}
            done[row.name] = {"commands": commands, **times, **_scores(options.runs / row.run)}
            write_json(results, {**found, **done})
    text = markdown.table(HEADER, [line(row, done) for row in rows if row.name in done])
    print(text)
    if options.document:
        markdown.replace_block(options.document, "gains", text, "What each step gains")
    return 0


def read(path: Path, runs: Path) -> list[Row]:
    """Read the steps. Raises UsageError naming the field that is missing or wrong."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        base, nodes = content["base"], content["rows"]
        rows: list[Row] = []
        for node in nodes:
            texts = [text.replace("{base}", base).replace("{runs}", str(runs)) for text in node["commands"]]
            commands = tuple(tuple(text.split()) for text in texts)
            before = rows[-1].name if rows else None
            rows.append(Row(node["name"], commands, node["run"], node.get("over", before), node.get("more", False)))
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: cannot be read ({error})") from error
    except (TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"{path}: base and rows with name, commands and run are needed ({error!r})") from error
    names = [row.name for row in rows]
    for row in rows:
        if row.over is not None and row.over not in names:
            raise UsageError(f"{path}: {row.name}: over: there is no row {row.over!r}")
    return rows


def histories(rows: Sequence[Row]) -> Iterator[tuple[Row, list[str]]]:
    """Each row with all commands up to its own, whose runs its own may use; those of further rows count among these."""
    plain: list[str] = []
    more: list[str] = []
    for row in rows:
        mine = more if row.more else plain
        mine += [" ".join(command) for command in row.commands]
        yield row, [*plain, *more] if row.more else list(plain)


def _run(row: Row) -> tuple[float, float]:
    """Run a row's commands one after the other; the seconds they took together, and those that cores worked on them.

    Other work on the machine makes the first longer and leaves the second nearly as it is.
    """
    start, before = time.perf_counter(), _core_seconds()
    for command in row.commands:
        if subprocess.run([sys.executable, "-m", "bonepipe", *command], check=False).returncode:
            raise BonepipeError(f"{row.name}: `bonepipe {' '.join(command)}` failed (see above); mend it and go on")
    return time.perf_counter() - start, _core_seconds() - before


def _core_seconds() -> float:
    """Processor seconds, summed over cores, of all commands that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _scores(run: Path) -> dict[str, float]:
    path = run / "scores.json"
    try:
        content = json.loads(path.read_text())
        return {key: float(content[key]) for key in SCORES if key in content}
    except (OSError, ValueError, TypeError) as error:
        raise BonepipeError(f"{path}: no scores ({error}); the row's commands must write them") from error


def line(row: Row, done: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """A line of the table; `-` where a score is not known."""
    here, there = done[row.name], done.get(row.over or "", {})
    values = [f"{here[key]:.4f}" if key in here else "-" for key in SCORES]
    gains = [
        f"{here[key] - there[key]:+.4f}" if key in here and key in there else "-" for key in ("oof_dice", "test_dice")
    ]
    minutes = [f"{here[key] / 60:.1f}" if key in here else "-" for key in ("seconds", "core_seconds")]
    return row.name, *values, *gains, row.over or "", *minutes
