"""Run-length encoding and the algebra of masks that are never decoded to pixels.

Text is what a submission holds: `start length` pairs separated by spaces, 1-indexed, row-major. Runs are the same as an
int64 array `[R, 2]`, sorted and disjoint; those made here never touch one another either. Functions that take a mask
accept both, and None or NaN (pandas' reading of an empty cell) as the empty mask. All raise ValueError for bad runs.
"""

import math
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from bonepipe.labels.dice import dice as dice_of_areas

Runs = NDArray[np.int64]
Mask = str | float | Runs | None

# Votes count as equal when they differ by less than this share of the total weight, so that ten weights of 0.1 reach
# 1.0 although their floating-point sum does not.
TOLERANCE = 1e-9
# No image has more pixels than this, which is what OpenCV reads at most. Many such images stacked are still exact in
# float64, which np.interp computes in.
LARGEST_BITS = 30
LARGEST = 1 << LARGEST_BITS


def empty_runs() -> Runs:
    """Make the runs of an empty mask, `[0, 2]`."""
    return np.zeros((0, 2), np.int64)


def mask_runs(mask: NDArray[Any]) -> Runs:
    """Find the runs of a mask `[H, W]`; bool, or numbers where non-zero means inside."""
    mask = np.asarray(mask)
    rows = np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        return empty_runs()
    top = int(rows[0])
    # The rows in use as one line of bytes with a background pixel at both ends.
    part = mask[top : int(rows[-1]) + 1]
    line = np.zeros(part.size + 2, np.bool_)
    line[1:-1].reshape(part.shape)[:] = part
    result = np.flatnonzero(line[1:] != line[:-1]).reshape(-1, 2)
    result[:, 1] -= result[:, 0]
    result[:, 0] += top * mask.shape[1] + 1
    return result


def format_runs(runs: Runs) -> str:
    """Write runs as text.

    >>> format_runs(np.array([[3, 2], [9, 1]]))
    '3 2 9 1'
    """
    return ("%d " * runs.size)[:-1] % tuple(runs.ravel().tolist())  # in one go: joining strings takes twice as long


def encode(mask: NDArray[Any]) -> str:
    """Write a mask `[H, W]` as text; an empty mask gives an empty string.

    >>> encode(np.array([[0, 1, 1], [1, 0, 1]], bool))
    '2 3 6 1'
    """
    return format_runs(mask_runs(mask))


def parse(text: str | float | None) -> Runs:
    """Read the runs of a text, checked except against the image's size. ValueError tells which is wrong and how."""
    if text is None or (isinstance(text, float) and math.isnan(text)):
        return empty_runs()
    if not isinstance(text, str):
        raise ValueError(f"runs are text, not {type(text).__name__}")
    numbers = _parse_numbers(text)
    if numbers.size % 2:
        raise ValueError(f"{numbers.size} numbers: the start {numbers[-1]} has no length")
    runs = numbers.reshape(-1, 2)
    check(runs)
    return runs


def parse_stack(texts: Sequence[str]) -> Runs:
    """Read the masks of several images as one mask of all of them, stacked; `unstack` takes it apart.

    What is done to each image alone can be done to the stack, at a fraction of the calls. ValueError where a text is
    wrong; `parse` of each text tells which and how.
    """
    numbers = [_parse_numbers(text) for text in texts]
    sizes = [len(of_image) for of_image in numbers]
    if any(size % 2 for size in sizes):
        raise ValueError("a start has no length")
    runs = np.concatenate(numbers).reshape(-1, 2)
    if not len(runs):
        return runs
    if runs.min() < 1 or runs.max() > LARGEST or (runs[:, 0] + runs[:, 1]).max() > LARGEST + 1:
        raise ValueError(f"a run starts before pixel 1, is empty or goes beyond pixel {LARGEST}")
    runs[:, 0] += np.repeat(np.arange(len(sizes)) << LARGEST_BITS, np.array(sizes) // 2)
    check(runs, len(texts) << LARGEST_BITS)
    return runs


def unstack(runs: Runs, count: int) -> list[Runs]:
    """Take the runs of `count` stacked images apart."""
    image = (runs[:, 0] - 1) >> LARGEST_BITS
    alone = runs.copy()
    alone[:, 0] -= image << LARGEST_BITS
    cuts = np.searchsorted(image, np.arange(count + 1)).tolist()
    return [alone[start:end] for start, end in pairwise(cuts)]


def check(runs: Runs, pixels: int | None = None) -> None:
    """Raise ValueError at the first run that is too small, out of order, overlapping or beyond the image's pixels."""
    if not len(runs):
        return
    limit = LARGEST if pixels is None else pixels
    # No sum of two positive int64 overflows uint64, so order and the last end bound every number.
    starts, lengths = runs.view(np.uint64).T
    ends = starts + lengths  # the pixel after the run
    if runs.min() < 1 or np.count_nonzero(starts[1:] < ends[:-1]) or ends[-1] > limit + 1:
        _raise_first_fault(runs, pixels)


def as_runs(mask: Mask) -> Runs:
    """Take runs from a text or a run array `[R, 2]`, checked."""
    if not isinstance(mask, np.ndarray):
        return parse(mask)
    runs = mask.reshape(-1, 2).astype(np.int64, copy=False)
    check(runs)
    return runs


def decode(text: Mask, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Draw a text or runs as a mask bool `[H, W]`; ValueError tells which run is wrong and how."""
    runs = as_runs(text)
    pixels = shape[0] * shape[1]
    check(runs, pixels)
    line = np.zeros(pixels, np.bool_)
    for start, length in runs.tolist():
        line[start - 1 : start - 1 + length] = True
    return line.reshape(shape)


def area(mask: Mask) -> int:
    """Count the pixels inside."""
    return int(as_runs(mask)[:, 1].sum())


def union(a: Mask, b: Mask) -> Runs:
    """Unite: the pixels of `a` or `b`."""
    return vote_runs([as_runs(a), as_runs(b)], 1)


def intersection(a: Mask, b: Mask) -> Runs:
    """Intersect: the pixels of both `a` and `b`."""
    return vote_runs([as_runs(a), as_runs(b)], 2)


def difference(a: Mask, b: Mask) -> Runs:
    """Subtract: the pixels of `a` that are not in `b`."""
    return _sweep([as_runs(a), as_runs(b)], np.array([1, -1]), 1)


def intersection_area(a: Mask, b: Mask) -> int:
    """Count the pixels inside both."""
    return _intersection_area(as_runs(a), as_runs(b))


def pixel_accuracy(predicted: Sequence[Runs], true: Sequence[Runs]) -> float:
    """Of an image's pixels that any class covers, here or there, the share whose set of classes is right.

    Args:
        predicted, true: a mask a class, in the same order; classes may overlap.

    Returns:
        1 where no class covers anything.

    >>> pixel_accuracy([parse("1 4"), parse("9 2")], [parse("1 4"), parse("10 2")])
    0.7142857142857143
    """
    covered = vote_runs([*predicted, *true], 1)[:, 1].sum()
    if not covered:
        return 1.0
    pairs = list(zip(predicted, true, strict=True))
    wrong = vote_runs([part for a, b in pairs for part in (difference(a, b), difference(b, a))], 1)[:, 1].sum()
    return 1 - float(wrong / covered)


def dice(a: Mask, b: Mask) -> float:
    """Compute the metric's Dice of two masks; two empty masks score 1.

    >>> round(dice("1 4", "3 4"), 6)
    0.500006
    """
    left, right = as_runs(a), as_runs(b)
    return float(dice_of_areas(_intersection_area(left, right), int(left[:, 1].sum()), int(right[:, 1].sum())))


def vote(masks: Sequence[Mask], min_votes: float, weights: Sequence[float] | None = None) -> str:
    """Write the pixels whose votes reach `min_votes` as text: see `vote_runs`.

    >>> vote(["1 4", "3 4", "4 1"], 2)
    '3 2'
    """
    return format_runs(vote_runs([as_runs(mask) for mask in masks], min_votes, weights))


def vote_runs(masks: Sequence[Runs], min_votes: float, weights: Sequence[float] | None = None) -> Runs:
    """Find the pixels for which the weights of the masks that hold them sum to at least `min_votes`.

    A mask weighs 1 unless told. Float sums short of `min_votes` by less than TOLERANCE of the total weight reach it.
    The masks are valid runs (`as_runs` checks). Raises ValueError where `min_votes` is not positive (the whole image
    would belong), weights are negative, or their number is not that of the masks.
    """
    if not min_votes > 0:
        raise ValueError(f"min_votes must be positive, not {min_votes}")
    if weights is None:
        return _sweep(masks, np.ones(len(masks), np.int64), min_votes)
    values = np.asarray(weights, np.float64)
    if values.shape != (len(masks),):
        raise ValueError(f"{len(masks)} masks need as many weights, not {values.size}")
    if not (np.isfinite(values) & (values >= 0)).all():
        raise ValueError(f"weights must be finite and not negative: {list(weights)}")
    # Half of the threshold bounds the tolerance: where nothing covers a pixel it must stay background.
    return _sweep(masks, values, max(min_votes - TOLERANCE * values.sum(), min_votes / 2))


def majority(weights: Iterable[float]) -> float:
    """Compute the `min_votes` of a strict majority, more than half of the total weight: a tie is background."""
    return sum(weights) * (0.5 + 2 * TOLERANCE)


def _sweep(masks: Sequence[Runs], weights: NDArray[Any], threshold: float) -> Runs:
    """Sweep the sorted starts and ends of all runs for where the summed weight is at least `threshold` (positive)."""
    runs = np.concatenate([empty_runs(), *masks])
    if not len(runs):
        return runs
    gain = np.repeat(weights, [len(mask) for mask in masks])
    position = np.concatenate((runs[:, 0], runs[:, 0] + runs[:, 1]))
    order = np.argsort(position, kind="stable")  # merges the lists, each of which is sorted already
    position = position[order]
    inside = np.cumsum(np.concatenate((gain, -gain))[order]) >= threshold
    # The votes at a position count only when all its events are in.
    last = np.append(np.flatnonzero(position[1:] != position[:-1]), len(position) - 1)
    inside = inside[last]
    changed = np.flatnonzero(inside != np.append(False, inside[:-1]))
    result = position[last[changed]].reshape(-1, 2)
    result[:, 1] -= result[:, 0]
    return result


def _intersection_area(a: Runs, b: Runs) -> int:
    """Sum over the runs of `a` of what `b` covers up to its end, less what it covers up to its start."""
    if not len(a) or not len(b):
        return 0
    edges = np.stack((b[:, 0], b[:, 0] + b[:, 1]), axis=1).ravel()
    covered = np.zeros(len(edges), np.int64)
    np.cumsum(b[:, 1], out=covered[1::2])
    covered[2::2] = covered[1:-1:2]
    # `covered` is linear between the edges with slope 0 or 1, so the interpolation is exact.
    return round((np.interp(a[:, 0] + a[:, 1], edges, covered) - np.interp(a[:, 0], edges, covered)).sum())


def _parse_numbers(text: str) -> Runs:
    """Read all numbers of a text, int64 `[2 R]`."""
    if not text or text.isspace():  # which fromstring warns of
        return np.zeros(0, np.int64)
    if "+" in text:  # fromstring would read "+ 5" as one number; "- 5" too, but no negative number passes `check`
        _raise_not_integer(text)
    try:
        return np.fromstring(text, np.int64, sep=" ")
    except ValueError:
        _raise_not_integer(text)


def _raise_not_integer(text: str) -> NoReturn:
    words = text.split()
    index = next((i for i, word in enumerate(words) if not re.fullmatch(r"-?[0-9]+", word)), 0)
    raise ValueError(f"run {index // 2 + 1}: {words[index][:80]!r} is not an integer")


def _raise_first_fault(runs: Runs, pixels: int | None) -> None:
    """Name the first wrong run in words; Python's integers cannot overflow."""
    end = 1
    for number, (start, length) in enumerate(runs.tolist(), 1):
        if start < 1 or length < 1:
            name, value = ("start", start) if start < 1 else ("length", length)
            raise ValueError(f"run {number}: {name} {value} is below 1")
        if start < end:
            what = "overlaps" if number > 1 and start >= runs[number - 2, 0] else "starts before"
            raise ValueError(f"run {number}: start {start} {what} the run before it, which ends at pixel {end - 1}")
        end = start + length
        if pixels is not None and end - 1 > pixels:
            raise ValueError(f"run {number}: ends at pixel {end - 1}, beyond the image's {pixels} pixels")
        if end > LARGEST:
            raise ValueError(f"run {number}: no image has a pixel {end - 1}; {LARGEST} are the most")
