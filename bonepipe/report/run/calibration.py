"""What a probability is worth."""

import numpy as np

from bonepipe.labels.histogram import BINS, FLOOR_BIN, FOREGROUND
from bonepipe.report import charts
from bonepipe.report.page import Chart, Section
from bonepipe.report.run.results import Results

GROUP = 9  # bins together: 27 groups from FLOOR on
LEAST = 50  # pixels of a group that counts


def section(results: Results) -> Section:
    """How often pixels of a probability belong to their class, out of fold."""
    counts = results.counts.sum(0)[:, :, FLOOR_BIN:]
    pooled, said = shares(counts.sum(0))
    off = error(counts.sum(0))
    by_class = [error(of_class) for of_class in counts]
    direction = "too low" if np.nansum(pooled - said) > 0 else "too high"
    says = (
        f"Where a network says p, the class is there more or less often than that: it is off by {off:.2f} on average, "
        f"and mostly {direction}. Dice does not mind; pseudo-labels, ensembles of different losses and people who read "
        "probabilities do."
    )
    lines = {"all classes": (said, pooled), "as it should be": (np.array([0, 1]), np.array([0, 1]))}
    chart = charts.lines(lines, "predicted probability", "share of the pixels that belong to the class", height=400)
    chart.update_traces(line={"dash": "dot", "width": 1, "color": charts.FAINT}, selector={"name": "as it should be"})
    order = np.argsort(by_class)[::-1]
    bars = charts.bars(
        [results.classes[index] for index in order], np.array(by_class)[order], "mean error of the probability"
    )
    return Section("Calibration", says, [
        Chart("Reliability", "Above the dotted line a network is too careful, below it too sure. Pixels below 0.05 do "
              "not count: they are background nearly everywhere.", chart),
        Chart("By class", "Expected calibration error: 0 where probabilities can be taken at their word.", bars),
    ])  # fmt: skip


def shares(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of foreground, and mean probability, of groups of bins, from counts `[2, B]`; NaN where few pixels are."""
    total, there, said = _grouped(counts)
    return np.where(total >= LEAST, there / np.maximum(total, 1), np.nan), said


def error(counts: np.ndarray) -> float:
    """Expected calibration error (Guo et al. 2017, equation 3) of counts `[2, B]` from FLOOR on."""
    total, there, said = _grouped(counts)
    return float(np.abs(there - said * total).sum() / max(total.sum(), 1))


def _grouped(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels of each group, those of the foreground, and their mean probability, by the middles of the bins.

    Where a group has no pixels its own middle stands for them.
    """
    starts, pixels = np.arange(0, counts.shape[-1], GROUP), counts.sum(0)
    middles = (FLOOR_BIN + np.arange(counts.shape[-1]) + 0.5) / BINS
    total, there, said = (np.add.reduceat(v, starts) for v in (pixels, counts[FOREGROUND], pixels * middles))
    ends = np.append(starts[1:], counts.shape[-1])
    empty = (FLOOR_BIN + (starts + ends) / 2) / BINS
    return total, there, np.where(total > 0, said / np.maximum(total, 1), empty)
