"""Train against test: in what the images differ."""

from collections.abc import Sequence

import numpy as np

from bonepipe.data.shift import Shift, shifts
from bonepipe.data.survey import Survey, Surveyed
from bonepipe.report import charts
from bonepipe.report.page import Chart, Part, Section

SHOWN, LEAST = 4, 2  # traits that differ, at most, with a chart of their own; so many where none does


def section(survey: Survey, *, wrists: bool) -> Section | None:
    """The shift; None where a part has too few images.

    Args:
        wrists: whether the bend of wrists is a trait of these images.
    """
    train, test = survey.of("train"), survey.of("test")
    values = {split: _traits(rows, wrists) for split, rows in (("train", train), ("test", test))}
    found = shifts(values["train"], values["test"]) if train and test else []
    if not found:
        return None
    parts: list[Part] = [_distances(found), _greys(train, test)]
    for shift in [shift for shift in found if shift.real][:SHOWN] or found[:LEAST]:
        groups = {split: values[split][shift.name] for split in ("train", "test")}
        middle = [float(np.nanmedian(groups[split])) for split in ("train", "test")]
        says = f"Median {middle[0]:.3g} in train, {middle[1]:.3g} in test; {_verdict(shift)}."
        parts.append(Chart(shift.name.capitalize(), says, charts.histograms(groups, shift.name)))
    return Section("Train against test", _summary(found), parts)


def _traits(rows: Sequence[Surveyed], wrists: bool) -> dict[str, list[float]]:
    if not rows:
        return {}
    table = [{**row.traits, **({"wrist bend, degrees": row.bend} if wrists else {})} for row in rows]
    return {name: [row[name] for row in table] for name in table[0]}


def _verdict(shift: Shift) -> str:
    if not shift.real:
        return "no more than chance gives"
    return (
        "hardly alike"
        if shift.distance > 0.5
        else "clearly different"
        if shift.distance > 0.25
        else "a little different"
    )


def _summary(found: Sequence[Shift]) -> str:
    real = [shift.name for shift in found if shift.real]
    if not real:
        return "By these measures test images look like train images: cross-validation should hold on the test set."
    return (
        f"Test images differ from train images in {', '.join(real)}. Cross-validation cannot see what only test images "
        "have: augment towards it, and weight the validation to it where strata tell (conf/strata)."
    )


def _distances(found: Sequence[Shift]) -> Part:
    colours = [charts.series(1) if shift.real else charts.MUTED for shift in found]
    names, distances = [shift.name for shift in found], [shift.distance for shift in found]
    chart = charts.bars(names, distances, "distance of the distributions (0 alike, 1 apart)", digits=2, colours=colours)
    says = "Kolmogorov-Smirnov distance of each trait. Coloured: chance alone would give it less than once in 100."
    return Chart("How far apart", says, chart)


def _greys(train: Sequence[Surveyed], test: Sequence[Surveyed]) -> Part:
    """Mean shares of the grey values, eight together."""
    curves = {}
    for name, rows in (("train", train), ("test", test)):
        shares = np.mean([row.greys / row.greys.sum() for row in rows], axis=0)
        curves[name] = (np.arange(0, 256, 8), 100 * shares.reshape(-1, 8).sum(1))
    chart = charts.lines(curves, "grey value", "", height=340)
    pooled = np.concatenate([shares for _, shares in curves.values()])
    chart.update_yaxes(**charts.log_axis("% of the pixels (log)", pooled))
    says = "How often each grey value occurs. Curves that lie apart mean other exposure: try augment=strong."
    return Chart("Grey values", says, chart)
