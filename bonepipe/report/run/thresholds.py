"""Dice at every threshold, and what was chosen."""

from typing import Any

import numpy as np

from bonepipe.labels.histogram import CHOOSABLE, HALF, THRESHOLDS
from bonepipe.report import charts
from bonepipe.report.page import Chart, Part, Section
from bonepipe.report.run.results import Results

DRAWN = slice(CHOOSABLE.start, 244, 3)  # of the thresholds; beyond 0.95 curves fall so far that all else looks flat


def section(results: Results) -> Section:
    """The curves with a menu of the classes, and what thresholds gain."""
    kept = results.thresholds.get("kept", [])
    says = (
        "A threshold leaves 0.5 only where that gains more than noise on folds that had no say in it: "
        f"{len(kept)} of {len(results.classes)} classes do."
    )
    if len(results.numbers) < 2:
        says += " With one fold nothing can be judged, so all stay."
    gains = _gains(results)
    return Section("Thresholds", says, [_curves(results, wide=not gains), *gains])


def _curves(results: Results, *, wide: bool) -> Part:
    mean, folds = results.curves
    order, drawn = results.worst_first, THRESHOLDS[DRAWN]
    traces: list[dict[str, Any]] = []
    for place, label in enumerate(order):
        curve, of_folds = mean[label, DRAWN].round(5), folds[:, label, DRAWN].round(5)
        group = [charts.band(drawn, of_folds.min(0), of_folds.max(0)), _line(drawn, curve), _mark(results, label, mean)]
        traces += [{**trace, "visible": place == 0} for trace in group]
    chart = charts.figure(traces, 400, xaxis=charts.axis("threshold"), yaxis=charts.axis("Dice"), showlegend=True)
    chart.update_layout(updatemenus=[_menu(results, order)], margin={"t": 50, "l": 8, "r": 8, "b": 8},
                        legend={"orientation": "h", "y": -0.2, "yanchor": "top", "x": 0})  # fmt: skip
    chart.add_vline(x=HALF, line={"color": charts.FAINT, "dash": "dot", "width": 1})
    peak = mean[:, CHOOSABLE]
    flat = float(np.median(peak.max(1) - mean[:, len(THRESHOLDS) // 2]))
    says = (
        f"Choose a class in the menu, worst first; the band spans the folds. At 0.5 the median class is {flat:.4f} "
        "below its best threshold: a flat top means that nothing is to be gained here."
    )
    return Chart("Dice at every threshold", says, chart, wide=wide)


def _line(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    line = {"color": charts.series(0), "width": 2}
    return {"type": "scatter", "mode": "lines", "name": "all images", "x": x.tolist(), "y": y.tolist(), "line": line}


def _mark(results: Results, label: int, mean: np.ndarray) -> dict[str, Any]:
    """The chosen threshold on the curve."""
    threshold = float(results.thresholds.get("thresholds", {}).get(results.classes[label], HALF))
    height = float(mean[label, min(round(threshold * len(THRESHOLDS)), len(THRESHOLDS) - 1)])
    kept = results.classes[label] in results.thresholds.get("kept", [])
    return {
        "type": "scatter", "mode": "markers", "name": f"chosen: {threshold:.3f}" if kept else "stays 0.5",
        "x": [threshold], "y": [height], "marker": {"size": 11, "color": charts.series(1)},
    }  # fmt: skip


def _menu(results: Results, order: list[int]) -> dict[str, Any]:
    buttons = [
        {"label": charts.plain(results.classes[label]), "method": "restyle",
         "args": [{"visible": [index // 3 == place for index in range(3 * len(order))]}]}
        for place, label in enumerate(order)
    ]  # fmt: skip
    return {"buttons": buttons, "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom", "bgcolor": "var(--card)",
            "bordercolor": "var(--line)", "font": {"color": charts.INK}}  # fmt: skip


def _gains(results: Results) -> list[Part]:
    """What thresholds that were chosen on the other folds gain, class by class."""
    gains, errors = (results.thresholds.get(key, {}) for key in ("cross_fitted_gain", "standard_error"))
    if len(results.numbers) < 2 or not gains:
        return []
    kept = set(results.thresholds.get("kept", []))
    names = sorted(gains, key=lambda name: -gains[name])
    colours = [charts.series(1) if name in kept else charts.MUTED for name in names]
    values, spread = [gains[name] for name in names], [errors[name] for name in names]
    title = "Dice gained over 0.5, with its standard error"
    chart = charts.bars(names, values, title, digits=4, errors=spread, colours=colours)
    says = "Cross-fitted: chosen on all folds but one, judged on that one. Coloured classes left 0.5; grey ones stayed."
    return [Chart("What thresholds gain", says, chart)]
