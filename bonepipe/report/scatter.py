"""A scatter plot of cross-validation against leaderboard scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from bonepipe.errors import BonepipeError
from bonepipe.files import replacing
from bonepipe.report.leaderboard import BOARDS, FEWEST, MEASURES, Agreement, Entry

COLOURS = {"oof_dice": "#0072b2", "oof_dice_weighted": "#d55e00"}  # told apart by the colour-blind
FAINT = "#969696"
DOT = 7  # radius of a point with a little room, pixels


def save(path: Path, entries: Sequence[Entry], by_pair: Mapping[tuple[str, str], Agreement]) -> None:
    """Write the picture. Raises BonepipeError where there is nothing to draw."""
    drawn = draw(entries, by_pair)
    if drawn is None:
        raise BonepipeError(f"{path}: not drawn: no run has scores of both sides (--public, --private record them)")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        drawn.savefig(part)


def draw(entries: Sequence[Entry], by_pair: Mapping[tuple[str, str], Agreement]) -> Figure | None:
    """A panel a leaderboard: each run's Dice there over its Dice in cross-validation, plain and weighted.

    Both axes have the same scale, so that the dashed line of equal scores rises at 45 degrees. A thin line joins the
    two measures of a run, which is named where there is room. None where no run has both sides.
    """
    boards = [board for board in BOARDS if any((measure, board) in by_pair for measure in MEASURES)]
    if not boards:
        return None
    figure = Figure((6.2 * len(boards), 6.8), dpi=110, layout="constrained")
    shown = [[entry for entry in entries if board in entry.board and entry.cv] for board in boards]
    panels = figure.subplots(1, len(boards), squeeze=False)[0]
    for axes, board, runs in zip(panels, boards, shown, strict=True):
        axes.set_title(f"Dice on the {board} leaderboard\n\n\n", loc="left", weight="bold")
        axes.set_xlabel("Dice in cross-validation (out of fold)")
        _frame(axes, [score for run in runs for score in run.cv.values()], [run.board[board] for run in runs])
        for run in runs:
            axes.plot(list(run.cv.values()), [run.board[board]] * len(run.cv), color=FAINT, linewidth=1)
        for key in MEASURES:
            if (agreement := by_pair.get((key, board))) is not None:
                points = [(run.cv[key], run.board[board]) for run in runs if key in run.cv]
                words = f"{MEASURES[key]}: {_in_words(agreement)}"
                axes.plot(*zip(*points, strict=True), "o", color=COLOURS[key], mec="white", ms=9, label=words)
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 0.99), frameon=False)
    figure.draw_without_rendering()  # lays everything out, which tells where there is room
    for axes, board, runs in zip(panels, boards, shown, strict=True):
        _write_names(axes, [(run.name, sorted(run.cv.values()), run.board[board]) for run in runs])
    return figure


def _frame(axes: Axes, across: Sequence[float], up: Sequence[float]) -> None:
    """Axes of one scale that hold all scores, and the line of equal ones."""
    half = 0.65 * max(max(across) - min(across), max(up) - min(up), 0.004)
    for scores, limit in ((across, axes.set_xlim), (up, axes.set_ylim)):
        middle = (min(scores) + max(scores)) / 2
        limit(middle - half, middle + half)
    axes.set_aspect("equal")
    axes.axline((across[0], across[0]), slope=1, color=FAINT, linestyle="--", linewidth=1)
    axes.grid(color="#e4e4e4")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _write_names(axes: Axes, runs: Sequence[tuple[str, Sequence[float], float]]) -> None:
    """Write each run's name beside its points, at the first place where it covers nothing."""
    frame, taken = axes.get_window_extent(), []
    for _, scores, score in runs:
        taken.append(Bbox(axes.transData.transform([(scores[0], score), (scores[-1], score)])).padded(DOT))
    for name, scores, score in runs:
        middle = (scores[0] + scores[-1]) / 2
        for x, offset, align in ((scores[-1], (9, 0), "left"), (scores[0], (-9, 0), "right"),
                                 (middle, (0, 12), "center"), (middle, (0, -12), "center")):  # fmt: skip
            text = axes.annotate(name, (x, score), offset, textcoords="offset points", ha=align, va="center")
            text.set_parse_math(False)
            box = text.get_window_extent()
            if frame.contains(*box.min) and frame.contains(*box.max) and not box.count_overlaps(taken):
                taken.append(box)
                break
            text.remove()


def _in_words(agreement: Agreement) -> str:
    runs = f"{agreement.runs} run{'s' if agreement.runs > 1 else ''}"
    if agreement.pearson is None or agreement.spearman is None:
        reason = "too few for a correlation" if agreement.runs < FEWEST else "one score is the same for all"
        return f"{runs}, {reason}"
    return f"Pearson {agreement.pearson:.2f}, Spearman {agreement.spearman:.2f} over {runs}"
