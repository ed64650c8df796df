"""`bonepipe submit`: the test images' masks from all folds together, or from anything finished."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bonepipe.cli.arguments import make_parser

if TYPE_CHECKING:
    from bonepipe.pipeline.predictors.base import Predictor

SUMMARY = """\
Train what is missing, as `bonepipe train-all` does, then average the probabilities of all folds' models and test-time
views, apply the thresholds and write the masks of the test images as runs/NAME/submission.csv. The file is checked
against the test set, and scored where the dataset has an answer.csv. What is done is not done again; what is stale is,
and says why. With --run the run, ensemble or cascade in that folder predicts, and nothing is trained."""
KEYS = ("name", "runs", "device", "data.root", "prediction", "tta", "thresholds", "executor")
EXAMPLES = """\
bonepipe submit experiment=demo
bonepipe submit --run runs/best prediction.batch_size=2 device=cpu"""


def main(words: Sequence[str]) -> int:
    """Train, choose, predict, write, check, score, track: what is missing or stale of it."""
    given = make_parser("submit", SUMMARY, keys=KEYS, examples=EXAMPLES, run=True).read(words)
    from bonepipe.pipeline import submission
    from bonepipe.report.scores import line
    from bonepipe.screen import tell_next

    predictor, report = _predictor(given.run, given.overrides)
    if report is not None:
        print(report)
    if told := line(submission.submit(predictor), new=report is not None):
        print(told)
    tell_next(predictor.experiment.folder / "examples.jpg")
    return 0


def _predictor(folder: Path | None, words: Sequence[str]) -> "tuple[Predictor, str | None]":
    """What predicts, and a report of the cross-validation where it was made only now."""
    from bonepipe.config import compose
    from bonepipe.pipeline.experiment import Experiment
    from bonepipe.pipeline.predictors.run import refuse_region, require_finished
    from bonepipe.pipeline.steps import Steps

    if folder is not None:
        from bonepipe.pipeline.predictors.opening import open_predictor

        return open_predictor(folder, words), None
    experiment = Experiment(compose(words, checked=False))
    refuse_region(experiment)
    report = None
    if not Steps(experiment).cross_validated:
        from bonepipe.pipeline import cross_validation, submission

        submission.read_test_set(experiment)  # what it refuses is known before the training
        report = cross_validation.run(experiment, words)
        experiment = replace(experiment)  # which remembers what was read before the training
    return require_finished(experiment), report
