"""`bonepipe speed`: whether the network or the data loading holds training back."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bonepipe import config as configs
from bonepipe.pipeline.experiment import Experiment, parse, say

HELP = """usage: bonepipe speed [OVERRIDES]

Train a fold's model for two short epochs, once with data loading and once on a batch that is on the device already, and
print the throughput and the split of the step's time for both. Where they differ, the loader holds the device back.
Nothing is kept. trainer.train_batches sets the steps of an epoch (default here: 30).

example: bonepipe speed experiment=effunet_512 trainer.workers=8 trainer.compile=true"""

STEPS = 30
TOLERATED = 0.05  # share of the throughput below which loading counts as free


def main(arguments: Sequence[str]) -> int:
    """Measure both modes and print them."""
    config = parse(arguments, HELP)
    if config is None:
        return 0
    experiment = Experiment(config)
    spec = configs.build(config, "trainer")
    spec = replace(spec, epochs=2, validate_every=1, val_batches=0, train_batches=spec.train_batches or STEPS)
    _ = experiment.cohort.store  # built before the clock runs
    say(f"{config['name']}: {spec.train_batches} steps of {spec.batch_size} images, device {experiment.device}")
    with_loading, without = (_measure(experiment, spec, loading) for loading in (True, False))
    print(f"with data loading     {with_loading}\nwithout data loading  {without}\n{verdict(with_loading, without)}")
    return 0


def _measure(experiment: Experiment, spec: Any, loading: bool) -> Any:
    """The step's times in one mode."""
    from bonepipe.training.fit import make_trainer
    from bonepipe.training.speed import Repeated, StepClock

    fold = experiment.config["fold"]
    data = experiment.datamodule(fold)
    data.setup("fit")
    data.sampler.stretch(spec.train_batches * spec.batch_size)
    clock = StepClock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(spec, [clock], experiment.device, False, Path(folder))
        loader: Any = data.train_dataloader()
        if not loading:
            loader = Repeated(loader, trainer.strategy.root_device)
        trainer.fit(experiment.module(fold), loader, data.val_dataloader())
    return clock.summary()


def verdict(with_loading: Any, without: Any) -> str:
    """What the two modes say together, and what to do about it."""
    lost = 1 - with_loading.images_per_second / without.images_per_second
    if lost <= TOLERATED:
        return "The network sets the pace: loading costs nothing that could be saved."
    return (
        f"Loading costs {lost:.0%} of the throughput: raise trainer.workers, choose a lighter augmentation, or put the "
        "store (runs/.store) on a faster disk."
    )
