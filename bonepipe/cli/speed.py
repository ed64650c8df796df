"""`bonepipe speed`: whether the network or the data loading holds training back."""

from collections.abc import Sequence

from bonepipe.cli.arguments import make_parser

SUMMARY = """\
Train a fold's model for two short epochs, once with data loading and once on a batch that is on the device already, and
print the throughput and the split of the step's time for both. Where they differ, the loader holds the device back.
Nothing is kept. Each epoch takes 30 steps where trainer.train_batches does not say otherwise."""
KEYS = ("fold", "device", "data.root", "data.size", "model", "trainer")
EXAMPLES = "bonepipe speed experiment=effunet_512 trainer.workers=8 trainer.compile=true"


def main(words: Sequence[str]) -> int:
    """Measure both modes and print them."""
    given = make_parser("speed", SUMMARY, keys=KEYS, examples=EXAMPLES).read(words)
    from bonepipe.config import compose
    from bonepipe.pipeline.experiment import Experiment

    experiment = Experiment(compose(given.overrides))
    from bonepipe.pipeline.speed import measure  # heavy, so it comes after the settings

    for line in measure(experiment):
        print(line, flush=True)
    return 0
