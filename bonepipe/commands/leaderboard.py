"""`bonepipe leaderboard RUN...`: record leaderboard scores, and see how well cross-validation predicts them."""

import argparse
import datetime
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from bonepipe.errors import BonepipeError, UsageError
from bonepipe.files import replacing
from bonepipe.report import leaderboard
from bonepipe.report.leaderboard import BOARDS, FEWEST, MEASURES, Agreement, Entry

EPILOG = """\
With --public or --private, the scores of one run are recorded in its scores.json (`leaderboard`), where training and
submitting again leave them. Without, the runs that have scores of both sides are listed, best out of fold first; RUN is
then a run or a folder of runs. Where no leaderboard score is recorded, the one counts that `bonepipe submit` computed
with an answer file (marked *).

The correlation over the runs tells whether a better Dice out of fold promises a better place: Pearson's of the scores,
Spearman's of the ranks. `off by` is the mean absolute difference.

examples:
  bonepipe leaderboard runs/demo --public 0.951 --private 0.947
  bonepipe leaderboard runs/ -o leaderboard.png
"""


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    result = argparse.ArgumentParser(
        "bonepipe leaderboard",
        description="Record leaderboard scores beside runs, and correlate them with cross-validation.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="runs/NAME, or a folder of runs")
    for board in BOARDS:
        result.add_argument(f"--{board}", metavar="DICE", type=float, help=f"score to record, {board} leaderboard")
    result.add_argument("-o", "--output", metavar="FILE.png", type=Path, help="draw the runs as a scatter plot")
    result.add_argument("--json", action="store_true", help="one JSON object: runs, agreement, left_out")
    return result


def main(argv: list[str]) -> int:
    """Record or report."""
    arguments = parser().parse_args(argv)
    scores = {board: getattr(arguments, board) for board in BOARDS if getattr(arguments, board) is not None}
    if scores:
        return _record(arguments, scores)
    if arguments.output is not None and arguments.output.suffix not in (".png", ".jpg"):
        raise UsageError(f"--output {arguments.output}: name a .png or .jpg file")
    folders = find_runs(arguments.runs)
    entries = [leaderboard.read_entry(folder, name) for name, folder in _names(folders).items()]
    entries.sort(key=lambda entry: (-entry.cv.get("oof_dice", -math.inf), entry.name))
    listed, found = [entry for entry in entries if entry.complete], leaderboard.agreements(entries)
    left_out = [entry.name for entry in entries if not entry.complete]
    print(_as_json(listed, found, left_out) if arguments.json else report(listed, found, left_out))
    if arguments.output is not None:
        _draw(arguments.output, listed, found)
    return 0


def _record(arguments: argparse.Namespace, scores: Mapping[str, float]) -> int:
    for board, score in scores.items():
        if not 0 <= score <= 1:  # NaN is not
            raise UsageError(f"--{board} {score:g}: a Dice lies from 0 to 1; 95.1 percent are 0.951")
    if len(arguments.runs) > 1 or arguments.output is not None or arguments.json:
        raise UsageError("--public and --private record the scores of one run: name one, without -o and --json")
    (folder,) = arguments.runs
    if not folder.is_dir():
        raise BonepipeError(f"{folder}: no such folder; name a run, runs/NAME")
    found = leaderboard.record(folder / leaderboard.SCORES, scores, datetime.date.today().isoformat())
    told = ", ".join(f"{board} {found[board]:.4f}" for board in BOARDS if board in found)
    print(f"{folder / leaderboard.SCORES}: leaderboard {told}")
    return 0


def find_runs(paths: Sequence[Path]) -> list[Path]:
    """The folders with a scores.json among these and directly below them, each once.

    Raises:
        BonepipeError: a path is no folder, or there is no such file in it.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        if not path.is_dir():
            raise BonepipeError(f"{path}: no such folder; name runs (runs/NAME) or a folder of runs (runs/)")
        folders = [path] if (path / leaderboard.SCORES).is_file() else sorted(path.iterdir())
        runs = [folder for folder in folders if (folder / leaderboard.SCORES).is_file()]
        if not runs:
            raise BonepipeError(f"{path}: no {leaderboard.SCORES} here or one folder below; `bonepipe train-all` first")
        found |= {run.resolve(): run for run in runs}
    return list(found.values())


def _names(folders: Sequence[Path]) -> dict[str, Path]:
    """The folders by their names; by their whole paths where two have one name."""
    names = [folder.resolve().name for folder in folders]
    pairs = zip(names, folders, strict=True)
    return {name if names.count(name) == 1 else str(folder): folder for name, folder in pairs}


def report(entries: Sequence[Entry], found: Mapping[tuple[str, str], Agreement], left_out: Sequence[str]) -> str:
    """Runs, then agreements, then what to make of them, for people."""
    lines = [*_runs_table(entries), "", *_agreement_table(found)] if entries else ["no run has scores of both sides"]
    if left_out:
        lines += ["", f"left out, as cross-validation or leaderboard scores are missing: {', '.join(left_out)}"]
    if any(one.pearson is None for one in found.values()):
        lines += ["", f"-: a correlation over fewer than {FEWEST} runs, or of equal scores, means nothing"]
    if not entries:
        lines += ["record some with: bonepipe leaderboard runs/NAME --public DICE"]
    return "\n".join(lines)


def _runs_table(entries: Sequence[Entry]) -> list[str]:
    width = max(len("run"), *(len(entry.name) for entry in entries))
    head = "".join(f" {title:>13}" for title in (*MEASURES.values(), *BOARDS))
    rows = [f"{entry.name:<{width}}{''.join(_cells(entry))}" for entry in entries]
    computed = any(entry.board.keys() - entry.recorded for entry in entries)
    note = ["*: computed with an answer file, not recorded"] if computed else []
    return [f"{'run':<{width}}{head}", *rows, *note]


def _cells(entry: Entry) -> list[str]:
    scores = {**entry.cv, **entry.board}
    computed = entry.board.keys() - entry.recorded
    return [
        f" {f'{scores[key]:.4f}' if key in scores else '-':>12}{'*' if key in computed else ' '}"
        for key in (*MEASURES, *BOARDS)
    ]


def _agreement_table(found: Mapping[tuple[str, str], Agreement]) -> list[str]:
    head = f"{'cross-validation':<16} {'leaderboard':<11} {'runs':>4} {'off by':>8} {'Spearman':>9} {'Pearson':>8}"
    return [f"{head}  95% interval", *(_agreement_row(*key, one) for key, one in found.items())]


def _agreement_row(measure: str, board: str, one: Agreement) -> str:
    spearman, pearson = ("-" if value is None else f"{value:.3f}" for value in (one.spearman, one.pearson))
    interval = "" if one.low is None else f"  {one.low:.3f} to {one.high:.3f}"
    head = f"{MEASURES[measure]:<16} {board:<11} {one.runs:>4} {one.difference:>8.4f}"
    return f"{head} {spearman:>9} {pearson:>8}{interval}"


def _as_json(entries: Sequence[Entry], found: Mapping[tuple[str, str], Agreement], left_out: Sequence[str]) -> str:
    runs = [{"name": e.name, **e.cv, **e.board, "recorded": sorted(e.recorded)} for e in entries]
    agreement = [{"cv": cv, "leaderboard": board, **vars(one)} for (cv, board), one in found.items()]
    return json.dumps({"runs": runs, "agreement": agreement, "left_out": [*left_out]}, indent=2, ensure_ascii=False)


def _draw(path: Path, entries: Sequence[Entry], found: Mapping[tuple[str, str], Agreement]) -> None:
    from bonepipe.report import scatter
    from bonepipe.report.examples import save

    drawn = scatter.picture(entries, found)
    if drawn is None:
        raise BonepipeError(f"{path}: not drawn: no run has scores of both sides (--public, --private record them)")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            save(part, drawn)
    except OSError as error:
        raise UsageError(f"--output {path}: cannot be written ({error.strerror})") from error
