"""What a run costs: time of its parts, memory, parameters, operations."""

import numpy as np

from bonepipe.report import charts
from bonepipe.report.page import Cell, Chart, Part, Section, Table
from bonepipe.report.run.results import Results, Rows

PARTS = {
    "time/data_wait_ms": "waiting for data",
    "time/forward_backward_ms": "forward and backward",
    "time/rest_ms": "the rest",
}


def section(results: Results) -> Section | None:
    """Time, memory and size; None where nothing was measured."""
    seconds = {fold: training_seconds(rows) for fold, rows in results.histories.items() if rows}
    parts = [*_time(seconds), *_step(results), *_table(results)]
    if not parts:
        return None
    total = sum(seconds.values())
    says = f"All folds trained for {_span(total)}. " if total else ""
    return Section("Costs", says + _size(results), parts)


def training_seconds(rows: Rows) -> float:
    """How long a fold was trained."""
    return sum(row.get("seconds", 0.0) for row in rows)


def _span(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds > 5400 else f"{seconds / 60:.1f} minutes"


def _size(results: Results) -> str:
    model = results.model
    if "cost/parameters" not in model:
        return ""
    operations = f" and {model['cost/gflops']:.1f} GFLOPs an image at training size" if "cost/gflops" in model else ""
    return f"The network has {model['cost/parameters'] / 1e6:.1f} million parameters{operations}."


def _time(seconds: dict[int, float]) -> list[Part]:
    if not seconds:
        return []
    chart = charts.bars([f"fold {fold}" for fold in seconds], [value / 60 for value in seconds.values()],
                        "minutes of training", digits=1)  # fmt: skip
    return [Chart("Training time", "Folds take about the same unless something else ran beside them.", chart)]


def _step(results: Results) -> list[Part]:
    """What a training step spends its time with."""
    rows = [row for history in results.histories.values() for row in history]
    known = {name: [row[key] for row in rows if key in row] for key, name in PARTS.items()}
    spent = {name: float(np.median(values)) for name, values in known.items() if values}
    if not spent:
        return []
    share = spent.get("waiting for data", 0.0) / max(sum(spent.values()), 1e-9)
    verdict = "the loader holds the network up: more trainer.workers" if share > 0.2 else "the network sets the pace"
    says = f"Median of the epochs. Waiting for data takes {share:.0%} of a step: {verdict}."
    return [Chart("A training step", says, charts.bars([*spent], [*spent.values()], "milliseconds", digits=0))]


def _table(results: Results) -> list[Part]:
    rows: list[list[Cell]] = []
    for fold, costs in results.costs.items():
        memory, inference = costs.get("peak_memory"), costs.get("seconds_an_image")
        rows.append([
            f"fold {fold}", costs.get("device", ""), None if inference is None else 1000 * float(inference),
            None if memory is None else float(memory) / 2**30,
        ])  # fmt: skip
    if not rows:
        return []
    columns = ["fold", "device", "prediction, ms an image", "most memory, GiB"]
    return [Table("Prediction and memory", "All views of test-time augmentation included.", columns, rows, digits=2)]
