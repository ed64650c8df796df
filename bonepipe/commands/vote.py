"""`bonepipe vote A.csv B.csv ... -o OUT.csv`: hard vote of submissions, on runs."""

import argparse
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, zip_longest
from pathlib import Path

from bonepipe.errors import BonepipeError, UsageError
from bonepipe.inference import submission
from bonepipe.labels import rle

BATCH = 4  # rows voted on at once: fewer calls, and arrays small enough to stay in the cache

EPILOG = """\
A pixel belongs to a class when enough files say so. Without --min-votes this takes more than half of the total weight:
two of three files, three of four. At a tie (two of four) the pixel is background; --min-votes 2 makes it foreground.
With --min-votes K a pixel needs a weight of at least K. Each file weighs 1 unless --weights gives one number a file.
All files must hold the same rows in the same order.

examples:
  bonepipe vote fold0.csv fold1.csv fold2.csv -o ensemble.csv
  bonepipe vote unet.csv fpn.csv segformer.csv -o ensemble.csv --weights 2,1,1 --min-votes 2
"""


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    result = argparse.ArgumentParser(
        "bonepipe vote",
        description="Combine several submission CSVs by majority vote.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("files", metavar="CSV", nargs="+", help="two files or more")
    result.add_argument("-o", "--output", metavar="OUT.csv", required=True, help="the file to write")
    result.add_argument("--min-votes", metavar="K", type=float, help="at least this weight (default: more than half)")
    result.add_argument("--weights", metavar="W1,W2,...", help="one weight a file (default: 1 each)")
    return result


def parse_weights(text: str | None, files: int) -> list[float]:
    """Read one weight a file; raises UsageError for anything but that many numbers, not negative, not all zero."""
    if text is None:
        return [1.0] * files
    try:
        weights = [float(word) for word in text.split(",")]
    except ValueError as error:
        raise UsageError(f"--weights {text}: expected numbers separated by commas, for example 2,1,1") from error
    if len(weights) != files:
        raise UsageError(f"--weights {text}: {len(weights)} weights for {files} files")
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
        raise UsageError(f"--weights {text}: weights must be finite, not negative and not all zero")
    return weights


def threshold(min_votes: float | None, weights: Sequence[float]) -> float:
    """Decide the weight a pixel needs; raises UsageError for one that every pixel or none would reach."""
    if min_votes is None:
        return rle.majority(weights)
    total = math.fsum(weights)
    if not 0 < min_votes <= total * (1 + rle.TOLERANCE):
        raise UsageError(f"--min-votes {min_votes:g}: must be above 0 and at most the total weight, {total:g}")
    return min_votes


def lockstep(paths: Sequence[Path]) -> Iterator[tuple[submission.Row, ...]]:
    """Read the files side by side, one row of each at a time; raises BonepipeError where they differ."""
    for rows in zip_longest(*map(submission.stream, paths)):
        if None in rows:
            longer, row = next((path, row) for path, row in zip(paths, rows, strict=True) if row)
            shorter = paths[rows.index(None)]
            raise BonepipeError(f"{shorter}: ends before {row.image}, {row.label} (line {row.line} of {longer})")
        first = rows[0]
        for path, row in zip(paths, rows, strict=True):
            if row.key != first.key:
                raise BonepipeError(
                    f"{path}: line {row.line}: {row.image}, {row.label} where {paths[0]} has {first.image}, "
                    f"{first.label}; all files must hold the same rows in the same order"
                )
        yield rows


def elect(
    paths: Sequence[Path], ballots: Iterable[tuple[submission.Row, ...]], min_votes: float, weights: Sequence[float]
) -> Iterator[tuple[str, str, str]]:
    """Vote row by row; yields image name, class and text."""
    equal = None if set(weights) == {1.0} else weights  # counting in integers is exact and faster
    ballots = iter(ballots)
    while batch := list(islice(ballots, BATCH)):
        masks = [_stack(path, rows) for path, rows in zip(paths, zip(*batch, strict=True), strict=True)]
        winners = rle.unstack(rle.vote_runs(masks, min_votes, equal), len(batch))
        for rows, runs in zip(batch, winners, strict=True):
            yield rows[0].image, rows[0].label, rle.format_runs(runs)


def _stack(path: Path, rows: Sequence[submission.Row]) -> rle.Runs:
    try:
        return rle.parse_stack([row.rle for row in rows])
    except ValueError:
        for row in rows:
            submission.runs(path, row)  # raises at the row that is wrong, and names it
        raise


def main(argv: list[str]) -> int:
    """Vote and write the result."""
    arguments = parser().parse_args(argv)
    paths = [Path(name) for name in arguments.files]
    if len(paths) < 2:
        raise UsageError("a vote needs two files or more")
    weights = parse_weights(arguments.weights, len(paths))
    min_votes = threshold(arguments.min_votes, weights)
    # Importing the bar and counting the rows would take a tenth of the vote, so nobody pays who does not see it.
    ballots = _with_bar(lockstep(paths), paths[0]) if sys.stderr.isatty() else lockstep(paths)
    count = submission.write(arguments.output, elect(paths, ballots, min_votes, weights))
    print(f"wrote {arguments.output}: {count} rows from {len(paths)} files")
    return 0


def _with_bar(ballots: Iterable[tuple[submission.Row, ...]], path: Path) -> Iterable[tuple[submission.Row, ...]]:
    from tqdm import tqdm

    return tqdm(ballots, total=_count_rows(path), unit=" rows")


def _count_rows(path: Path) -> int:
    try:
        with path.open("rb") as file:
            return sum(1 for _ in file) - 1
    except OSError as error:
        raise BonepipeError(f"{path}: cannot be read ({error.strerror})") from error
