"""The rows that are measured, and the document that they make."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bonepipe.files import read_csv, write_csv
from bonepipe.report import markdown
from bonepipe.report.ablation import gain, score

from .place import RATES, Job, Speed

COLUMNS = ("set", "change", "job", "minutes", "seed", "system", "images", "dice", "seconds")
SPEED_COLUMNS = ("set", "change", "system", "training", "prediction")
TARGETS = {
    "pipeline: one model": 0.02,
    "pipeline: one model, two views": 0.03,
    "pipeline: five folds, views and thresholds": 0.05,
}
Row = Mapping[str, str]


class Rows:
    """What was measured, in a CSV that is written anew with every row.

    Attributes:
        path: of the file.
        all: its rows; `change` names the settings that were tried, none for the default recipe.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.all: list[Row] = [row for _, row in read_csv(path, COLUMNS)] if path.is_file() else []

    def lacks(self, set_name: str, job: Job, change: str) -> bool:
        """Whether a job is still to be done: once a rate of the script has won with a seed, other seeds take that."""
        asked = (set_name, change, f"{job.minutes:g}")
        same = [row for row in self.all if (row["set"], row["change"], row["minutes"]) == asked]
        if any((row["job"], row["seed"]) == (job.system, str(job.seed)) for row in same):
            return False
        scripts = [row for row in same if row["job"].startswith("script")]
        if not job.system.startswith("script") or len({row["job"] for row in scripts}) < len(RATES):
            return True
        return max(scripts, key=lambda row: float(row["dice"]))["job"] == job.system

    def add(self, set_name: str, job: Job, change: str, measured: Iterable[Mapping[str, Any]]) -> None:
        """Keep what a job measured."""
        for row in measured:
            values = (
                set_name, change, job.system, f"{job.minutes:g}", job.seed, row["system"], row["images"],
                f"{row['dice']:.4f}", f"{row['seconds']:.0f}",
            )  # fmt: skip
            self.all.append(dict(zip(COLUMNS, map(str, values), strict=True)))
        write_csv(self.path, COLUMNS, ([row[key] for key in COLUMNS] for row in self.all))

    @property
    def last(self) -> str:
        """The last row, for the screen."""
        return ", ".join(self.all[-1].values())


class Speeds:
    """How fast systems are, alone on one machine, in a CSV that is written anew with every one.

    They stay when rows are measured elsewhere, so that a budget of minutes is equally many images everywhere.

    Attributes:
        path: of the file.
        all: by set, change and system.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        read = read_csv(path, SPEED_COLUMNS) if path.is_file() else []
        self.all: dict[tuple[str, str, str], Speed] = {
            (row["set"], row["change"], row["system"]): Speed(float(row["training"]), float(row["prediction"]))
            for _, row in read
        }

    def pace(self, set_name: str, change: str, system: str) -> float | None:
        """Images a second that a system (`pipeline`: with any view) trains on; None where it was not measured."""
        for key, speed in self.all.items():
            if key[:2] == (set_name, change) and key[2].split(":")[0] == system:
                return speed.training
        return None

    def add(self, set_name: str, change: str, measured: Mapping[str, Speed]) -> None:
        """Keep how fast systems were."""
        self.all |= {(set_name, change, system): speed for system, speed in measured.items()}
        lines = ((*key, f"{speed.training:.6g}", f"{speed.prediction:.3g}") for key, speed in self.all.items())
        write_csv(self.path, SPEED_COLUMNS, lines)


def document(rows: Rows, speeds: Speeds, path: Path) -> None:
    """Write the tables of the default recipe, of speeds and of changes between the document's markers."""
    default = [row for row in rows.all if not row["change"]]
    keys = sorted({(row["set"], float(row["minutes"])) for row in default})
    lines = [line for key in keys for line in _lines(default, key)]
    header = ("set", "minutes", "system", "images seen", "test Dice", "before the script", "target", "met")
    markdown.replace_block(path, "versus", markdown.table(header, lines), "Accuracy")
    told = sorted(
        (*key[::2], f"{speed.training:.1f}", f"{1000 * speed.prediction:.0f}")
        for key, speed in speeds.all.items()
        if not key[1]
    )
    header = ("set", "system", "images a second in training", "prediction of an image, ms")
    markdown.replace_block(path, "speeds", markdown.table(header, told), "Accuracy")
    if len(default) < len(rows.all):
        markdown.replace_block(path, "changes", changes(rows.all), "Accuracy")


def changes(rows: Sequence[Row]) -> str:
    """What each change gained on each set, one model of it against one of the default recipe with the same seed."""
    models = [row for row in rows if row["system"] == "pipeline: one model"]
    sets = list(dict.fromkeys(row["set"] for row in models))
    tried = dict.fromkeys((row["change"], row["minutes"]) for row in models if row["change"])
    lines = [[f"`{change}`", minutes, *_gained(models, change, minutes, sets)] for change, minutes in tried]
    return markdown.table(("change", "minutes", *sets, "mean of the sets"), lines)


def _gained(models: Sequence[Row], change: str, minutes: str, sets: Sequence[str]) -> list[str]:
    here = [row for row in models if row["minutes"] == minutes]
    by_set = {name: _paired(here, change, name) for name in sets}
    means = [gains.mean() for gains in by_set.values() if len(gains)]
    cells = [gain(gains)[0] if len(gains) else "" for gains in by_set.values()]
    return [*cells, f"{np.mean(means):+.4f}" if len(means) == len(sets) else ""]


def _paired(rows: Sequence[Row], change: str, set_name: str) -> np.ndarray:
    """Differences of a change from the default recipe on a set, float64 `[S]` by common seed."""
    dice = {
        label: {row["seed"]: float(row["dice"]) for row in rows if (row["set"], row["change"]) == (set_name, label)}
        for label in ("", change)
    }
    return np.array([dice[change][seed] - dice[""][seed] for seed in sorted(dice[""].keys() & dice[change].keys())])


def _lines(rows: Sequence[Row], key: tuple[str, float]) -> list[list[str]]:
    here = [row for row in rows if (row["set"], float(row["minutes"])) == key]
    by_system = {name: _by_seed(here, name) for name in dict.fromkeys(row["system"] for row in here)}
    scripts = [dice for name, dice in by_system.items() if name.startswith("script")]
    script = _best(scripts) if len(scripts) == len(RATES) else {}  # before, its rate is not tuned
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
    """The scores by seed of the script with the rate that won: the others have fewer seeds, or lower scores."""
    return max(of_scripts, key=lambda dice: (len(dice), np.mean(list(dice.values()))), default={})
