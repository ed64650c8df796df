"""The figures: what was tried, how often, and what went wrong, in docs/reliability.md."""

import csv
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import bonepipe
from bonepipe.files import append_csv, write_csv
from bonepipe.report import markdown

from .trials import Outcome, Trial

COLUMNS = ("kind", "title", "struck", "fault")
HEADER = ("what", "commands", "trials", "met a running command", "lost, different or misspoken")


class Journal:
    """What became of trials, so that what was interrupted goes on.

    Args:
        path: a CSV; one row a trial.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, []
        if path.is_file():
            with path.open(newline="") as file:
                self.rows = [tuple(row.values()) for row in csv.DictReader(file)]
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_csv(path, COLUMNS, [])

    def __contains__(self, trial: Trial) -> bool:
        return any(row[:2] == (trial.kind, trial.title) for row in self.rows)

    def add(self, trial: Trial, outcome: Outcome) -> None:
        """Note a trial."""
        row = (trial.kind, trial.title, "yes" if outcome.struck else "", " ".join(outcome.fault.split()))
        append_csv(self.path, [row])
        self.rows.append(row)


def faults(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """A line for each trial that went wrong."""
    return (f"{kind}: {title}: {fault}" for kind, title, _, fault in rows if fault)


def render(rows: Sequence[tuple[str, ...]]) -> str:
    """Markdown: a row a kind, then all."""
    kinds = list(dict.fromkeys(row[0] for row in rows))
    lines = [_line(kind, [row for row in rows if row[0] == kind]) for kind in kinds]
    return markdown.table(HEADER, [*lines, _line("all", rows)])


def _line(what: str, rows: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    commands = len({title.rpartition(":")[0].partition(":")[0] for _, title, _, _ in rows})
    struck, wrong = (sum(bool(row[column]) for row in rows) for column in (2, 3))
    return what, str(commands), f"{len(rows):,}", f"{struck:,}", f"{wrong:,}"


def write(path: Path, rows: Sequence[tuple[str, ...]], note: str) -> None:
    """Replace what lies between the markers; the rest of the file stays."""
    markdown.replace_block(path, "torture", f"{note}\n\n{render(rows)}", "Reliability")


def version() -> str:
    """Of all that is tried: a change of a source file makes earlier trials worth nothing."""
    content = hashlib.sha256()
    for package in (Path(bonepipe.__file__).parent, Path(__file__).parent):
        for path in sorted(package.rglob("*.py")):
            content.update(path.read_bytes())
    return content.hexdigest()[:8]


def machine() -> str:
    """What it ran on."""
    import torch

    return f"{os.cpu_count()} cores, Linux {os.uname().release.split('-')[0]}, torch {torch.__version__}"
