"""`bonepipe pseudo`: pseudo-labels of the test images from anything finished."""

from collections.abc import Sequence

from bonepipe.cli.arguments import make_parser
from bonepipe.errors import UsageError

SUMMARY = """\
Predict the test images with all models and views of a finished experiment or, with --run, of any run, ensemble or
cascade, and keep what is sure: a pixel belongs to a class where its probability is at least the confidence C, does not
where it is at most 1 - C, and does not count in between. Probabilities are calibrated a class: 0.9 means that of such
pixels 90% were right out of fold, as losses like focal make networks say 0.7 where they are right nearly always. --raw
takes them as they are.
Writes pseudo.csv into that folder (runs/NAME) and, on where it comes from, runs/NAME/pseudo.json. One more round:
  bonepipe train-all experiment=EXPERIMENT name=NAME-pseudo data.pseudo=runs/NAME/pseudo.csv data.pseudo_weight=0.5
There these images are trained on in every fold, and none of them validates. The out-of-fold Dice of that round flatters
it all the same: its labels come from the models of all folds, and all but one of these have seen what a fold validates.
The test score does not."""
KEYS = ("name", "runs", "device", "prediction")
EXAMPLES = """\
bonepipe pseudo experiment=demo --confidence 0.9
bonepipe pseudo --run runs/demo-wrist"""


def main(words: Sequence[str]) -> int:
    """Predict, separate, write."""
    parser = make_parser("pseudo", SUMMARY, keys=KEYS, examples=EXAMPLES, run=True)
    parser.add_argument("--confidence", metavar="C", type=float, default=0.9, help="above 0.5, below 1 (0.9)")
    parser.add_argument("--raw", action="store_true", help="do not calibrate the probabilities")
    given = parser.read(words)
    if not 0.5 < given.confidence < 1:
        raise UsageError(f"--confidence {given.confidence:g}: must lie above 0.5 and below 1")
    from bonepipe.pipeline.predictors.opening import open_predictor

    predictor = open_predictor(given.run, given.overrides)
    from bonepipe.pipeline.pseudo_labels import write  # heavy, so it comes after the settings

    path, images, sure, ambiguous = write(predictor, given.confidence, raw=given.raw)
    print(f"{path}: {images} images, {sure} sure and {ambiguous} ambiguous pixels at {given.confidence:g}")
    return 0
