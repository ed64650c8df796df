"""Cross-validation against the leaderboard: whether a better out-of-fold Dice means a better place."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bonepipe.errors import BonepipeError
from bonepipe.files import write_json

SCORES = "scores.json"
RECORD = "leaderboard"  # the key of scores.json under which recorded scores stand, apart from those computed here
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


def read_scores(path: Path) -> dict[str, Any]:
    """The content of a scores.json. Raises BonepipeError where it is missing or no such file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BonepipeError(f"{path}: no such file; `bonepipe train-all` writes it when all folds are done") from error
    except (OSError, ValueError) as error:
        raise BonepipeError(f"{path}: cannot be read ({error}); `bonepipe train-all` writes it anew") from error
    if not isinstance(content, dict):
        raise BonepipeError(f"{path}: holds no scores; move it away, and `bonepipe train-all` writes it anew")
    return content


def kept(path: Path) -> dict[str, Any]:
    """What must survive when a scores.json is computed anew: the recorded leaderboard scores, where there are any."""
    content = read_scores(path) if path.is_file() else {}
    return {RECORD: content[RECORD]} if RECORD in content else {}


def record(path: Path, scores: Mapping[str, float], date: str) -> dict[str, Any]:
    """Note leaderboard scores in a scores.json, beside an earlier one of the other board, and return the record.

    Args:
        path: of the file.
        scores: board -> Dice.
        date: of the record, ISO 8601.

    Raises:
        BonepipeError: the run has no scores yet, or its file cannot be read.
    """
    content = read_scores(path)
    noted = {**_record_of(path, content), **scores, "date": date}
    write_json(path, {**content, RECORD: noted})
    return noted


def _record_of(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    noted = content.get(RECORD, {})
    if not isinstance(noted, dict):
        raise BonepipeError(f"{path}: {RECORD}: expected an object with public and private; remove it and record again")
    return noted


def read_entry(folder: Path, name: str | None = None) -> Entry:
    """A run's scores from its folder. Raises BonepipeError, see `read_scores`, or where a score is no number."""
    path = folder / SCORES
    content = read_scores(path)
    noted = _record_of(path, content)
    cv = _numbers(path, content, MEASURES, "")
    recorded = _numbers(path, noted, BOARDS, f"{RECORD}.")
    board = {**_numbers(path, content, BOARDS, ""), **recorded}
    return Entry(name or folder.name, cv, board, frozenset(recorded))


def _numbers(path: Path, content: Mapping[str, Any], keys: Sequence[str] | Mapping[str, str], where: str) -> dict:
    numbers = {key: content[key] for key in keys if content.get(key) is not None}
    for key, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise BonepipeError(f"{path}: {where}{key}={value!r}: expected a number; mend it or write the file anew")
    return {key: float(value) for key, value in numbers.items()}


def agreement(cv: Sequence[float], board: Sequence[float]) -> Agreement:
    """How well scores `[N]` in cross-validation predict those on the leaderboard, one a run."""
    from scipy import stats

    if not cv:
        return Agreement(0)
    difference = float(np.mean(np.abs(np.subtract(cv, board))))
    if len(cv) < FEWEST or np.ptp(cv) == 0 or np.ptp(board) == 0:
        return Agreement(len(cv), difference)
    pearson = stats.pearsonr(cv, board)
    interval = pearson.confidence_interval(0.95)
    spearman = float(stats.spearmanr(cv, board).statistic)
    return Agreement(len(cv), difference, float(pearson.statistic), float(interval.low), float(interval.high), spearman)


def agreements(entries: Sequence[Entry]) -> dict[tuple[str, str], Agreement]:
    """(measure, board) -> how they agree, over the runs that have both; pairs that no run has are left out."""
    result = {}
    for measure in MEASURES:
        for board in BOARDS:
            both = [(e.cv[measure], e.board[board]) for e in entries if measure in e.cv and board in e.board]
            if both:
                result[measure, board] = agreement(*zip(*both, strict=True))
    return result
