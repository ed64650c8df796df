"""Several runs side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bonepipe.report import charts
from bonepipe.report.leaderboard import BOARDS, MEASURES, Agreement, Entry
from bonepipe.report.page import Cell, Chart, Page, Part, Section, Table
from bonepipe.report.run.costs import training_seconds
from bonepipe.report.run.learning import DICE, common, curve
from bonepipe.report.run.results import Results

SCORES = {
    "oof_dice": "OOF Dice",
    "oof_dice_weighted": "weighted",
    "test_dice": "test Dice",
    "public": "public",
    "private": "private",
}
LONGEST = 80  # letters of a title, and of a setting's value: a list can be as long as a page
Pairs = Mapping[tuple[str, str], Agreement]


def page(
    runs: Sequence[Results], settings: Mapping[str, Sequence[str]], compared: Sequence[Mapping[str, Any] | None],
    board: Section | None,
) -> Page:  # fmt: skip
    """The page of several runs.

    Args:
        runs: at least two.
        settings: dotted key that differs -> its value in each run.
        compared: the first run against each of the others, see `bonepipe.pipeline.comparison.compare`;
            None where they share no image.
        board: cross-validation against the leaderboard, where runs have scores of both.
    """
    best = max(run.total for run in runs)
    leaders = " and ".join(run.name for run in runs if run.total == best)
    have = "has" if sum(run.total == best for run in runs) == 1 else "have"
    lead = f"{leaders} {have} the best Dice out of fold ({best:.4f}). Runs are compared on what they share."
    sections = [_scores(runs), _settings(runs, settings), _changes(runs, compared), _classes(runs), _learning(runs)]
    names = ", ".join(run.name for run in runs)
    title = f"Runs {names}" if len(names) <= LONGEST else f"{len(runs)} runs"
    return Page(title, lead, [section for section in [*sections, board, _costs(runs)] if section])


def leaderboard(entries: Sequence[Entry], by_pair: Pairs) -> Section | None:
    """How cross-validation agrees with the leaderboard over runs; None where no run has scores of both."""
    parts = [part for board in BOARDS if (part := _board(entries, by_pair, board))]
    if not parts:
        return None
    says = (
        "Where the points rise together, a better Dice out of fold promises a better place; else mend the validation."
    )
    return Section("Cross-validation and leaderboard", says, parts)


def _board(entries: Sequence[Entry], by_pair: Pairs, board: str) -> Part | None:
    groups, told = {}, []
    for measure, name in MEASURES.items():
        runs = [run for run in entries if measure in run.cv and board in run.board]
        if runs:
            at = np.array([(run.cv[measure], run.board[board]) for run in runs]).round(5)
            groups[name] = (at[:, 0], at[:, 1], [run.name for run in runs])
            told.append(f"{name}: {_agreement(by_pair[measure, board])}")
    if not groups:
        return None
    chart = charts.points(groups, "Dice in cross-validation", f"Dice on the {board} leaderboard", height=400)
    numbers = np.concatenate([np.concatenate(group[:2]) for group in groups.values()])
    line = {"color": charts.FAINT, "dash": "dot", "width": 1}
    low, high = float(numbers.min()), float(numbers.max())
    chart.add_shape(type="line", x0=low, y0=low, x1=high, y1=high, line=line)
    return Chart(f"The {board} leaderboard", f"{'; '.join(told)}. On the dotted line both are equal.", chart)


def _agreement(agreement: Agreement) -> str:
    runs = f"{agreement.runs} run{'s' if agreement.runs > 1 else ''}, off by {agreement.difference or 0:.4f} on average"
    if agreement.pearson is None or agreement.spearman is None:
        return f"{runs}, too few or too equal for a correlation"
    return f"{runs}, Pearson {agreement.pearson:+.2f}, Spearman {agreement.spearman:+.2f}"


def _scores(runs: Sequence[Results]) -> Section:
    order = sorted(runs, key=lambda run: -run.total)
    spread = [run.by_fold.mean(1) for run in order]
    values = [run.total for run in order]
    errors = [float(folds.std(ddof=1)) if len(folds) > 1 else 0.0 for folds in spread]
    title = "Dice out of fold, standard deviation over folds"
    chart = charts.dots([run.name for run in order], values, title, errors=errors)
    says = "Differences smaller than the spread of the folds need the comparison image by image, below."
    rows: list[list[Cell]] = [[run.name, *(_number(run.scores.get(key)) for key in SCORES)] for run in order]
    table = Table("All scores", "A dash: not known.", ["run", *SCORES.values()], rows, digits=4)
    return Section("Scores", "", [Chart("Dice out of fold", says, chart), table])


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _settings(runs: Sequence[Results], settings: Mapping[str, Sequence[str]]) -> Section:
    if not settings:
        return Section("Settings that differ", "None: a change of score comes from code, data, machine or chance.", [])
    many = "One change: the score tells what it did." if len(settings) == 1 else (
        "The more settings differ, the less a score tells which of them did it."
    )  # fmt: skip
    rows: list[list[Cell]] = [
        [key, *(value if len(value) <= LONGEST else f"{value[: LONGEST - 2]} …" for value in values)]
        for key, values in settings.items()
    ]
    return Section(
        "Settings that differ", many, [Table("", "", ["setting", *(run.name for run in runs)], rows, wide=True)]
    )


def _changes(runs: Sequence[Results], compared: Sequence[Mapping[str, Any] | None]) -> Section | None:
    """The change of each class from the first run to each other."""
    parts = []
    for run, found in zip(runs[1:], compared, strict=True):
        if found is None:
            continue
        changes = sorted(found["per_class"].items(), key=lambda item: -item[1]["change"])
        values = [change["change"] for _, change in changes]
        known = [change["standard_error"] for _, change in changes]
        sure = [error is not None and abs(value) > 2 * error for value, error in zip(values, known, strict=True)]
        errors = [error or 0.0 for error in known]
        colours = [
            charts.MUTED if not real else charts.series(2) if value > 0 else charts.series(1)
            for value, real in zip(values, sure, strict=True)
        ]
        chart = charts.bars([name for name, _ in changes], values, "change of Dice, with its standard error", digits=4,
                            errors=errors, colours=colours)  # fmt: skip
        total = found["dice"]
        error = "" if total["standard_error"] is None else f" (standard error {total['standard_error']:.4f})"
        says = (
            f"{total['change']:+.4f} over {found['images']} common images{error}. Coloured: beyond two standard errors."
        )
        parts.append(Chart(f"{run.name} against {runs[0].name}", says, chart))
    return Section("What changed, image by image", "", parts) if parts else None


def _classes(runs: Sequence[Results]) -> Section:
    names = [name for name in runs[0].classes if all(name in run.classes for run in runs)]
    table = np.array([[run.dice[:, list(run.classes).index(name)].mean() for run in runs] for name in names])
    order = np.argsort(table.mean(1), kind="stable").tolist() if names else []
    chart = charts.heat_map([names[index] for index in order], [run.name for run in runs],
                            table[order] if names else np.zeros((0, len(runs))), ranks=True, title="Dice")  # fmt: skip
    leaders = [runs[int(row.argmax())].name for row in table if (row == row.max()).sum() == 1]
    led = ", ".join(f"{run.name} {leaders.count(run.name)}" for run in runs)
    says = f"Best in so many classes: {led}. Runs that lead in different classes complement each other in an ensemble."
    return Section(
        "Dice by class", says, [Chart("Classes and runs", "At threshold 0.5, worst class first.", chart, wide=True)]
    )


def _learning(runs: Sequence[Results]) -> Section | None:
    curves, bands = {}, {}
    for run in runs:
        if any(run.histories.values()):
            epochs, values = common(*curve(run.histories, DICE))
            if epochs.size:
                curves[run.name] = (epochs, values.mean(0))
                bands[run.name] = (values.min(0), values.max(0))
    if not curves:
        return None
    chart = charts.lines(curves, "epoch", "Dice in validation", bands=bands if len(curves) < 3 else None, markers=True)
    says = "Lines are means of the folds. A curve that still rises at its end was stopped early."
    return Section("Learning", "", [Chart("Dice in validation", says, chart, wide=True)])


def _costs(runs: Sequence[Results]) -> Section | None:
    rows: list[list[Cell]] = []
    for run in runs:
        seconds = sum(training_seconds(history) for history in run.histories.values())
        inference = [cost["seconds_an_image"] for cost in run.costs.values() if cost.get("seconds_an_image")]
        rows.append([
            run.name, run.total, seconds / 60 or None, 1000 * float(np.mean(inference)) if inference else None,
            run.model.get("cost/parameters", np.nan) / 1e6, run.model.get("cost/gflops", np.nan),
        ])  # fmt: skip
    columns = ["run", "OOF Dice", "training, min", "prediction, ms", "parameters, M", "GFLOPs"]
    says = "What a better score costs. Training is the sum of all folds; prediction includes all views."
    return Section("Costs", "", [Table("Time and size", says, columns, rows, wide=True)])
