"""`bonepipe score PRED.csv TRUTH.csv`: the competition's metric."""

import argparse
import json
from typing import Any

from bonepipe.data import submission

EPILOG = """\
The score is the mean over the truth's images and classes of (2 |A and B| + 1e-4) / (|A| + |B| + 1e-4).
Both files have the columns image_name,class,rle and the same images and classes, in any order. Where the truth also has
the column Usage (Public or Private), the two halves are scored as well.

example:
  bonepipe score runs/demo/submission.csv data/phantom/answer.csv
"""


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    result = argparse.ArgumentParser(
        "bonepipe score",
        description="Score a CSV of masks against the truth.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("prediction", metavar="PRED.csv", help="the masks to score")
    result.add_argument("truth", metavar="TRUTH.csv", help="the true masks")
    result.add_argument("--json", action="store_true", help="one JSON object: dice, per_class, public, private")
    return result


def report(scores: dict[str, Any]) -> str:
    """Lay the scores out for people: classes from worst to best, then the means."""
    classes = sorted(scores["per_class"].items(), key=lambda item: item[1])
    totals = [(name, scores[name]) for name in ("public", "private", "dice") if name in scores]
    width = max(len(name) for name, _ in classes + totals)
    lines = [f"{name:<{width}}  {value:.5f}" for name, value in classes + totals]
    return "\n".join([*lines[: len(classes)], "-" * (width + 9), *lines[len(classes) :]])


def main(argv: list[str]) -> int:
    """Score and print."""
    arguments = parser().parse_args(argv)
    scores = submission.score_tables(submission.read(arguments.prediction), submission.read(arguments.truth))
    print(json.dumps(scores, indent=2) if arguments.json else report(scores))
    return 0
