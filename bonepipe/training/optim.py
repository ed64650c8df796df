"""Optimisers and learning-rate schedules, as factories that a config can fill."""

import math

from torch import nn
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR


def adamw(model: nn.Module, /, *, lr: float, weight_decay: float = 0.01) -> Optimizer:
    """AdamW; biases and normalisation weights are not decayed, since shrinking them regularises nothing."""
    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    vectors = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return AdamW(groups, lr=lr, fused=_fused(model))


def adam(model: nn.Module, /, *, lr: float, weight_decay: float = 0.0) -> Optimizer:
    """Adam with classical L2 decay on all parameters."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return Adam(parameters, lr=lr, weight_decay=weight_decay, fused=_fused(model))


def _fused(model: nn.Module) -> bool:
    return next(model.parameters()).device.type in ("cpu", "cuda")


def warmup_steps(warmup: float, total: int) -> int:
    """Optimiser steps of the warm-up: a share of all steps when below 1, else a number of steps."""
    return round(warmup * total) if warmup < 1 else int(warmup)


def warmup_factor(step: int, warmup: int) -> float:
    """Gradual warm-up: a straight line from 1 / (warmup + 1) to 1 (Goyal et al. 2017, section 2.2)."""
    return min(1.0, (step + 1) / (warmup + 1))


def cosine(
    optimizer: Optimizer, total: int, hold: int | None, /, *, warmup: float = 0.1, floor: float = 0.0
) -> LambdaLR:
    """Gradual warm-up into cosine annealing (SGDR, equation 5, without restarts), stepped once an optimiser step.

    Args:
        optimizer: its current rate is the peak.
        total: optimiser steps of the whole training.
        hold: from this step on the rate stays as it is there (for weight averaging), or None.
        warmup: share of all steps, or number of steps when 1 or more.
        floor: final rate as a share of the peak.
    """
    first = warmup_steps(warmup, total)

    def factor(step: int) -> float:
        step = step if hold is None else min(step, hold)
        progress = min(1.0, max(0.0, (step - first) / max(1, total - first)))
        return warmup_factor(step, first) * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))

    return LambdaLR(optimizer, factor)


def constant(optimizer: Optimizer, total: int, hold: int | None, /, *, warmup: float = 0.0) -> LambdaLR:
    """Gradual warm-up into a constant rate."""
    first = warmup_steps(warmup, total)
    return LambdaLR(optimizer, lambda step: warmup_factor(step, first))
