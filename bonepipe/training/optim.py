"""Optimisers and learning-rate schedules, as factories that a config can fill.

Every optimiser takes the encoder's rate as a share of the rest's, and can be wrapped in Lookahead. Every schedule
begins with a gradual warm-up. Parameters that are frozen now are handed over as well: without a gradient no optimiser
touches them, and when they are thawed later, it knows them already.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import timm.optim
import torch
from torch.nn import Module
from torch.optim import SGD, Adam, AdamW, Optimizer, RAdam
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from bonepipe.models.inspect import encoder_of
from bonepipe.ranges import Amount, Count, Inside, Number, Portion, Positive, Rest, Share

Hold = int | None  # the optimiser step from which the rate stays as it is there (for weight averaging), or None
SLOW = "lookahead_slow_buff"  # timm's name


@dataclass(frozen=True)
class Ahead:
    """Settings of Lookahead: steps between two synchronisations, and the share of the way that the slow weights go."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    k: Count = 5
    alpha: Portion = 0.5

    def __post_init__(self) -> None:
        if self.k < 1 or not 0 < self.alpha <= 1:
            raise ValueError(f"k={self.k}, alpha={self.alpha}: k must be 1 or more, alpha above 0 and at most 1")


Wrap = bool | Ahead  # in Lookahead: not at all, with the usual settings, or with others


class Lookahead(timm.optim.Lookahead):
    """Lookahead (Zhang et al. 2019, algorithm 1) around any optimiser.

    Slow weights start where training starts; every k steps they go the share alpha of the way to the fast weights,
    which go on from there. timm's class, whose slow weights would start only at the first synchronisation.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of the inner optimiser, and a synchronisation every k-th time."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        inner = self._base_optimizer
        moving = [p for group in inner.param_groups for p in group["params"] if p.grad is not None]
        starts = {p: p.clone() for p in moving if SLOW not in inner.state.get(p, {})}
        inner.step()
        for parameter, start in starts.items():  # after the step: optimisers take a filled state for their own
            inner.state[parameter][SLOW] = start
        for group in inner.param_groups:
            group["lookahead_step"] += 1
            if group["lookahead_step"] % group["lookahead_k"] == 0:
                self.update_slow(group)
        return loss


def parameter_groups(
    model: Module, lr: float, encoder_lr_scale: float, weight_decay: float, *, decay_vectors: bool = False
) -> list[dict[str, Any]]:
    """Parameters by rate and decay, the encoder's last, so that the first group has the rate `lr`.

    Biases and normalisation weights (vectors) are not decayed unless asked for: shrinking them regularises nothing.

    Raises:
        ValueError: a rate or decay that makes no sense; a scale for the encoder of a model that has none.
    """
    if not (0 < lr < math.inf and 0 <= weight_decay < math.inf):
        raise ValueError(f"lr={lr}, weight_decay={weight_decay}: lr must be above 0, weight_decay not below")
    encoder = _encoder_ids(model, encoder_lr_scale)
    groups: dict[tuple[bool, bool], dict[str, Any]] = {}
    for parameter in model.parameters():
        inside, spared = id(parameter) in encoder, parameter.ndim <= 1 and not decay_vectors
        rate, decay = lr * encoder_lr_scale if inside else lr, 0.0 if spared else weight_decay
        group = groups.setdefault((inside, spared), {"params": [], "lr": rate, "weight_decay": decay})
        group["params"].append(parameter)
    return [groups[key] for key in sorted(groups)]


def _encoder_ids(model: Module, scale: float) -> set[int]:
    if scale == 1:
        return set()
    if not 0 < scale < math.inf:
        raise ValueError(f"encoder_lr_scale={scale}: must be positive; transfer=frozen keeps the encoder as it is")
    encoder = encoder_of(model)
    if encoder is None:
        raise ValueError(f"encoder_lr_scale={scale}: this model has no part called encoder; leave the scale at 1")
    return {id(parameter) for parameter in encoder.parameters()}


def adamw(
    model: Module,
    /,
    *,
    lr: Positive,
    weight_decay: Amount = 0.01,
    encoder_lr_scale: Positive = 1.0,
    lookahead: Wrap = False,
) -> Optimizer:
    """AdamW (Loshchilov and Hutter 2019); biases and normalisation weights are not decayed."""
    return _finish(
        AdamW(parameter_groups(model, lr, encoder_lr_scale, weight_decay), lr=lr, fused=_fused(model)), lookahead
    )


def adam(
    model: Module,
    /,
    *,
    lr: Positive,
    weight_decay: Amount = 0.0,
    encoder_lr_scale: Positive = 1.0,
    lookahead: Wrap = False,
) -> Optimizer:
    """Adam (Kingma and Ba 2015) with classical L2 decay on all parameters."""
    groups = parameter_groups(model, lr, encoder_lr_scale, weight_decay, decay_vectors=True)
    return _finish(Adam(groups, lr=lr, fused=_fused(model)), lookahead)


def adamp(
    model: Module,
    /,
    *,
    lr: Positive,
    weight_decay: Amount = 0.01,
    encoder_lr_scale: Positive = 1.0,
    lookahead: Wrap = False,
) -> Optimizer:
    """AdamP (Heo et al. 2021, algorithm 2): steps of scale-invariant weights lose their part along the weights.

    Such a part would only lengthen the weights, and with it shrink the effective rate.
    """
    return _finish(timm.optim.AdamP(parameter_groups(model, lr, encoder_lr_scale, weight_decay), lr=lr), lookahead)


def radam(
    model: Module,
    /,
    *,
    lr: Positive,
    weight_decay: Amount = 0.01,
    encoder_lr_scale: Positive = 1.0,
    lookahead: Wrap = False,
) -> Optimizer:
    """RAdam (Liu et al. 2020, algorithm 2) with decoupled decay of matrices; a warm-up of its own.

    As in the authors' code, the adaptive rate sets in above 5 degrees of freedom; the paper prints 4.
    """
    groups = parameter_groups(model, lr, encoder_lr_scale, weight_decay)
    return _finish(RAdam(groups, lr=lr, decoupled_weight_decay=True), lookahead)


def sgd(
    model: Module,
    /,
    *,
    lr: Positive,
    momentum: Rest = 0.9,
    weight_decay: Amount = 1e-4,
    encoder_lr_scale: Positive = 1.0,
    lookahead: Wrap = False,
) -> Optimizer:
    """Gradient descent with Nesterov momentum (plain where the momentum is 0) and L2 decay of matrices."""
    groups = parameter_groups(model, lr, encoder_lr_scale, weight_decay)
    return _finish(SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0), lookahead)


def _finish(optimizer: Optimizer, lookahead: Wrap) -> Optimizer:
    """Wrap in Lookahead if asked for."""
    # Fused optimisers offer to unscale fp16 gradients themselves, and Lightning then refuses to clip, in bf16 too.
    # Without the offer the scaler unscales them before they are clipped.
    optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
    settings = Ahead() if lookahead is True else lookahead
    return Lookahead(optimizer, alpha=settings.alpha, k=settings.k) if settings else optimizer


def _fused(model: Module) -> bool:
    return next(model.parameters()).device.type in ("cpu", "cuda")


def warmup_steps(warmup: float, total: int) -> int:
    """Optimiser steps of the warm-up: a share of all steps when below 1, else a number of steps."""
    if not 0 <= warmup < math.inf:
        raise ValueError(f"warmup={warmup}: must not be negative; a share below 1, or a number of steps")
    return round(warmup * total) if warmup < 1 else int(warmup)


def warmup_factor(step: int, warmup: int) -> float:
    """Gradual warm-up: a straight line from 1 / (warmup + 1) to 1 (Goyal et al. 2017, section 2.2)."""
    return min(1.0, (step + 1) / (warmup + 1))


def _curve(optimizer: Optimizer, total: int, hold: Hold, warmup: float, shape: Callable[[float], float]) -> LambdaLR:
    """Gradual warm-up into a curve, stepped once an optimiser step.

    Args:
        optimizer: its current rates are the peaks.
        total: optimiser steps of the whole training.
        warmup: share of all steps, or number of steps when 1 or more.
        shape: share of the peak, of the progress after the warm-up, 0 to 1.
    """
    first = warmup_steps(warmup, total)

    def factor(step: int) -> float:
        step = step if hold is None else min(step, hold)
        progress = min(1.0, max(0.0, (step - first) / max(1, total - first)))
        return warmup_factor(step, first) * shape(progress)

    return LambdaLR(optimizer, factor)


def cosine(optimizer: Optimizer, total: int, hold: Hold, /, *, warmup: Amount = 0.1, floor: Share = 0.0) -> LambdaLR:
    """Cosine annealing (SGDR, equation 5, without restarts); `floor` is the final rate as a share of the peak."""
    return _curve(optimizer, total, hold, warmup, lambda x: floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * x)))


def constant(optimizer: Optimizer, total: int, hold: Hold, /, *, warmup: Amount = 0.0) -> LambdaLR:
    """A constant rate."""
    return _curve(optimizer, total, None, warmup, lambda x: 1.0)


def polynomial(
    optimizer: Optimizer, total: int, hold: Hold, /, *, warmup: Amount = 0.1, power: Positive = 0.9, floor: Share = 0.0
) -> LambdaLR:
    """The "poly" decay `(1 - progress) ** power` (DeepLab v2, section 4.1), down to a share `floor` of the peak."""
    return _curve(optimizer, total, hold, warmup, lambda x: floor + (1 - floor) * (1 - x) ** power)


def step(
    optimizer: Optimizer,
    total: int,
    hold: Hold,
    /,
    *,
    warmup: Amount = 0.1,
    milestones: Sequence[Inside] = (0.6, 0.85),
    gamma: Positive = 0.1,
) -> LambdaLR:
    """The rate times `gamma` at each milestone, a share of the steps after the warm-up."""
    if not all(0 < share < 1 for share in milestones):
        raise ValueError(f"milestones={list(milestones)}: shares of the training, above 0 and below 1")
    return _curve(optimizer, total, hold, warmup, lambda x: gamma ** sum(x >= share for share in milestones))


class Plateau(LRScheduler):
    """Gradual warm-up, then a rate that drops when validation stops getting better.

    The rule is torch's ReduceLROnPlateau. That class is no good here: behind a warm-up two schedules would write the
    same rate, and Lightning steps it after the epoch's checkpoint and leaves the step out when it resumes from there.
    Stepped once an optimiser step; `observe` is told every validation score.
    """

    def __init__(
        self, optimizer: Optimizer, warmup: int, hold: Hold, factor: float, patience: int, floor: float
    ) -> None:
        self.warmup, self.hold, self.factor, self.patience, self.floor = warmup, hold, factor, patience, floor
        self.share, self.best, self.waited = 1.0, -math.inf, 0
        super().__init__(optimizer)

    def get_lr(self) -> list[Any]:
        """The rates of the next step."""
        share = self.share * warmup_factor(self.last_epoch, self.warmup)
        return [rate * share for rate in self.base_lrs]

    def observe(self, score: float) -> None:
        """Note a validation score, the higher the better. Those of the warm-up do not count."""
        if self.last_epoch < self.warmup or (self.hold is not None and self.last_epoch >= self.hold):
            return
        better = score > self.best
        self.best, self.waited = max(score, self.best), 0 if better else self.waited + 1
        if self.waited > self.patience:
            self.share, self.waited = max(self.floor, self.share * self.factor), 0
            for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
                group["lr"] = rate


def plateau(
    optimizer: Optimizer,
    total: int,
    hold: Hold,
    /,
    *,
    warmup: Amount = 0.1,
    factor: Inside = 0.5,
    patience: Number = 3,
    floor: Share = 0.01,
) -> Plateau:
    """The rate times `factor` when more than `patience` validations in a row have brought no better Dice.

    Args:
        optimizer, total, hold, warmup: as of every schedule; the warm-up's validations do not count.
        factor: of the rate at each drop.
        patience: validations without a better Dice that are put up with.
        floor: lowest rate as a share of the peak.
    """
    if not 0 < factor < 1 or patience < 0:
        raise ValueError(f"factor={factor}, patience={patience}: factor between 0 and 1, patience 0 or more")
    return Plateau(optimizer, warmup_steps(warmup, total), hold, factor, patience, floor)
