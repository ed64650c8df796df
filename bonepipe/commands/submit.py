"""`bonepipe submit`: the test images' masks from all folds together."""

from collections.abc import Sequence

from bonepipe.commands.handover import hand_over
from bonepipe.commands.predictor import Run, masks, require_finished
from bonepipe.data.catalog import test_images
from bonepipe.pipeline.experiment import Experiment, parse

HELP = """usage: bonepipe submit [OVERRIDES]

Average the probabilities of all folds' models and test-time views, apply the thresholds, and write the masks of the
test images as runs/NAME/submission.csv. The file is checked against the test set, and scored where the dataset has an
answer.csv. Needs `bonepipe train-all` before.

example: bonepipe submit experiment=demo tta=none"""


def main(arguments: Sequence[str]) -> int:
    """Predict, write, check, score, track."""
    config = parse(arguments, HELP)
    if config is None:
        return 0
    experiment = Experiment(config)
    require_finished(experiment)
    images = test_images(experiment.data)
    hand_over(experiment, images, masks(Run(experiment), images))
    return 0
