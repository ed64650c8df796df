"""The resolution ceiling: what a training size costs even a perfect network."""

import numpy as np

from bonepipe.data.survey import Survey
from bonepipe.report import charts
from bonepipe.report.page import Chart, Section

ENOUGH = 0.99  # Dice of the smallest size that is recommended


def section(survey: Survey, size: int) -> Section | None:
    """The ceilings; None where nothing is annotated.

    Args:
        size: longer side of the training size, pixels.
    """
    ceilings = survey.stacked("ceilings")
    if not len(ceilings) or not np.isfinite(ceilings).any():
        return None
    largest = float(np.max(survey.shapes))
    below = sum(side < largest for side in survey.sizes)
    shown = list(range(min(below + 1, len(survey.sizes))))  # the first size that loses nothing is the last shown
    sizes = [survey.sizes[at] for at in shown]
    by_class = np.array([[_mean(ceilings[:, at, label]) for at in shown] for label in range(len(survey.classes))])
    there = np.isfinite(by_class).all(1)
    mean = by_class[there].mean(0)
    names = [name for name, known in zip(survey.classes, there, strict=True) if known]
    order = np.argsort(by_class[there].min(1), kind="stable")
    lines = charts.lines(
        {"mean of the classes": (sizes, mean), f"worst class ({names[order[0]]})": (sizes, by_class[there][order[0]])},
        "training size, pixels", "best possible Dice", markers=True, height=340,
    )  # fmt: skip
    lines.update_xaxes(tickvals=sizes)
    heat = charts.heat_map([names[index] for index in order], [f"{side} px" for side in sizes],
                           by_class[there][order], digits=4, ranks=True)  # fmt: skip
    parts = [
        Chart("Best possible Dice by training size", _advice(sizes, mean, largest), lines),
        Chart("By class", f"The worst on top: at {sizes[0]} pixels {names[order[0]]} cannot score more than "
              f"{by_class[there][order[0], 0]:.3f}, whatever the network.", heat),
    ]  # fmt: skip
    return Section("Resolution ceiling", _summary(survey, size, ceilings, largest), parts)


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def _summary(survey: Survey, size: int, ceilings: np.ndarray, largest: float) -> str:
    at = _mean(ceilings[:, survey.sizes.index(size)])
    what = (
        "Outlines are drawn at the size of the files. A network that sees smaller images answers in larger pixels, and "
        "even a perfect answer loses Dice at the outlines. "
    )
    if size >= largest:
        return f"{what}At data.size={size} nothing is lost: no image is larger."
    return f"{what}At data.size={size} the best possible Dice is {at:.4f}: {1 - at:.4f} is lost before training begins."


def _advice(sizes: list[int], mean: np.ndarray, largest: float) -> str:
    enough = [side for side, dice in zip(sizes, mean, strict=True) if dice >= ENOUGH]
    steps = ", ".join(f"{dice:.4f} at {side}" for side, dice in zip(sizes, mean, strict=True))
    there = f"the images have up to {largest:.0f}"
    if enough:
        return f"{steps}. From {enough[0]} pixels on less than {1 - ENOUGH:.0%} is lost; {there}."
    return f"{steps}. Each of these sizes costs more than {1 - ENOUGH:.0%}; {there}."
