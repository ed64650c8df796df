"""`bonepipe train fold=K`: one fold, to its out-of-fold predictions."""

from collections.abc import Sequence

from bonepipe.cli.arguments import make_parser

SUMMARY = """\
Train one fold and predict its validation images. What is finished is not done again; what was interrupted goes on from
its last checkpoint; what was begun with other settings or other files is refused. Results: runs/NAME/fold-K/."""
KEYS = ("fold", "name", "seed", "runs", "device", "data.root", "data.size", "trainer")
EXAMPLES = """\
bonepipe train experiment=demo fold=0
bonepipe train experiment=effunet_512 fold=0 name=longer trainer.epochs=60 optimizer.lr=5e-4 loss=bce"""


def main(words: Sequence[str]) -> int:
    """Train a fold unless it is trained, then predict its validation images unless that is done."""
    given = make_parser("train", SUMMARY, keys=KEYS, examples=EXAMPLES).read(words)
    from bonepipe.config import compose
    from bonepipe.pipeline import fold
    from bonepipe.pipeline.experiment import Experiment, say

    experiment = Experiment(compose(given.overrides, checked=False))
    number = experiment.config["fold"]
    if not fold.run(experiment, number, given.overrides):
        say(f"{experiment.fold_folder(number)}: done already")
    return 0
