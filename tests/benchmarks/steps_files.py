"""Votes and scores of whole submissions, as commands in processes of their own."""

import statistics
import tempfile
from pathlib import Path

import numpy as np

from bonepipe.data import submission
from bonepipe.labels import rle
from bonepipe.pipeline import vote as vote_command

from . import baseline
from .material import Material, write_votes
from .measure import MB, run_child, seconds
from .table import Row, duration

IMAGES = 288
MAJORITY = 2  # of three
MAX_PEAK = 400  # MB


def check_votes(material: Material, images: int, rows: int) -> str:
    """Texts of the first rows equal the baseline's vote on pixels, string by string."""
    paths, _ = write_votes(material, images)
    weights = vote_command.parse_weights(None, len(paths))
    ballots = vote_command.elect(paths, vote_command.lockstep(paths), vote_command.threshold(None, weights), weights)
    texts = baseline.read_texts(paths)
    for number, (_, _, text) in zip(range(rows), ballots, strict=False):
        assert text == baseline.vote([column[number] for column in texts], material.size, MAJORITY)
    return f"{rows} rows equal the vote on pixels, string by string"


def check_scores(material: Material, images: int, rows: int) -> str:
    """Dice of the first rows equals the baseline's on pixels."""
    paths, truth = write_votes(material, images)
    texts = baseline.read_texts([paths[1], truth])
    ours = submission.dice_rows(submission.read(paths[1]), submission.read(truth))
    theirs = [baseline.score(texts[0][number], texts[1][number], material.size) for number in range(rows)]
    np.testing.assert_allclose(ours[:rows], theirs, rtol=1e-12)
    return f"Dice of {rows} rows equals that on pixels"


def vote(material: Material, repeats: int, rows: int = 58) -> list[Row]:
    """Hard vote of three files; the baseline reads them all and votes on some rows."""
    paths, _ = write_votes(material, IMAGES)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out.csv"
        children = [run_child("cli", "vote", *paths, "-o", output) for _ in range(min(repeats, 3))]
        count = len(submission.read(output).rows)
    texts: list[list[list[str]]] = []
    reading = seconds(lambda: texts.append(baseline.read_texts(paths)))
    voting = seconds(
        lambda: [baseline.vote([column[n] for column in texts[0]], material.size, MAJORITY) for n in range(rows)]
    )
    theirs = reading + voting / rows * count
    ours = statistics.median(child.seconds for child in children)
    peak = max(child.peak for child in children) / MB
    step, ratio = f"hard vote of 3 CSVs of {count:,} rows, whole command", theirs / ours
    note = f"{check_votes(material, IMAGES, rows)}; the baseline voted on these, the rest is extrapolated"
    return [
        Row(step, duration(theirs), duration(ours), f"{ratio:,.0f}x", "at least 200x", ratio >= 200, note),
        Row("... peak memory", "", f"{peak:,.0f} MB", "", f"under {MAX_PEAK} MB", peak < MAX_PEAK, "of the process"),
    ]


def score(material: Material, repeats: int, rows: int = 58) -> list[Row]:
    """Score of a submission against the truth."""
    paths, truth = write_votes(material, IMAGES)
    children = [run_child("cli", "score", paths[0], truth, "--json") for _ in range(min(repeats, 3))]
    ours = statistics.median(child.seconds for child in children)
    texts = baseline.read_texts([paths[0], truth])
    scoring = seconds(lambda: [baseline.score(texts[0][n], texts[1][n], material.size) for n in range(rows)])
    theirs, count = scoring / rows * len(texts[0]), len(texts[0])
    step, note = f"score of two CSVs of {count:,} rows, whole command", check_scores(material, IMAGES, rows)
    note = f"{note}; the baseline scored these, the rest is extrapolated"
    return [Row(step, duration(theirs), duration(ours), f"{theirs / ours:,.0f}x", "under 3 s", ours < 3, note)]


def mean_dice(texts: list[str], others: list[str]) -> float:
    """Mean Dice of two lists of texts."""
    return float(np.mean([rle.dice(a, b) for a, b in zip(texts, others, strict=True)]))
