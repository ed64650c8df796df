"""Dice by class and fold, by size of the object and by stratum."""

from collections.abc import Iterator

import numpy as np

from bonepipe.labels.dice import dice_by_size
from bonepipe.report import charts
from bonepipe.report.page import Chart, Part, Section
from bonepipe.report.run.results import Results

UNLIKE = 2.5  # times the usual spread between folds, from which one is called bad


def section(results: Results) -> Section:
    """Where Dice is lost."""
    order, mean = results.worst_first, results.dice.mean(0)
    worst, best = order[0], order[-1]
    lost, few = 1 - mean, order[: max(1, len(order) // 5)]
    share = lost[few].sum() / max(lost.sum(), 1e-9)
    who = f"worst {len(few)} of {len(order)} classes make" if len(few) > 1 else "former makes"
    says = (
        f"At threshold 0.5 {results.classes[worst]} is worst ({mean[worst]:.3f}), {results.classes[best]} best "
        f"({mean[best]:.3f}), whatever thresholds were chosen in the end. The "
        f"{who} up {share:.0%} of what is lost."
    )
    return Section("Dice by class", says, [_heat(results), *_sizes(results), *_strata(results)])


def _heat(results: Results) -> Part:
    """A class is a row, a fold a column."""
    order, cells = results.worst_first, results.by_fold
    columns = [*(f"fold {fold}" for fold in results.numbers), "all images"]
    if len(results.numbers) == 1:
        columns, cells = ["all images"], cells[:0]
    table = np.column_stack([*cells[:, order], results.dice.mean(0)[order]])
    chart = charts.heat_map([results.classes[index] for index in order], columns, table, ranks=True, title="Dice")
    says = "At threshold 0.5, worst class first; colours by rank. A class that is hard everywhere is an orange row, "
    return Chart("Dice by class and fold", says + _folds(results), chart, wide=len(columns) > 1)


def _folds(results: Results) -> str:
    means = results.by_fold.mean(1)
    if len(means) < 2:
        return "a bad fold would be a column; here there is one fold."
    low, spread = int(means.argmin()), float(means.std(ddof=1))
    told = f"a bad fold an orange column: folds lie {spread:.4f} around {means.mean():.4f} (standard deviation)"
    return f"{told}, lowest fold {results.numbers[low]} with {means[low]:.4f}."


def _sizes(results: Results) -> Iterator[Part]:
    """By thirds of all objects, and by class."""
    thirds = dice_by_size(results.dice, results.areas)
    if len(thirds) > 1:
        first, *_, last = thirds.values()
        gap = "above" if first > last else "below"
        says = f"Thirds of all objects by true area: the small ones lie {abs(first - last):.3f} {gap} the large ones."
        chart = charts.dots([*thirds], [*thirds.values()], "Dice")
        yield Chart("Dice by size of the object", says, chart)
    areas, mean = results.areas, results.dice.mean(0)
    middle = np.array([np.median(column[column > 0]) if (column > 0).any() else np.nan for column in areas.T])
    known = np.isfinite(middle)
    differ = known.sum() > 2 and np.ptp(mean[known].round(3)) > 0  # else the order of the rest says nothing
    rho = np.corrcoef(np.log(middle[known]), mean[known])[0, 1] if differ else 0.0
    words = (
        "Larger classes do better" if rho > 0.4 else "Larger classes do worse" if rho < -0.4 else "Size explains little"
    )
    says = f"{words} (correlation {np.nan_to_num(rho):+.2f}). What lies below others of its size is hard otherwise."
    chart = charts.points({"classes": (middle, np.round(mean, 4), results.classes)}, "", "Dice")
    chart.update_xaxes(**charts.log_axis("median area, pixels (log)", middle))
    yield Chart("Dice and size of the class", says, chart)


def _strata(results: Results) -> Iterator[Part]:
    rows = {name: row for name, row in results.scores.get("strata", {}).items() if row["dice"] is not None}
    if len(rows) < 2:
        return
    worst = min(rows, key=lambda name: rows[name]["dice"])
    says = (
        f"{worst} is the hardest stratum: {rows[worst]['share']:.0%} of the images here, "
        f"{rows[worst]['test_share']:.0%} of the test set. "
    )
    if "oof_dice_weighted" in results.scores:
        says += f"Weighted to the test set's mix the Dice is {results.scores['oof_dice_weighted']:.4f}."
    names = [f"{name} ({row['images']} images)" for name, row in rows.items()]
    values = [row["dice"] for row in rows.values()]
    yield Chart("Dice by stratum", says, charts.dots(names, values, "Dice"))
