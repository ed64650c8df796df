"""The history of a training on the dashboard: what is drawn against what, in which order, and what is left of it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bonepipe.errors import BonepipeError, reason
from bonepipe.files import read_csv

STEPS = "steps.csv"  # beside metrics.csv: a few rows an epoch

Row = Mapping[str, float]

# Metric -> arguments of W&B's `define_metric`; W&B's own count of rows is an axis of nothing.
AXES: dict[str, dict[str, Any]] = {
    "epoch": {"hidden": True},
    "images_seen": {"hidden": True},
    **{key: {"step_metric": "epoch"} for key in ("val/*", "train/*", "time/*", "lr", "seconds", "trainer/global_step")},
    "val/dice": {"step_metric": "epoch", "summary": "max,last"},
    "train/loss": {"step_metric": "epoch", "summary": "min,last"},
    "steps/*": {"step_metric": "images_seen"},
}


def told_rows(epochs: Sequence[Row], steps: Sequence[Row]) -> Iterator[dict[str, float]]:
    """The rows of a training in the one order in which they are always told: an epoch's steps, then the epoch.

    Epochs count from 1, as on the screen. Steps of an epoch that is not finished are left out: it will be repeated.

    Args:
        epochs: as metrics.csv holds them.
        steps: as steps.csv holds them, in order.
    """
    by_epoch: dict[int, list[Row]] = {}
    for row in steps:
        by_epoch.setdefault(int(row["epoch"]), []).append(row)
    for row in epochs:
        for step in by_epoch.get(int(row["epoch"]), ()):
            inner = {f"steps/{key}": step[key] for key in step.keys() - {"epoch", "images_seen"}}
            yield {"images_seen": int(step["images_seen"]), **inner}
        metrics = {key: row[key] for key in row.keys() - {"epoch", "step"}}
        yield {"epoch": int(row["epoch"]) + 1, "trainer/global_step": int(row["step"]), **metrics}


def extremes(epochs: Sequence[Row]) -> dict[str, dict[str, float]]:
    """The summary that `AXES` asks for, over all epochs: W&B itself knows of those since it was started."""
    summary = {}
    for name, about in AXES.items():
        values = [row[name] for row in epochs if name in row]
        if "summary" in about and values:
            kinds = {"min": min(values), "max": max(values), "last": values[-1]}
            summary[name] = {kind: kinds[kind] for kind in about["summary"].split(",")}
    return summary


def read_rows(path: Path) -> list[dict[str, float]]:
    """The rows of a metrics.csv or steps.csv, without what was not measured; none where there is no file.

    Raises:
        BonepipeError: the file cannot be read, or holds something else than numbers.
    """
    if not path.is_file():
        return []
    try:
        return [{key: float(value) for key, value in row.items() if value} for _, row in read_csv(path, ("epoch",))]
    except ValueError as error:
        raise BonepipeError(f"{path}: cannot be read ({reason(error)})") from error
