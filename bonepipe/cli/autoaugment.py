"""`bonepipe autoaugment fold=K`: search an augmentation policy on a trained fold."""

from collections.abc import Sequence

from bonepipe.cli.arguments import make_parser

SUMMARY = """\
Fast AutoAugment: search the augmentation policy under which the fold's trained weights still recognise its validation
images. Nothing is trained. What was interrupted goes on (runs/NAME/fold-K/policy.journal). The result is
runs/NAME/policy.yaml, which another experiment trains with:
  bonepipe train-all experiment=EXPERIMENT name=NAME-searched augment=searched augment.file=runs/NAME/policy.yaml
The fold's validation images have chosen the policy, so that its own score is a little flattered afterwards.
Printed, and written at the head of the file, is by how much the policy beats no augmentation on these images: near or
above 0 they are still recognised, far below 0 the policy distorts more than the model has learned to bear. Whether
training gains by it, only training tells: `bonepipe compare runs/NAME runs/NAME-searched`."""
KEYS = ("fold", "name", "seed", "runs", "device", "search")
EXAMPLES = "bonepipe autoaugment experiment=demo fold=0 search.trials=100"


def main(words: Sequence[str]) -> int:
    """Search, merge, write."""
    given = make_parser("autoaugment", SUMMARY, keys=KEYS, examples=EXAMPLES).read(words)
    from bonepipe.config import compose
    from bonepipe.pipeline.experiment import Experiment

    experiment = Experiment(compose(given.overrides))
    from bonepipe.pipeline.autoaugment import search  # heavy, so it comes after the settings

    for line in search(experiment):
        print(line)
    return 0
