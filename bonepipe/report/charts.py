"""The kinds of charts that pages are made of: plotly figures in the page's colours, without titles of their own."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

ROW = 21  # pixels of a bar or of a row of a heat map
FAINT, INK, MUTED = "var(--faint)", "var(--ink)", "var(--muted)"
DIVERGING = [[0, "var(--low)"], [0.5, "var(--middle)"], [1, "var(--high)"]]
AMOUNT = [[0, "var(--middle)"], [1, "var(--high)"]]
SYMBOLS = ("circle", "diamond", "square")
# An axis of names, the first on top; plotly would take what looks like numbers or dates for those.
NAMES = {"type": "category", "autorange": "reversed", "dtick": 1, "showgrid": False}
WRITTEN = 400  # cells of a heat map, up to which their values are written into them


def series(number: int) -> str:
    """The colour of a series, counted from 0; they repeat after six."""
    return f"var(--series-{number % 6 + 1})"


def plain(text: str) -> str:
    """A name as it is: plotly takes what looks like a tag for one."""
    return html.escape(text, quote=False)


def figure(traces: Sequence[Mapping[str, Any]], height: int = 360, **layout: Any) -> "Figure":
    """A figure of traces, plain mappings with their `type`."""
    from plotly.graph_objects import Figure

    made = Figure(data=list(traces), layout={"height": height, **layout})
    made.layout.template = None  # the page has its own
    return made


def axis(title: str = "", **more: Any) -> dict[str, Any]:
    """An axis with a title."""
    return {"title": {"text": plain(title)}, **more}


def log_axis(title: str, values: ArrayLike) -> dict[str, Any]:
    """A logarithmic axis for positive values, with 1, 2 and 5 of each power of ten written out."""
    known = np.asarray(values, float)
    known = known[np.isfinite(known) & (known > 0)]
    low, high = (float(known.min()), float(known.max())) if known.size else (1.0, 10.0)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    marks = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    return axis(title, type="log", tickvals=marks, ticktext=[f"{mark:,.10g}" for mark in marks])


def bars(
    names: Sequence[str],
    values: ArrayLike,
    title: str,
    *,
    digits: int = 3,
    errors: ArrayLike | None = None,
    colours: Sequence[str] | str | None = None,
) -> "Figure":
    """Horizontal bars from 0, the first on top, their values beside them.

    Args:
        title: of the values.
        errors: half lengths of error bars.
        colours: of all bars, or one each.
    """
    trace: dict[str, Any] = {
        "type": "bar", "orientation": "h", "textposition": "outside", "cliponaxis": False,
        "marker": {"color": colours if isinstance(colours, str) or colours is None else list(colours)},
    }  # fmt: skip
    if colours is None:
        trace["marker"] = {"color": series(0)}
    return _by_name(trace | _named(names, values, digits, errors), title)


def dots(
    names: Sequence[str], values: ArrayLike, title: str, *, digits: int = 4, errors: ArrayLike | None = None
) -> "Figure":
    """Dots in rows, the first on top, their values beside them: for values far from 0, where bars would mislead.

    Args:
        title: of the values.
        errors: half lengths of error bars.
    """
    numbers = np.asarray(values, float)
    low, high = (float(numbers.min()), float(numbers.max())) if len(numbers) else (0.0, 1.0)
    reach = max(high - low, 0.01, *(np.asarray(errors, float) if errors is not None else ()))
    trace = {
        "type": "scatter", "mode": "markers+text", "textposition": "middle right", "cliponaxis": False,
        "marker": {"color": series(0), "size": 10},
    }  # fmt: skip
    span = (low - 0.5 * reach, high + (1.2 if errors is not None else 0.5) * reach)
    return _by_name(trace | _named(names, values, digits, errors), title, span)


def _named(names: Sequence[str], values: ArrayLike, digits: int, errors: ArrayLike | None) -> dict[str, Any]:
    """What bars and dots have in common: values along x, names along y."""
    numbers = np.asarray(values, float)
    trace: dict[str, Any] = {
        "x": numbers.tolist(), "y": [plain(name) for name in names],
        "hovertemplate": f"%{{y}}: %{{x:.{digits}f}}<extra></extra>",
    }  # fmt: skip
    if errors is None:
        return trace | {"text": [f"{number:.{digits}f}" for number in numbers]}
    return trace | {"error_x": {"array": np.asarray(errors, float).tolist(), "color": FAINT, "thickness": 1.2}}


def _by_name(trace: Mapping[str, Any], title: str, span: tuple[float, float] | None = None) -> "Figure":
    across = {} if span is None else {"range": list(span)}
    return figure([trace], 60 + ROW * max(len(trace["y"]), 3), xaxis=axis(title, **across),
                  yaxis=NAMES, margin={"r": 48, "l": 8, "t": 8, "b": 8}, bargap=0.25)  # fmt: skip


def lines(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    x: str,
    y: str,
    *,
    bands: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
    markers: bool = False,
    **layout: Any,
) -> "Figure":
    """Lines by name, each with an optional band around it.

    Args:
        curves: name -> x and y.
        x, y: titles of the axes.
        bands: name -> the lowest and the highest y at the x of the line of that name.
    """
    traces: list[dict[str, Any]] = []
    for number, (name, (across, up)) in enumerate(curves.items()):
        if bands and name in bands:
            traces.append(band(across, *bands[name], number))
        traces.append({
            "type": "scatter", "mode": "lines+markers" if markers else "lines", "name": plain(name),
            "x": np.asarray(across, float).tolist(), "y": _finite(up), "line": {"color": series(number), "width": 2},
            "marker": {"size": 6},
        })  # fmt: skip
    return figure(traces, xaxis=axis(x), yaxis=axis(y), showlegend=len(curves) > 1, **layout)


def band(across: ArrayLike, low: ArrayLike, high: ArrayLike, number: int = 0) -> dict[str, Any]:
    """The area between two curves, in the soft colour of a series."""
    x, top, bottom = np.asarray(across, float), np.asarray(high, float), np.asarray(low, float)
    return {
        "type": "scatter", "x": [*x.tolist(), *x[::-1].tolist()], "y": [*_finite(top), *_finite(bottom[::-1])],
        "fill": "toself", "fillcolor": f"var(--series-{number % 2 + 1}-soft)", "line": {"width": 0},
        "hoverinfo": "skip", "showlegend": False,
    }  # fmt: skip


def heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    values: ArrayLike,
    *,
    digits: int = 3,
    colours: Sequence[Sequence[Any]] | None = None,
    ranks: bool = False,
    title: str = "",
) -> "Figure":
    """Cells `[R, C]`, the first row on top; values are written into them where there is room.

    Args:
        ranks: colours are spread over the ranks of the cells, so that one that is far off does not make others alike.
        title: of the values, for the hover text.
    """
    cells = np.asarray(values, float)
    shade = _ranks(cells) if ranks else cells
    texts = [["" if np.isnan(cell) else f"{cell:.{digits}f}" for cell in row] for row in cells]
    trace: dict[str, Any] = {
        "type": "heatmap", "x": [plain(name) for name in columns], "y": [plain(name) for name in rows],
        "z": [_finite(row) for row in shade], "text": texts, "colorscale": list(colours or DIVERGING),
        "showscale": False, "xgap": 2, "ygap": 2,
        "hovertemplate": f"%{{y}}, %{{x}}: %{{text}} {plain(title)}<extra></extra>",
    }  # fmt: skip
    if cells.size <= WRITTEN:
        trace["texttemplate"] = "%{text}"
        trace["textfont"] = {"color": INK, "size": 11}
    return figure([trace], 70 + ROW * len(rows), xaxis={"side": "top", "showgrid": False, "type": "category"},
                  yaxis={"autorange": "reversed", "dtick": 1, "showgrid": False, "type": "category"})  # fmt: skip


def histograms(groups: Mapping[str, ArrayLike], x: str, *, bins: int | None = None) -> "Figure":
    """Shares of each group's values in common bins, as steps, so that groups of any size compare.

    Bins are few where the smallest group is: twice the root of its size, 6 to 30.
    """
    known = {name: np.asarray(values, float) for name, values in groups.items()}
    known = {name: values[np.isfinite(values)] for name, values in known.items()}
    pooled = np.concatenate([*known.values(), np.zeros(0)])
    low, high = (float(pooled.min()), float(pooled.max())) if pooled.size else (0.0, 1.0)
    fewest = min((len(values) for values in known.values() if len(values)), default=1)
    edges = np.linspace(low, high if high > low else low + 1, (bins or min(max(6, round(2 * fewest**0.5)), 30)) + 1)
    traces: list[dict[str, Any]] = []
    for number, (name, values) in enumerate(known.items()):
        share = np.histogram(values, edges)[0] / max(len(values), 1)
        traces.append({
            "type": "scatter", "mode": "lines", "name": f"{plain(name)} ({len(values)})", "x": edges.tolist(),
            "y": [*(100 * share).tolist(), 0], "line": {"shape": "hv", "width": 2, "color": series(number)},
            "fill": "tozeroy", "fillcolor": f"var(--series-{number % 2 + 1}-soft)",
        })  # fmt: skip
    return figure(traces, 300, xaxis=axis(x), yaxis=axis("% of the images", rangemode="tozero"), showlegend=True)


def boxes(groups: Mapping[str, ArrayLike], title: str) -> "Figure":
    """Horizontal box plots, the first group on top: median, quarters, and whiskers to the 5th and 95th percentile."""
    names, quantiles = [plain(name) for name in groups], []
    for values in groups.values():
        known = np.asarray(values, float)
        known = known[np.isfinite(known)]
        quantiles.append(np.quantile(known, (0.05, 0.25, 0.5, 0.75, 0.95)) if known.size else np.full(5, np.nan))
    low, first, middle, third, high = np.array(quantiles).reshape(-1, 5).T.tolist()
    trace = {
        "type": "box", "orientation": "h", "y": names, "lowerfence": low, "q1": first, "median": middle, "q3": third,
        "upperfence": high, "marker": {"color": series(0)}, "line": {"width": 1.4}, "hoverinfo": "x+y",
    }  # fmt: skip
    return figure([trace], 60 + ROW * max(len(names), 3), xaxis=axis(title),
                  yaxis=NAMES)  # fmt: skip


def points(groups: Mapping[str, tuple[ArrayLike, ArrayLike, Sequence[str]]], x: str, y: str, **layout: Any) -> "Figure":
    """A scatter plot: group -> x, y, and what the cursor is told of each point."""
    traces = [
        {
            "type": "scatter", "mode": "markers", "name": plain(name), "x": np.asarray(across, float).tolist(),
            "y": _finite(up), "text": [plain(text) for text in told],
            "hovertemplate": "%{text}<br>%{x}, %{y}<extra></extra>",
            "marker": {"color": series(number), "size": 8, "opacity": 0.75, "symbol": SYMBOLS[number % len(SYMBOLS)]},
        }
        for number, (name, (across, up, told)) in enumerate(groups.items())
    ]  # fmt: skip
    return figure(traces, xaxis=axis(x), yaxis=axis(y), showlegend=len(groups) > 1, **layout)


def _finite(values: ArrayLike) -> list[float | None]:
    """Numbers as JSON has them."""
    return [float(value) if np.isfinite(value) else None for value in np.asarray(values, float)]


def _ranks(cells: np.ndarray) -> np.ndarray:
    """Each cell's rank among all, 0 to 1; NaN stays."""
    known = np.sort(cells[np.isfinite(cells)])
    if not known.size:
        return cells
    ranks = (np.searchsorted(known, cells, "left") + np.searchsorted(known, cells, "right")) / (2 * known.size)
    return np.where(np.isfinite(cells), ranks, np.nan)
