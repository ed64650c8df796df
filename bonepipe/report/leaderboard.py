"""Cross-validation against the leaderboard, as text."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

MEASURES = {"oof_dice": "OOF", "oof_dice_weighted": "weighted OOF"}  # of scores.json
BOARDS = ("public", "private")
FEWEST = 3  # runs below which any correlation is 1, -1 or undefined


@dataclass(frozen=True)
class Entry:
    """A run's scores.

    Attributes:
        name: of the run.
        cv: `MEASURES` -> Dice, those that are known.
        board: `BOARDS` -> Dice, those that are known: recorded ones, else those computed with an answer file.
        recorded: the boards whose score was recorded.
    """

    name: str
    cv: dict[str, float] = field(default_factory=dict)
    board: dict[str, float] = field(default_factory=dict)
    recorded: frozenset[str] = frozenset()

    @property
    def complete(self) -> bool:
        """Whether it has a score of both sides."""
        return bool(self.cv and self.board)


@dataclass(frozen=True)
class Agreement:
    """How one score predicts another over runs.

    Attributes:
        runs: that have both.
        difference: mean of the absolute differences; None without runs.
        pearson, spearman: correlations; None for fewer than three runs, or where one score is the same for all.
        low, high: 95% confidence interval of Pearson's, after Fisher's transformation.
    """

    runs: int
    difference: float | None = None
    pearson: float | None = None
    low: float | None = None
    high: float | None = None
    spearman: float | None = None


def text(entries: Sequence[Entry], by_pair: Mapping[tuple[str, str], Agreement], left_out: Sequence[str]) -> str:
    """Runs, then agreements, then what to make of them, for people."""
    lines = [*_runs_table(entries), "", *_agreement_table(by_pair)] if entries else ["no run has scores of both sides"]
    if left_out:
        lines += ["", f"left out, as cross-validation or leaderboard scores are missing: {', '.join(left_out)}"]
    if any(agreement.pearson is None for agreement in by_pair.values()):
        lines += ["", f"-: a correlation over fewer than {FEWEST} runs, or of equal scores, means nothing"]
    if not entries:
        lines += ["record some with: bonepipe leaderboard runs/NAME --public DICE"]
    return "\n".join(lines)


def _runs_table(entries: Sequence[Entry]) -> list[str]:
    width = max(len("run"), *(len(entry.name) for entry in entries))
    head = "".join(f" {title:>13}" for title in (*MEASURES.values(), *BOARDS))
    rows = [f"{entry.name:<{width}}{_cells(entry)}" for entry in entries]
    note = ["*: computed with an answer file, not recorded"] if any("*" in _cells(entry) for entry in entries) else []
    return [f"{'run':<{width}}{head}", *rows, *note]


def _cells(entry: Entry) -> str:
    scores, computed = {**entry.cv, **entry.board}, entry.board.keys() - entry.recorded
    cells = ((f"{scores[key]:.4f}" if key in scores else "-", key in computed) for key in (*MEASURES, *BOARDS))
    return "".join(f" {text:>12}{'*' if marked else ' '}" for text, marked in cells)


def _agreement_table(by_pair: Mapping[tuple[str, str], Agreement]) -> list[str]:
    head = f"{'cross-validation':<16} {'leaderboard':<11} {'runs':>4} {'off by':>8} {'Spearman':>9} {'Pearson':>8}"
    return [f"{head}  95% interval", *(_agreement_row(*key, one) for key, one in by_pair.items())]


def _agreement_row(measure: str, board: str, one: Agreement) -> str:
    spearman, pearson = ("-" if value is None else f"{value:.3f}" for value in (one.spearman, one.pearson))
    interval = "" if one.low is None else f"  {one.low:.3f} to {one.high:.3f}"
    head = f"{MEASURES[measure]:<16} {board:<11} {one.runs:>4} {one.difference:>8.4f}"
    return f"{head} {spearman:>9} {pearson:>8}{interval}"


def as_json(entries: Sequence[Entry], by_pair: Mapping[tuple[str, str], Agreement], left_out: Sequence[str]) -> str:
    """The same as one JSON object."""
    runs = [{"name": e.name, **e.cv, **e.board, "recorded": sorted(e.recorded)} for e in entries]
    agreement = [{"cv": cv, "leaderboard": board, **vars(one)} for (cv, board), one in by_pair.items()]
    return json.dumps({"runs": runs, "agreement": agreement, "left_out": [*left_out]}, indent=2, ensure_ascii=False)
