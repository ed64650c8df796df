"""The resolution ceiling: what a training size costs even a perfect network."""

from collections.abc import Sequence

import numpy as np

from bonepipe.data.spec import DataSpec
from bonepipe.data.survey import SIZES, Survey
from bonepipe.report import charts
from bonepipe.report.page import Chart, Section

ENOUGH = 0.99  # Dice of the smallest size that is recommended
NOTHING = 5e-5  # Dice, less than what is written


def section(survey: Survey, spec: DataSpec) -> Section | None:
    """The ceilings; None where nothing is annotated.

    Args:
        survey: of the dataset's images.
        spec: its form, which has the training size and the part of the image that training sees.
    """
    ceilings, trained = class_means(survey.stacked("ceilings")), class_means(survey.stacked("trained"))
    there = np.isfinite(ceilings).all(0)
    if not there.any():
        return None
    ceilings, trained = ceilings[:, there], trained[there]
    largest = float(np.max(survey.shapes))
    below = sum(side < largest for side in SIZES)
    sizes = list(SIZES[: below + 1])  # the first size that loses nothing is the last shown
    shown, mean = ceilings[: len(sizes)], ceilings[: len(sizes)].mean(1)
    names = [name for name, known in zip(survey.classes, there, strict=True) if known]
    order = np.argsort(shown.min(0), kind="stable")
    worst = names[order[0]]
    curves = {"mean of the classes": (sizes, mean), f"worst class ({worst})": (sizes, shown[:, order[0]])}
    if spec.region is None:
        curves[told_size(spec)] = ([max(spec.shape)], np.array([np.nanmean(trained)]))
    lines = charts.lines(curves, "longer side of a training image, pixels", "best possible Dice", markers=True,
                         height=340)  # fmt: skip
    lines.update_xaxes(tickvals=sorted({*sizes, *([] if spec.region else [max(spec.shape)])}))
    columns = [told_size(spec), *(f"{side} px" for side in sizes)]
    heat = charts.heat_map([names[index] for index in order], columns, np.vstack([trained, shown]).T[order],
                           digits=4, ranks=True)  # fmt: skip
    parts = [
        Chart("Best possible Dice by training size", _advice(sizes, mean, largest), lines),
        Chart("By class", f"The worst on top: of whole images at {sizes[0]} pixels {worst} cannot score more than "
              f"{shown[0, order[0]]:.3f}, whatever the network.", heat),
    ]  # fmt: skip
    return Section("Resolution ceiling", _summary(spec, trained), parts)


def told_size(spec: DataSpec) -> str:
    """The training size as it is set."""
    return f"data.size={spec.size}" if isinstance(spec.size, int) else "data.size=[{}, {}]".format(*spec.size)


def class_means(values: np.ndarray) -> np.ndarray:
    """Means over images `[N, ..., C]` of what is known, `[..., C]`; NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(0)
    return np.where(count > 0, np.where(known, values, 0).sum(0) / np.maximum(count, 1), np.nan)


def _summary(spec: DataSpec, trained: np.ndarray) -> str:
    what = (
        "Outlines are drawn at the size of the files. A network that sees smaller images answers in larger pixels, and "
        "even a perfect answer loses Dice at the outlines. "
    )
    if not np.isfinite(trained).any():
        return f"{what}Nothing that is learned is annotated."
    where = told_size(spec) + ("" if spec.region is None else " and in the crops of data.region")
    lost = 1 - float(np.nanmean(trained))
    if lost < NOTHING:
        return f"{what}At {where} nothing is lost."
    return f"{what}At {where} the best possible Dice is {1 - lost:.4f}: {lost:.4f} is lost before training begins."


def _advice(sizes: Sequence[int], mean: np.ndarray, largest: float) -> str:
    enough = [side for side, dice in zip(sizes, mean, strict=True) if dice >= ENOUGH]
    steps = ", ".join(f"{dice:.4f} at {side}" for side, dice in zip(sizes, mean, strict=True))
    there = f"the images have up to {largest:.0f}"
    if enough:
        return f"Whole images: {steps}. From {enough[0]} pixels on less than {1 - ENOUGH:.0%} is lost; {there}."
    return f"Whole images: {steps}. Each of these sizes costs more than {1 - ENOUGH:.0%}; {there}."
