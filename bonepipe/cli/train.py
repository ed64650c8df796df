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
    parser = make_parser("train", SUMMARY, keys=KEYS, examples=EXAMPLES)
    after = "rounds of folds that follow; `train-all` says so to each fold, for the time left"
    parser.add_argument("--after", metavar="N", type=int, help=after)
    given = parser.read(words)
    from bonepipe.config import compose
    from bonepipe.interruption import exit_code
    from bonepipe.pipeline import fold
    from bonepipe.pipeline.experiment import Experiment, say
    from bonepipe.screen import tell_next

    experiment = Experiment(compose(given.overrides, checked=False))
    number = experiment.config["fold"]
    try:
        if not fold.run(experiment, number, given.overrides, after=given.after or 0):
            say(f"{experiment.fold_folder(number)}: done already")
    except KeyboardInterrupt as stop:
        if given.after is None:
            raise
        return exit_code(stop)  # of which `train-all` tells
    if given.after is None:
        tell_next(experiment.fold_folder(number) / "oof_dice.csv")
    return 0
