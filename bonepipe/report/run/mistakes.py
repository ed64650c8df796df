"""How far outlines are off, and which neighbours are taken for each other."""

import numpy as np

from bonepipe.inference.mistakes import Mistakes
from bonepipe.report import charts
from bonepipe.report.page import Chart, Part, Section, Text
from bonepipe.report.run.results import Results

PAIRS = 12  # that are named
CLOSE = 3  # pixels
NOISE = 1e-3  # share of a class's pixels below which a confusion is not worth a word


def section(results: Results) -> Section | None:
    """Both; None where the truth is not there any more."""
    mistakes = results.mistakes
    if mistakes is None:
        return None
    mean = _mean(mistakes.distance)
    off = float(_mean(mean))
    hand = "Annotators rarely agree within a pixel or two: below that, more training teaches their hand."
    far = "Annotators differ by far less, so there is something to gain."
    says = f"Outlines are {off:.2f} pixels off on average, at the size of the files. {hand if off < CLOSE else far}"
    return Section(
        "Kinds of mistakes",
        says,
        [_boundaries(results, mistakes), *_millimetres(results, mistakes), _taken(results, mistakes)],
    )


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis, of what is known."""
    known = np.isfinite(values)
    return np.where(known, values, 0).sum(0) / np.where(known.any(0), known.sum(0), np.nan)


def _boundaries(results: Results, mistakes: Mistakes, scale: np.ndarray | float = 1.0, unit: str = "pixels") -> Part:
    near, far = _mean(mistakes.distance * scale), _mean(mistakes.far * scale)
    order = np.argsort(-np.nan_to_num(far), kind="stable")
    names = [results.classes[index] for index in order]
    chart = charts.points(
        {"mean distance": (near[order].round(2), np.arange(len(order)), names),
         "95th percentile": (far[order].round(2), np.arange(len(order)), names)},
        unit, "", height=70 + charts.ROW * max(len(order), 4),
    )  # fmt: skip
    chart.update_yaxes(
        autorange="reversed", tickvals=list(range(len(order))), ticktext=[charts.plain(n) for n in names]
    )
    chart.update_traces(hovertemplate="%{text}: %{x}<extra></extra>")
    says = (
        f"Distance of the predicted from the true outline. Where the 95th percentile is far beyond the mean, a part of "
        f"the bone is lost or something far away was added: {names[0]} most."
    )
    return Chart(f"Outlines off, in {unit}", says, chart)


def _millimetres(results: Results, mistakes: Mistakes) -> list[Part]:
    if not np.isfinite(mistakes.spacing).any():
        return []
    return [_boundaries(results, mistakes, mistakes.spacing[:, None], "millimetres")]


def _taken(results: Results, mistakes: Mistakes) -> Part:
    """The pairs of classes of which one takes most from the other."""
    mean, title = mistakes.taken.mean(0), "Neighbours taken for each other"
    pairs = sorted(zip(*np.nonzero(mean > NOISE), strict=True), key=lambda pair: -mean[pair])[:PAIRS]
    if not pairs:
        return Text(
            title, f"No class gives more than {NOISE:.1%} of its pixels to another: what is lost goes to background."
        )
    names = [f"{results.classes[a]} → {results.classes[b]}" for a, b in pairs]
    says = (
        f"Share of a class's pixels that were missed and given to another: {names[0]} most, {mean[pairs[0]]:.1%}. High "
        "values in both directions hint at permuted labels (`bonepipe label-errors`)."
    )
    chart = charts.bars(names, [100 * mean[pair] for pair in pairs], "% of the true pixels", digits=2)
    return Chart(title, says, chart)
