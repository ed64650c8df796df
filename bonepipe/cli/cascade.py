"""`bonepipe cascade FIRST SECOND`: the masks of a run or an ensemble, mended where another run looks closely."""

from collections.abc import Sequence
from pathlib import Path

from bonepipe.cli.arguments import make_parser

SUMMARY = """\
Coarse to fine: look once more, closely, where a first stage has found the region of some classes. FIRST sees whole
images: a run, or the folder of `bonepipe ensemble`. SECOND sees only the region, at a finer resolution: an ordinary run
with data.region set, trained on the same folds (experiment=wrist is one). The box of the region is found by the first.

Out of fold, each fold's second model looks at the box that the first stage's out-of-fold probabilities predict. Inside
it a class's probability becomes (1 - w) first + w second. w is one of 0, 0.25, 0.5, 0.75, 1 a class, judged by Dice at
threshold 0.5, and stays 0 unless weights chosen on other folds gain more than thresholds.margin standard errors. Out of
fold an image is mixed with the weights that the other folds choose, and these masks are what is scored. Then come
thresholds, post-processing and the test images.

Writes into OUT: cascade.json (weights and gains), thresholds.json, scores.json, oof.csv, examples.jpg, thresholds.png,
submission.csv; `predict`, `pseudo`, `label-errors` and `submit` take OUT with --run.
Settings on the command line are the cascade's own; all else is its stages'."""
KEYS = ("thresholds", "prediction", "device", "data.root")
EXAMPLES = """\
bonepipe train-all experiment=demo
bonepipe train-all experiment=wrist
bonepipe cascade runs/demo runs/wrist -o runs/demo-wrist
bonepipe cascade runs/best runs/wrist -o runs/best-wrist thresholds.by=stratum"""


def main(words: Sequence[str]) -> int:
    """Weights, thresholds and post-processing out of fold, then the test images; what is current is not done again."""
    parser = make_parser("cascade", SUMMARY, keys=KEYS, examples=EXAMPLES, composed=False)
    add = parser.add_argument
    add("first", metavar="FIRST", type=Path, help="a finished run or ensemble that sees whole images")
    add("second", metavar="SECOND", type=Path, help="a finished run with data.region set")
    add("-o", "--output", metavar="OUT", type=Path, help="the folder to write; FIRST-SECOND if not given")
    add("--no-test", action="store_true", help="cross-validate only")
    given = parser.read(words)
    from bonepipe.config import as_yaml
    from bonepipe.pipeline.predictors.own_settings import of_networks, own_settings

    own_settings(given.overrides)  # a misspelt one waits for no import
    from bonepipe.pipeline import cascade, submission
    from bonepipe.pipeline.predictors.cascade import open_cascade
    from bonepipe.pipeline.run_folder import CASCADE
    from bonepipe.report.scores import line
    from bonepipe.screen import tell_next

    out = given.output or given.first.with_name(f"{given.first.name}-{given.second.name}")
    predictor = cascade.assemble(given.first, given.second, out, given.overrides)
    if given.cfg:
        print(as_yaml(predictor.experiment.config), end="")
        return 0
    report = cascade.run(predictor, test=not given.no_test)
    if report is not None:
        print(report)
    if not given.no_test:
        chosen = open_cascade(out, of_networks(given.overrides))  # with the weights that are chosen now
        if told := line(submission.submit(chosen, [CASCADE]), new=report is not None):
            print(told)
    tell_next(out / "examples.jpg")
    return 0
