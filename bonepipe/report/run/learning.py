"""Learning curves, the folds as a band."""

from collections.abc import Mapping

import numpy as np

from bonepipe.report import charts
from bonepipe.report.page import Chart, Part, Section
from bonepipe.report.run.results import Results, Rows

DICE, LOSS = "val/dice", "train/loss"
SETTLED = 0.002  # Dice gained in the last quarter, or lost since the best epoch, up to which a training has settled


def section(results: Results) -> Section | None:
    """The curves; None where no training is at hand, as in an ensemble."""
    if not any(results.histories.values()):
        return None
    return Section(
        "Learning",
        _verdict(results.histories),
        [*_chart(results, DICE, "Dice in validation"), *_chart(results, LOSS, "Loss in training")],
    )


def curve(histories: Mapping[int, Rows], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Epochs, counted from 1, at which any fold has a value, and the folds' values `[F, E]`; NaN where it has none."""
    known = [{int(row["epoch"]) + 1: row[key] for row in rows if key in row} for rows in histories.values() if rows]
    epochs = sorted({epoch for fold in known for epoch in fold})
    return np.array(epochs), np.array([[fold.get(epoch, np.nan) for epoch in epochs] for fold in known], float)


def common(epochs: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of a `curve` the epochs at which all folds have a value: a mean over others would be one of other folds."""
    together = np.isfinite(values).all(0)
    return epochs[together], values[:, together]


def _chart(results: Results, key: str, title: str) -> list[Part]:
    any_epochs, known = curve(results.histories, key)
    epochs, values = common(any_epochs, known)
    if not epochs.size:
        return []
    mean, low, high = values.mean(0), values.min(0), values.max(0)
    chart = charts.lines(
        {"mean": (epochs, mean)}, "epoch", title, bands={"mean": (low, high)}, markers=len(epochs) < 20
    )
    last = f"ends at {mean[-1]:.4f}, folds between {low[-1]:.4f} and {high[-1]:.4f}"
    says = f"The line is the mean of {len(values)} folds, the band spans them; it {last}." if len(values) > 1 else (
        f"One fold; it ends at {mean[-1]:.4f}."
    )  # fmt: skip
    if len(epochs) < len(any_epochs):
        says += " Epochs that not all folds have reached are left out."
    return [Chart(title, says, chart)]


def _verdict(histories: Mapping[int, Rows]) -> str:
    """Whether more epochs, or fewer, would help."""
    epochs, values = common(*curve(histories, DICE))
    if len(epochs) < 3:
        return "Too few validations to tell whether longer training would gain."
    mean = values.mean(0)
    best = int(mean.argmax())
    lost = float(mean[best] - mean[-1])
    if lost > SETTLED:
        return (
            f"Dice was highest at epoch {epochs[best]:g} and has lost {lost:.4f} since: the network learns its images "
            "by heart. Stronger augmentation (augment=geometric, strong) or fewer epochs (trainer.epochs) may pay."
        )
    before = mean[epochs <= 0.75 * epochs[-1]]
    gained = float(mean[-1] - before[-1]) if before.size else 0.0
    if gained > SETTLED:
        return f"The last quarter of the training still gained {gained:.4f}: longer training (trainer.epochs) may pay."
    return (
        f"The last quarter of the training gained {gained:+.4f}: it has settled; longer training alone will not help."
    )
