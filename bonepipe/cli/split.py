"""`bonepipe split`: write the fold CSV."""

from collections.abc import Sequence
from pathlib import Path

from bonepipe.cli.arguments import make_parser

SUMMARY = """\
Write the CSV that says which fold validates each patient (folds.file), unless it is there, and verify it against the
data: no patient in two folds, every image listed once. Patients are dealt out by scikit-learn's GroupKFold;
folds=holdout, kfold, stratified and stratified_group split otherwise, into files of their own."""
KEYS = ("data.root", "data.name", "folds", "strata")
EXAMPLES = "bonepipe split experiment=effunet_512 data.root=/data/hand folds.count=5"


def main(words: Sequence[str]) -> int:
    """Write or verify the split and print it."""
    given = make_parser("split", SUMMARY, keys=KEYS, examples=EXAMPLES).read(words)
    from bonepipe.config import compose
    from bonepipe.data.folds import summary
    from bonepipe.pipeline.experiment import Experiment

    experiment = Experiment(compose(given.overrides, uses=("data", "folds", "strata")))
    there = Path(experiment.folds.file).exists()
    text = summary(experiment.cohort.own_images, experiment.cohort.assignment)
    print(f"{experiment.folds.file}: {'verified' if there else 'written'}\n{text}")
    return 0
