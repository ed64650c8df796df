"""Whether the network or the data loading holds training back, measured on a fold's own training."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from bonepipe.pipeline.experiment import Experiment, say
from bonepipe.training.fit import make_trainer, stopping
from bonepipe.training.progress import Progress
from bonepipe.training.speed import Repeated, StepClock

STEPS = 30
TOLERATED = 0.05  # share of the throughput below which loading counts as free


def measure(experiment: Experiment) -> Iterator[str]:
    """Train for two short epochs, with data loading and without; yields a line for each, and the verdict."""
    spec = experiment.trainer
    spec = replace(spec, epochs=2, validate_every=1, train_batches=spec.train_batches or STEPS)
    experiment.cohort.store  # noqa: B018 - built before the clock runs
    name, device = experiment.config["name"], experiment.device
    say(f"{name}: {spec.train_batches} steps of {spec.batch} images, device {device}")
    yield f"with data loading     {(with_loading := _measure(experiment, spec, True))}"
    yield f"without data loading  {(without := _measure(experiment, spec, False))}"
    yield verdict(with_loading, without)


def _measure(experiment: Experiment, spec: Any, loading: bool) -> Any:
    """The step's times in one mode."""
    fold, clock = experiment.config["fold"], StepClock()
    data = experiment.datamodule(fold)
    data.setup("fit")
    data.sampler.stretch(spec.train_batches * spec.batch)
    with tempfile.TemporaryDirectory() as folder:
        title = "with data loading" if loading else "without data loading"
        trainer = make_trainer(spec, [clock, Progress(title)], experiment.device, Path(folder))
        trainer.limit_val_batches = 0  # only training steps are measured
        loader: Any = data.train_dataloader()
        if not loading:
            loader = Repeated(loader, trainer.strategy.root_device)
        with stopping():
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
