"""Cross-validation against the leaderboard: whether a better out-of-fold Dice means a better place."""

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bonepipe.errors import BonepipeError, quoted
from bonepipe.files import write_json
from bonepipe.pipeline.run_folder import SCORES, scores_of
from bonepipe.report.leaderboard import BOARDS, FEWEST, MEASURES, Agreement, Entry

RECORD = "leaderboard"  # the key of scores.json under which recorded scores stand, apart from those computed here


def kept(path: Path) -> dict[str, Any]:
    """What must survive when a scores.json is computed anew: the recorded leaderboard scores, where there are any."""
    content = scores_of(path.parent) if path.is_file() else {}
    return {RECORD: content[RECORD]} if RECORD in content else {}


def require_scores(path: Path) -> dict[str, Any]:
    """The content of a run's scores.json.

    Raises:
        BonepipeError: there is no such run, it has no scores yet, or its file cannot be read.
    """
    if not path.parent.is_dir():
        raise BonepipeError(f"{path.parent}: no such folder; name a run, runs/NAME")
    return dict(scores_of(path.parent))


def record(path: Path, scores: Mapping[str, float], date: str) -> dict[str, Any]:
    """Note leaderboard scores in a scores.json, beside an earlier one of the other board, and return the record.

    Args:
        path: of the file.
        scores: board -> Dice.
        date: of the record, ISO 8601.

    Raises:
        BonepipeError: as `require_scores`.
    """
    content = require_scores(path)
    found = {**_record_of(path, content), **scores, "date": date}
    write_json(path, {**content, RECORD: found})
    return found


def _record_of(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    found = content.get(RECORD, {})
    if not isinstance(found, dict):
        raise BonepipeError(f"{path}: {RECORD}: expected an object with public and private; remove it and record again")
    return found


def read_entry(folder: Path, name: str | None = None) -> Entry:
    """A run's scores from its folder; raises as `run_folder.scores_of`, and where a score is no number."""
    path = folder / SCORES
    content = scores_of(path.parent)
    noted = _record_of(path, content)
    cv = _numbers(path, content, MEASURES, "")
    recorded = _numbers(path, noted, BOARDS, f"{RECORD}.")
    board = {**_numbers(path, content, BOARDS, ""), **recorded}
    return Entry(name or folder.name, cv, board, frozenset(recorded))


def _numbers(path: Path, content: Mapping[str, Any], keys: Sequence[str] | Mapping[str, str], where: str) -> dict:
    found = {key: content[key] for key in keys if content.get(key) is not None}
    for key, value in found.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
            raise BonepipeError(
                f"{path}: {where}{key}={quoted(value)}: expected a number; mend it or write the file anew"
            )
    return {key: float(value) for key, value in found.items()}


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
    found = {}
    for measure in MEASURES:
        for board in BOARDS:
            both = [(e.cv[measure], e.board[board]) for e in entries if measure in e.cv and board in e.board]
            if both:
                found[measure, board] = agreement(*zip(*both, strict=True))
    return found


def read_entries(paths: Sequence[Path]) -> tuple[list[Entry], list[str]]:
    """Of runs and folders of runs: those with scores of both sides, best out of fold first; the names of the others.

    Raises:
        BonepipeError: as `find_runs` and `read_entry`.
    """
    entries = [read_entry(folder, name) for name, folder in names(find_runs(paths)).items()]
    entries.sort(key=lambda entry: (-entry.cv.get("oof_dice", -math.inf), entry.name))
    return [entry for entry in entries if entry.complete], [entry.name for entry in entries if not entry.complete]


def find_runs(paths: Sequence[Path]) -> list[Path]:
    """The folders with a scores.json among these and directly below them, each once.

    Raises:
        BonepipeError: a path is no folder, or there is no such file in it.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        if not path.is_dir():
            raise BonepipeError(f"{path}: no such folder; name runs (runs/NAME) or a folder of runs (runs/)")
        folders = [path] if (path / SCORES).is_file() else sorted(path.iterdir())
        runs = [folder for folder in folders if (folder / SCORES).is_file()]
        if not runs:
            raise BonepipeError(f"{path}: no {SCORES} here or one folder below; `bonepipe train-all` first")
        found |= {run.resolve(): run for run in runs}
    return list(found.values())


def names(folders: Sequence[Path]) -> dict[str, Path]:
    """The folders by their names; by their whole paths where two have one name."""
    names = [folder.resolve().name for folder in folders]
    pairs = zip(names, folders, strict=True)
    return {name if names.count(name) == 1 else str(folder): folder for name, folder in pairs}
