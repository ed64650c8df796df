"""The table of an ablation: scores, gains with their confidence, costs."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bonepipe.report import markdown

CONFIDENCE = 0.95
SCORES = {"oof_dice": "OOF", "public": "public", "private": "private", "test_dice": "test"}
GAINS = {"oof_dice": "OOF gain", "test_dice": "test gain"}
COSTS = {"seconds": "minutes", "core_seconds": "core-minutes"}

Results = Sequence[Mapping[str, Any]]  # a row's scores and costs, a seed each


class Line(NamedTuple):
    """A row with what it says of itself: `settings` are what it changes, `over` the row that it is compared with."""

    group: str
    name: str
    settings: str
    over: str | None


def table(lines: Sequence[Line], results: Mapping[str, Results], seeded: bool) -> str:
    """A Markdown table; columns in which nothing stands are left out.

    Args:
        lines: the rows that are done.
        results: row -> its results, in the order of the seeds.
        seeded: whether rows were run once a seed, so that gains have a verdict.
    """
    rows = [_cells(line, results[line.name], results.get(line.over or "", ()), seeded) for line in lines]
    header = [key for key in rows[0] if any(row[key] for row in rows)] if rows else ["row"]
    return markdown.table(header, [[row[key] for key in header] for row in rows])


def _cells(line: Line, here: Results, there: Results, seeded: bool) -> dict[str, str]:
    gains = {key: _gains(key, here, there) for key in GAINS}
    told = {title: gain(gains[key])[0] if len(gains[key]) else "" for key, title in GAINS.items()}
    return {
        "group": line.group,
        "row": line.name,
        "settings": " ".join(f"`{word}`" for word in line.settings.split()),
        **{title: score([result[key] for result in here if key in result]) for key, title in SCORES.items()},
        **told,
        "verdict": gain(gains["oof_dice"])[1] if seeded and len(gains["oof_dice"]) else "",
        "over": line.over or "",
        **{title: cost([result.get(key) for result in here]) for key, title in COSTS.items()},
    }


def _gains(key: str, here: Results, there: Results) -> np.ndarray:
    """The differences, seed by seed `[S]`; none where a score is not known."""
    return np.array([a[key] - b[key] for a, b in zip(here, there, strict=False) if key in a and key in b])


def score(values: Sequence[float]) -> str:
    """The mean with its standard deviation over seeds, where there are several."""
    if not values:
        return ""
    return f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else f"{values[0]:.4f}"


def cost(seconds: Sequence[float | None]) -> str:
    """The mean in minutes; nothing where a run was interrupted, so that what it took is not known."""
    known = [value for value in seconds if value is not None]
    return f"{np.mean(known) / 60:.1f}" if known and len(known) == len(seconds) else ""


def gain(gains: np.ndarray) -> tuple[str, str]:
    """The mean gain with its confidence interval, and what it says: Student's t, as the seeds are few."""
    from scipy import stats

    mean = float(gains.mean())
    if len(gains) < 2:
        return f"{mean:+.4f}", "one seed: no telling"
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(gains) - 1) * gains.std(ddof=1) / np.sqrt(len(gains)))
    word = "gains" if mean > half else "costs" if mean < -half else "no difference beyond the noise"
    return f"{mean:+.4f} ± {half:.4f}", word
