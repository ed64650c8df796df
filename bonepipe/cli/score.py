"""`bonepipe score PRED.csv TRUTH.csv`: the competition's metric."""

import json
from collections.abc import Sequence

from bonepipe.cli.arguments import make_parser

SUMMARY = """\
Score a CSV of masks against the truth.

The score is the mean over the truth's images and classes of (2 |A and B| + 1e-4) / (|A| + |B| + 1e-4).
Both files have the columns image_name,class,rle and the same images and classes, in any order. Where the truth also has
the column Usage (Public or Private), the two halves are scored as well.

With --json two scores that people know stand beside it. Classes may overlap, so each is a mask of its own:
  miou            the mean over images and classes of |A and B| / |A or B|; two empty masks score 1
  pixel_accuracy  of an image's pixels that any class covers, in the truth or in the prediction, the share whose set of
                  classes is right; the mean over images. Background that both agree on does not count: it is most of
                  a radiograph, and would make any prediction look right"""
EXAMPLES = "bonepipe score runs/demo/submission.csv data/phantom/answer.csv"


def main(words: Sequence[str]) -> int:
    """Score and print."""
    parser = make_parser("score", SUMMARY, examples=EXAMPLES)
    parser.add_argument("prediction", metavar="PRED.csv", help="the masks to score")
    parser.add_argument("truth", metavar="TRUTH.csv", help="the true masks")
    parser.add_argument(
        "--json", action="store_true", help="one JSON object: dice, miou, pixel_accuracy, per_class, ..."
    )
    given = parser.read(words)
    from bonepipe.data import submission
    from bonepipe.report import scores as report

    scores = submission.score_tables(submission.read(given.prediction), submission.read(given.truth))
    print(json.dumps(scores, indent=2) if given.json else report.text(scores))
    return 0
