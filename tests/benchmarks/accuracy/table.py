"""The rows that are measured, and the document that they make."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bonepipe.files import read_csv, write_csv
from bonepipe.report import markdown
from bonepipe.report.ablation import gain, score

from .place import Job

COLUMNS = ("set", "recipe", "job", "minutes", "seed", "system", "images", "dice", "seconds")
TARGETS = {
    "pipeline: one model": 0.02,
    "pipeline: one model, views and thresholds": 0.03,
    "pipeline: five folds, views and thresholds": 0.05,
}
Row = Mapping[str, str]


class Rows:
    """What was measured, in a CSV that is written anew with every row.

    Attributes:
        path: of the file.
        all: its rows; `recipe` is empty for the default recipe, or the label of one that was tried.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.all: list[Row] = [row for _, row in read_csv(path, COLUMNS)] if path.is_file() else []

    def has(self, set_name: str, job: Job, recipe: str) -> bool:
        """Whether a job has been done."""
        asked = (set_name, recipe, job.system, f"{job.minutes:g}", str(job.seed))
        return any(tuple(row[key] for key in COLUMNS[:5]) == asked for row in self.all)

    def add(self, set_name: str, job: Job, recipe: str, measured: Iterable[Mapping[str, Any]]) -> None:
        """Keep what a job measured."""
        for row in measured:
            values = (
                set_name, recipe, job.system, f"{job.minutes:g}", job.seed, row["system"], row["images"],
                f"{row['dice']:.4f}", f"{row['seconds']:.0f}",
            )  # fmt: skip
            self.all.append(dict(zip(COLUMNS, map(str, values), strict=True)))
        write_csv(self.path, COLUMNS, ([row[key] for key in COLUMNS] for row in self.all))

    @property
    def last(self) -> str:
        """The last row, for the screen."""
        return ", ".join(self.all[-1].values())


def document(rows: Rows, path: Path) -> None:
    """Write the table of the default recipe between the document's markers."""
    default = [row for row in rows.all if not row["recipe"]]
    lines = [
        line
        for key in sorted({(row["set"], float(row["minutes"])) for row in default})
        for line in _lines(default, key)
    ]
    header = ("set", "minutes", "system", "images seen", "test Dice", "before the script", "target", "met")
    markdown.replace_block(path, "versus", markdown.table(header, lines), "Accuracy")


def _lines(rows: Sequence[Row], key: tuple[str, float]) -> list[list[str]]:
    here = [row for row in rows if (row["set"], float(row["minutes"])) == key]
    by_system = {name: _by_seed(here, name) for name in dict.fromkeys(row["system"] for row in here)}
    script = _best([dice for name, dice in by_system.items() if name.startswith("script")])
    lines = []
    for name, dice in by_system.items():
        images = next(row["images"] for row in here if row["system"] == name)
        paired = () if name.startswith("script") else dice.keys() & script.keys()
        gains = np.array([dice[seed] - script[seed] for seed in sorted(paired)])
        compared = [gain(gains)[0], *_judged(gains, TARGETS.get(name))] if len(gains) else ["", "", ""]
        lines.append([key[0], f"{key[1]:g}", name, images, score(list(dice.values())), *compared])
    return lines


def _judged(gains: np.ndarray, target: float | None) -> tuple[str, str]:
    """The target, and whether the gain less its standard error, where there are several seeds, reaches it."""
    if target is None:
        return "", ""
    error = np.std(gains, ddof=1) / len(gains) ** 0.5 if len(gains) > 1 else 0.0
    return f"{target:+.2f}", "yes" if np.mean(gains) - error >= target else "**no**"


def _by_seed(rows: Sequence[Row], system: str) -> dict[str, float]:
    return {row["seed"]: float(row["dice"]) for row in rows if row["system"] == system}


def _best(of_scripts: Sequence[dict[str, float]]) -> dict[str, float]:
    """The scores by seed of the script with the rate that is best on average."""
    return max(of_scripts, key=lambda dice: np.mean(list(dice.values())), default={})
