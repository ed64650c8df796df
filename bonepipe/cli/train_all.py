"""`bonepipe train-all`: every fold, then thresholds and the cross-validation summary."""

from collections.abc import Sequence

from bonepipe.cli.arguments import make_parser

SUMMARY = """\
Train every fold that is not finished (executor=local: here, one a visible GPU; executor=ray: as Ray tasks), then find
from all out-of-fold predictions which classes keep the dense CRF, one threshold a class, and the post-processing that
each class's masks gain from, and write thresholds.json, scores.json, examples.jpg, and the Dice at every threshold as
thresholds.png. With thresholds.by=stratum a class may have another threshold in some strata, where that gains.
Beside the plain out-of-fold Dice stands the one weighted to the test set's mix of strata (conf/strata)."""
KEYS = ("name", "seed", "runs", "device", "data.root", "data.size", "folds", "thresholds", "executor", "trainer")
EXAMPLES = "bonepipe train-all experiment=demo executor=ray"


def main(words: Sequence[str]) -> int:
    """Train what is missing, then choose what is stale."""
    given = make_parser("train-all", SUMMARY, keys=KEYS, examples=EXAMPLES).read(words)
    from bonepipe.config import compose
    from bonepipe.pipeline.experiment import Experiment, say
    from bonepipe.pipeline.steps import Steps
    from bonepipe.screen import tell_next

    experiment = Experiment(compose(given.overrides, checked=False))
    if Steps(experiment).cross_validated:
        say(f"{experiment.folder}: done already")
    else:
        from bonepipe.pipeline import cross_validation

        print(cross_validation.run(experiment, given.overrides))
    tell_next(experiment.folder / "examples.jpg")
    return 0
