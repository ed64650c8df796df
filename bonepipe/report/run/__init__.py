"""An experiment as a page, and several side by side."""

from bonepipe.report.page import Page, Section
from bonepipe.report.run import calibration, cases, classes, costs, learning, mistakes, thresholds
from bonepipe.report.run.results import Results


def page(results: Results, beside: Section | None = None) -> Page:
    """The page of a run.

    Args:
        results: what is known of it.
        beside: how it stands among other runs, where there are some.
    """
    sections: list[Section | None] = [
        classes.section(results),
        cases.section(results),
        mistakes.section(results),
        thresholds.section(results),
        calibration.section(results),
        learning.section(results),
        costs.section(results),
        beside,
    ]
    images = f"{len(results.names)} images were predicted by networks that never saw their patients"
    folds = f"{len(results.numbers)} fold{'s' if len(results.numbers) > 1 else ''}"
    lead = " ".join(filter(None, [f"{images}, in {folds}.", results.stale, results.missing]))
    return Page(f"Run {results.name}", lead, [section for section in sections if section], facts(results))


def facts(results: Results) -> list[tuple[str, str]]:
    """The scores that people ask for first."""
    scores = results.scores
    rows = [("Dice out of fold", f"{results.total:.4f}")]
    named = {
        "oof_dice_weighted": "weighted to the test mix", "test_dice": "Dice on the test set", "public": "public",
        "private": "private", "oof_miou": "mean IoU",
    }  # fmt: skip
    board = scores.get("leaderboard", {})
    values = {**scores, **{key: board[key] for key in ("public", "private") if key in board}}
    rows += [(name, f"{values[key]:.4f}") for key, name in named.items() if isinstance(values.get(key), float)]
    rows.append(("worst class at 0.5", results.classes[results.worst_first[0]]))
    if "cost/parameters" in results.model:
        rows.append(("parameters", f"{results.model['cost/parameters'] / 1e6:.1f} M"))
    return rows
