"""`bonepipe leaderboard RUN...`: record leaderboard scores, and see how well cross-validation predicts them."""

import argparse
import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path

from bonepipe.cli.arguments import make_parser
from bonepipe.errors import UsageError

BOARDS = ("public", "private")
SUMMARY = """\
Record leaderboard scores beside runs, and correlate them with cross-validation.

With --public or --private, the scores of one run are recorded in its scores.json (`leaderboard`), where training and
submitting again leave them. Without, the runs that have scores of both sides are listed, best out of fold first; RUN is
then a run or a folder of runs. Where no leaderboard score is recorded, the one counts that `bonepipe submit` computed
with an answer file (marked *).

The correlation over the runs tells whether a better Dice out of fold promises a better place: Pearson's of the scores,
Spearman's of the ranks. `off by` is the mean absolute difference."""
EXAMPLES = """
bonepipe leaderboard runs/demo --public 0.951 --private 0.947
bonepipe leaderboard runs/ -o leaderboard.png"""


def main(words: Sequence[str]) -> int:
    """Record or report."""
    parser = make_parser("leaderboard", SUMMARY, examples=EXAMPLES)
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="runs/NAME, or a folder of runs")
    for board in BOARDS:
        parser.add_argument(f"--{board}", metavar="DICE", type=float, help=f"score to record, {board} leaderboard")
    parser.add_argument("-o", "--output", metavar="FILE.png", type=Path, help="draw the runs as a scatter plot")
    parser.add_argument("--json", action="store_true", help="one JSON object: runs, agreement, left_out")
    given = parser.read(words)
    scores = {board: getattr(given, board) for board in BOARDS if getattr(given, board) is not None}
    if scores:
        return _record(given, scores)
    if given.output is not None and given.output.suffix not in (".png", ".jpg"):
        raise UsageError(f"--output {given.output}: name a .png or .jpg file")
    from bonepipe.pipeline import leaderboard
    from bonepipe.report import leaderboard as report

    listed, left_out = leaderboard.read_entries(given.runs)
    found = leaderboard.agreements(listed)
    print(report.as_json(listed, found, left_out) if given.json else report.text(listed, found, left_out))
    if given.output is not None:
        from bonepipe.report import scatter

        scatter.save(given.output, listed, found)
    return 0


def _record(given: argparse.Namespace, scores: Mapping[str, float]) -> int:
    for board, score in scores.items():
        if not 0 <= score <= 1:  # NaN is not
            raise UsageError(f"--{board} {score:g}: a Dice lies from 0 to 1; 95.1 percent are 0.951")
    if len(given.runs) > 1 or given.output is not None or given.json:
        raise UsageError("--public and --private record the scores of one run: name one, without -o and --json")
    from bonepipe.pipeline import leaderboard, tracked
    from bonepipe.pipeline.run_folder import locked

    path = given.runs[0] / leaderboard.SCORES
    leaderboard.require_scores(path)
    with locked(path.parent):
        record = leaderboard.record(path, scores, datetime.date.today().isoformat())
        tracked.tell_leaderboard(path.parent)
    print(f"{path}: leaderboard {', '.join(f'{board} {record[board]:.4f}' for board in BOARDS if board in record)}")
    return 0
