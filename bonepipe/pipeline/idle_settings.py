"""Settings of a training that would do nothing, each said once when a fold starts: a long run shall be no surprise."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bonepipe import config as configs
from bonepipe.errors import UsageError
from bonepipe.pipeline.experiment import Experiment


@dataclass(frozen=True)
class Plan:
    """How a fold will be trained.

    Attributes:
        epochs: passes over the training images.
        batches: of an epoch.
        steps: of the optimiser, in an epoch.
        every: epochs between validations; the last epoch is validated too.
    """

    epochs: int
    batches: int
    steps: int
    every: int

    @property
    def total(self) -> int:
        """Optimiser steps of the whole training."""
        return self.epochs * self.steps

    def validations(self, first: int = 0) -> int:
        """How many come after so many optimiser steps, without the last epoch's, which can change nothing."""
        return sum(epoch * self.steps >= first for epoch in range(self.every, self.epochs, self.every))


def warnings(experiment: Experiment, images: int) -> list[str]:
    """Which settings of a training on so many images would have no effect, and why.

    Raises:
        UsageError: a warm-up below 0.
    """
    spec, config = experiment.trainer, experiment.config
    batches = min(-(-images // spec.batch_size), spec.train_batches or images)
    plan = Plan(spec.epochs, batches, -(-batches // spec.accumulate), spec.validate_every)
    averaging = configs.build(config, "averaging")
    frozen = configs.build(config, "transfer").is_frozen(spec.epochs)
    idle = [
        *of_trainer(spec, plan),
        *of_schedule(config["scheduler"], plan, averaging.hold_from),
        *of_optimizer(config["optimizer"], plan, frozen),
        *of_mixing(config["mixing"], spec.batch_size),
    ]
    return averaging.check(spec.epochs) + [f"warning: {text}" for text in idle]


def of_trainer(spec: Any, plan: Plan) -> Iterator[str]:
    """What is more than there is."""
    if spec.accumulate > plan.batches:
        yield f"trainer.accumulate={spec.accumulate}: an epoch has {plan.batches} batches, and a step ends with it"
    if spec.keep_epochs > spec.epochs:
        yield f"trainer.keep_epochs={spec.keep_epochs}: there are trainer.epochs={spec.epochs}"
    if spec.patience is not None and spec.patience >= plan.validations():
        yield (
            f"trainer.patience={spec.patience}: training never stops early, before its last epoch are "
            f"{plan.validations()} validations (trainer.epochs={spec.epochs}, trainer.validate_every={plan.every})"
        )


def of_schedule(node: Mapping[str, Any], plan: Plan, hold_from: float | None) -> Iterator[str]:
    """A warm-up that does not end in time, and plateaus that come too late."""
    from bonepipe.training.optim import warmup_steps

    try:
        warmup = warmup_steps(node.get("warmup", 0), plan.total)
    except ValueError as error:
        raise UsageError(f"scheduler: {error}") from error
    last = plan.total - 1 if hold_from is None else round(hold_from * plan.epochs) * plan.steps
    if warmup > last:
        ends = f"training has {plan.total}" if hold_from is None else f"averaging.hold keeps the rate after {last}"
        yield f"scheduler.warmup={node['warmup']} lasts {warmup} steps, {ends}: it never reaches optimizer.lr"
    if node["_target_"].endswith(".plateau") and node["patience"] + 2 > plan.validations(warmup):
        yield (
            f"scheduler.patience={node['patience']}: the learning rate never drops, between the warm-up and the last "
            f"epoch are {plan.validations(warmup)} validations"
        )


def of_optimizer(node: Mapping[str, Any], plan: Plan, frozen: bool) -> Iterator[str]:
    """A rate for an encoder that is never trained, and slow weights that never follow."""
    if frozen and node.get("encoder_lr_scale", 1) != 1:
        yield f"optimizer.encoder_lr_scale={node['encoder_lr_scale']}: transfer=frozen never trains the encoder"
    ahead = node.get("lookahead")
    if isinstance(ahead, Mapping) and ahead.get("k", 0) > plan.total:
        yield f"optimizer.lookahead.k={ahead['k']}: training has {plan.total} steps"


def of_mixing(node: Mapping[str, Any], batch_size: int) -> Iterator[str]:
    """Batches that are never mixed."""
    if node.get("p") == 0:
        yield "mixing.p=0: no batch is mixed; mixing=none says so"
    elif "p" in node and batch_size == 1:
        yield "trainer.batch_size=1: mixing needs two images a batch, none is mixed"
