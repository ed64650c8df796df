"""Settings of a training that would do nothing, each said once when a fold starts: a long run shall be no surprise."""

import inspect
from collections.abc import Callable, Iterator, Mapping
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
    batches = min(-(-images // spec.batch), spec.train_batches or images)
    plan = Plan(spec.epochs, batches, -(-batches // spec.accumulate), spec.validate_every)
    averaging = configs.build(config, "averaging")
    frozen = configs.build(config, "transfer").is_frozen(spec.epochs)
    idle = [
        *of_trainer(spec, plan),
        *of_schedule(config["scheduler"], plan, averaging.hold_from),
        *of_optimizer(config["optimizer"], plan, frozen),
        *of_mixing(config["mixing"], spec.batch),
        *of_choices(config),
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


Acts = Callable[[configs.Config], Any]
SUPERVISED: Acts = lambda config: config["model"].get("deep_supervision")  # noqa: E731 - a table of conditions
# Settings that act under a condition alone, each with the condition and what to set for it.
CONDITIONS: dict[str, tuple[Acts, str]] = {
    "data.pseudo_weight": (lambda config: config["data"].get("pseudo"), "data.pseudo names no pseudo-labels"),
    "loss.presence_weight": (
        lambda config: config["model"].get("presence") or config["model"].get("classification"),
        "the network does not tell which classes occur (model.presence, or model.classification of a U-Net 3+)",
    ),
    "loss.side_weight": (SUPERVISED, "the network has one answer (model.deep_supervision)"),
    "loss.gamma": (lambda config: config["loss"].get("focal_weight", 1), "loss.focal_weight=0"),
    "loss.focal_floor": (lambda config: config["loss"].get("focal_weight", 1), "loss.focal_weight=0"),
    "loss.alpha": (lambda config: config["loss"].get("focal_weight", 1), "loss.focal_weight=0"),
    "loss.k": (lambda config: config["loss"].get("topk_weight", 1), "loss.topk_weight=0"),
    "loss.smooth": (lambda config: config["loss"].get("dice_weight", 1), "loss.dice_weight=0"),
    "sampler.floor": (lambda config: config["sampler"].get("balance"), "sampler.balance=null draws each image once"),
    "sampler.cap": (lambda config: config["sampler"].get("balance"), "sampler.balance=null draws each image once"),
    "strata.ages": (lambda config: "age" in config["strata"]["by"], "strata.by does not name age"),
    "strata.wrist": (lambda config: "wrist" in config["strata"]["by"], "strata.by does not name wrist"),
    "strata.bend": (lambda config: "wrist" in config["strata"]["by"], "strata.by does not name wrist"),
    "postprocess.min_area": (
        lambda config: "min_area" in config["postprocess"]["operations"],
        "postprocess.operations does not name min_area",
    ),
}


def of_choices(config: configs.Config) -> Iterator[str]:
    """Settings of something that was not chosen, where they are not what they are unless told."""
    for key, (acts, why) in CONDITIONS.items():
        group, _, name = key.partition(".")
        if name in config[group] and config[group][name] != _default(config, group, name) and not acts(config):
            yield f"{key}={config[group][name]}: {why}, so it does nothing"


def _default(config: configs.Config, group: str, name: str) -> Any:
    """What a setting is where no config names it; a list where that is a tuple, as YAML has it."""
    default = inspect.signature(configs.locate(group, config[group]["_target_"])).parameters[name].default
    return list(default) if isinstance(default, tuple) else default
