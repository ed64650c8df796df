"""Hard vote of submissions, on runs."""

import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice, zip_longest
from pathlib import Path
from typing import NamedTuple

from bonepipe.data import submission
from bonepipe.errors import BonepipeError, UsageError, suggestion
from bonepipe.labels import rle

Ballots = Iterable[tuple[submission.Row, ...]]  # a row of each file
Elected = Iterator[tuple[str, str, str]]  # image name, class and text
BATCH = 4  # rows voted on at once: fewer calls, and arrays small enough to stay in the cache


class Panel(NamedTuple):
    """Who decides on a class, and how.

    Attributes:
        members: positions of the files that vote.
        weights: one a member.
        min_votes: the weight that a pixel needs.
    """

    members: tuple[int, ...]
    weights: list[float]
    min_votes: float


def vote(files: Sequence[str], output: str, weights: str | None, min_votes: float | None, only: Sequence[str]) -> int:
    """Vote and write the result; returns the number of rows.

    Args:
        files: two submissions or more.
        output: the file to write, which may be one of them.
        weights: one a file, separated by commas; None for 1 each.
        min_votes: the weight that a pixel needs; None for more than half.
        only: words like `Pisiform,Trapezium=a.csv,b.csv`, see `parse_panels`.

    Raises:
        UsageError: a vote that cannot be held.
        BonepipeError: files that differ in their rows.
    """
    paths = [Path(name) for name in files]
    if len(paths) < 2:
        raise UsageError("a vote needs two files or more")
    numbers = parse_weights(weights, len(paths))
    others = Panel(tuple(range(len(paths))), numbers, threshold(min_votes, numbers))
    panels = parse_panels(only, files, numbers, min_votes)
    check_classes(panels, paths[0])
    # Importing the bar and counting the rows would take a tenth of the vote, so nobody pays who does not see it.
    ballots: Ballots = lockstep(paths)
    if sys.stderr.isatty():
        from tqdm import tqdm

        with paths[0].open("rb") as file:
            ballots = tqdm(ballots, total=sum(1 for _ in file) - 1, unit=" rows")
    if panels:
        return submission.write(output, elect_by_class(paths, ballots, panels, others))
    return submission.write(output, elect(paths, ballots, others.min_votes, numbers))


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


def parse_panels(
    words: Sequence[str], files: Sequence[str], weights: Sequence[float], min_votes: float | None
) -> dict[str, Panel]:
    """Read who decides on which class from words like `Pisiform,Trapezium=a.csv,b.csv`.

    Args:
        words: of the command line.
        files: all that were given; a panel's are among them, named in the same way.
        weights: one a file.
        min_votes: as given; None for more than half of the panel's weight.

    Raises:
        UsageError: a word without classes or files, a file that was not given, a class named twice, or a panel that
            cannot reach `min_votes`.
    """
    panels: dict[str, Panel] = {}
    for word in words:
        sides = (side.split(",") for side in word.partition("=")[::2])
        labels, names = ([part.strip() for part in side if part.strip()] for side in sides)
        if not labels or not names:
            raise UsageError(f"--only {word}: write CLASS=CSV,CSV or CLASS,CLASS=CSV, for example Pisiform=a.csv,b.csv")
        panel = _panel(word, names, files, weights, min_votes)
        for label in labels:
            if label in panels:
                raise UsageError(f"--only {word}: {label} is named twice; give all its files at once")
            panels[label] = panel
    return panels


def _panel(
    word: str, names: Sequence[str], files: Sequence[str], weights: Sequence[float], min_votes: float | None
) -> Panel:
    for name in names:
        if name not in files:
            raise UsageError(f"--only {word}: {name} is not among the files{suggestion(name, files)}")
    members = tuple(position for position, file in enumerate(files) if file in names)
    own = [weights[position] for position in members]
    if not any(own):
        raise UsageError(f"--only {word}: --weights gives these files no weight")
    try:
        return Panel(members, own, threshold(min_votes, own))
    except UsageError as error:
        raise UsageError(f"--only {word}: {error}") from error


def check_classes(panels: Mapping[str, Panel], path: Path) -> None:
    """Raise UsageError where a panel decides on a class that no row of the file is of."""
    if not panels:
        return
    known = list(dict.fromkeys(row.label for row in submission.stream(path)))
    for label in panels:
        if label not in known:
            raise UsageError(f"--only: {path} has no class {label!r}{suggestion(label, known)}")


def lockstep(paths: Sequence[Path]) -> Iterator[tuple[submission.Row, ...]]:
    """Read the files side by side, one row of each at a time; raises BonepipeError where they differ."""
    for rows in zip_longest(*map(submission.stream, paths)):
        if None in rows:
            longer, row = next((path, row) for path, row in zip(paths, rows, strict=True) if row)
            shorter = paths[rows.index(None)]
            raise BonepipeError(f"{shorter}: ends before {row.title} (line {row.line} of {longer})")
        first = rows[0]
        for path, row in zip(paths, rows, strict=True):
            if row.key != first.key:
                raise BonepipeError(
                    f"{path}: line {row.line}: {row.title} where {paths[0]} has {first.title}; "
                    "all files must hold the same rows in the same order"
                )
        yield rows


def elect(paths: Sequence[Path], ballots: Ballots, min_votes: float, weights: Sequence[float]) -> Elected:
    """Vote row by row; yields image name, class and text."""
    equal = None if set(weights) == {1.0} else weights  # counting in integers is exact and faster
    ballots = iter(ballots)
    while batch := list(islice(ballots, BATCH)):
        masks = [_stack(path, rows) for path, rows in zip(paths, zip(*batch, strict=True), strict=True)]
        winners = rle.unstack(rle.vote_runs(masks, min_votes, equal), len(batch))
        for rows, runs in zip(batch, winners, strict=True):
            yield rows[0].image, rows[0].label, rle.format_runs(runs)


def elect_by_class(paths: Sequence[Path], ballots: Ballots, panels: Mapping[str, Panel], others: Panel) -> Elected:
    """Vote row by row, each class by its panel, where it has none by the others'; yields as `elect`."""
    for panel, group in groupby(ballots, lambda rows: panels.get(rows[0].label, others)):
        voters = [paths[position] for position in panel.members]
        own = (tuple(rows[position] for position in panel.members) for rows in group)
        yield from elect(voters, own, panel.min_votes, panel.weights)


def _stack(path: Path, rows: Sequence[submission.Row]) -> rle.Runs:
    try:
        return rle.parse_stack([row.rle for row in rows])
    except ValueError:
        for row in rows:
            submission.runs(path, row)  # raises at the row that is wrong, and names it
        raise
