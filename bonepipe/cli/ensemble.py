"""`bonepipe ensemble RUN[:WEIGHT]... -o runs/NAME`: finished runs as one, cross-validated, up to a submission."""

from collections.abc import Sequence
from pathlib import Path

from bonepipe.cli.arguments import make_parser

SUMMARY = """\
Average finished runs, cross-validate the mean, and predict the test images with it. A member is the folder of a run,
all its folds together; its weight follows a colon (default 1). Members may differ in model, seed, size, windows and
views. Each predicts as its own run did; then all maps are brought to the largest member's height and width and averaged
there. The result is a folder as `train-all` and `submit` leave one, which `predict`, `pseudo`, `label-errors`, `submit`
(--run) and `cascade` take, as long as its members are what they were.

First the mean is cross-validated on the images that every member predicted out of fold: thresholds and post-processing
are chosen for the ensemble as a whole, and its Dice stands beside that of each member. Judge by that table, not by the
test scores. `bonepipe select` finds members that are worth it.

More can be said in a YAML file in place of the list:
  mean: arithmetic                # or geometric: the sigmoid of the mean logit
  members:
    - {run: runs/unet}                                        # all folds, weight 1
    - {run: runs/fpn, weight: 2, folds: [0, 1]}
    - {run: runs/wide, overrides: [tta=none, windows.size=768]}     # predicts in another way than it was validated
    - {run: runs/long, epochs: [28, 29, 30]}                  # the mean of these epochs' outputs
    - {run: runs/sharp, classes: [Pisiform, Trapezium]}       # has a say in these classes only
An entry's overrides may change tta, windows, prediction.precision and .compile, and leave out the CRF that a run has
tried (postprocess.crf=null). Epochs need a training with trainer.keep_epochs=N; to average their weights rather than
their outputs is what averaging=swa does. Members with overrides or epochs predict their validation images anew, once.

Settings on the command line are the ensemble's own; all else is its members'."""
KEYS = ("thresholds", "prediction", "device", "data.root")
EXAMPLES = """\
bonepipe ensemble runs/unet runs/fpn:2 runs/segformer -o runs/three
bonepipe ensemble runs/unet runs/fpn -o runs/two --mean geometric --no-test thresholds.by=stratum
bonepipe ensemble best.yaml -o runs/best prediction.batch_size=2"""


def main(words: Sequence[str]) -> int:
    """Cross-validate, then predict the test images; what is current is not done again."""
    parser = make_parser("ensemble", SUMMARY, keys=KEYS, examples=EXAMPLES, composed=False)
    add = parser.add_argument
    add("members", metavar="RUN[:WEIGHT]", nargs="+", help="finished runs, or one YAML file")
    add("-o", "--output", metavar="OUT", type=Path, required=True, help="the folder to write, runs/NAME")
    add("--mean", choices=("arithmetic", "geometric"), help="of probabilities or of logits (the file's)")
    add("--no-test", action="store_true", help="cross-validate only")
    given = parser.read(words)
    from bonepipe.config import as_yaml
    from bonepipe.pipeline.predictors.own_settings import own_settings

    own_settings(given.overrides)  # a misspelt one waits for no import
    from bonepipe.pipeline import ensemble, submission
    from bonepipe.pipeline.predictors.ensemble import assemble
    from bonepipe.pipeline.run_folder import ENSEMBLE
    from bonepipe.report.scores import line
    from bonepipe.screen import tell_next

    predictor = assemble(ensemble.read_members(given.members, given.mean), given.output, given.overrides)
    if given.cfg:
        print(as_yaml(predictor.experiment.config), end="")
        return 0
    report = ensemble.run(predictor, test=not given.no_test)
    if report is not None:
        print(report)
    if not given.no_test and (told := line(submission.submit(predictor, [ENSEMBLE]), new=report is not None)):
        print(told)
    tell_next(given.output / "examples.jpg")
    return 0
