"""Fold models: the trained weights of a fold, which predict alone or averaged with those of the other folds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from bonepipe.errors import BonepipeError
from bonepipe.inference.tta import Seen, Views, seen_in_training
from bonepipe.models.inspect import mismatch
from bonepipe.training.finite import require_finite
from bonepipe.training.module import normalise
from bonepipe.training.precision import Precision, autocast, set_up
from bonepipe.training.weights_file import read_weights

NOT_FINITE = "leave this model out, or train the fold again with a lower optimizer.lr (name=... keeps this run)"


@dataclass(frozen=True)
class FoldModel:
    """A model in evaluation mode and what its weights file says of it.

    Attributes:
        model: float32 `[N, 1, h, w]` to logits `[N, C, h, w]`.
        seen: the kinds of view it saw in training.
    """

    path: Path
    model: nn.Module
    seen: Seen


def load_fold_model(
    path: Path, model: nn.Module, classes: Sequence[str], device: str, *, compiled: bool = False
) -> FoldModel:
    """Load safetensors into a freshly built model, and let torch.compile have it if asked to.

    Raises:
        BonepipeError: no such file, not safetensors, other classes, or weights of another model or that are not finite.
    """
    tensors, facts = read_weights(path)
    if facts.get("classes", list(classes)) != list(classes):
        raise BonepipeError(f"{path}: was trained for other classes ({', '.join(facts['classes'])})")
    problem = mismatch(tensors, model.state_dict())
    if problem:
        raise BonepipeError(
            f"{path}: holds the weights of another model ({problem}); the config beside it must describe it"
        )
    require_finite(tensors, path, NOT_FINITE)
    model.load_state_dict(tensors)
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.eval()
    callable_model: Any = torch.compile(model) if compiled else model
    return FoldModel(path, callable_model, seen_in_training(facts))


@torch.inference_mode()
def mean_probabilities(
    fold_models: Iterable[FoldModel],
    views: Views,
    images: torch.Tensor,
    mean: float,
    std: float,
    precision: Precision = "auto",
) -> torch.Tensor:
    """Average the fold models' and views' probabilities at model resolution.

    Flips and bilinear upsampling are linear, so averaging here and upsampling once is, but for rounding, as upsampling
    every map.

    Args:
        fold_models: on one device.
        views: applied to every fold model.
        images: grey bytes uint8 `[N, h, w]`.
        mean, std: of the grey values, on the scale 0 to 1.
        precision: of the forward passes; sigmoids and sums stay in float32.

    Returns:
        float32 `[N, C, h, w]` on the models' device.

    Raises:
        BonepipeError: a model's answer is not finite; it would turn the others' into nothing.
    """
    fold_models = list(fold_models)
    models = [fold_model.model for fold_model in fold_models]
    device = next(models[0].parameters()).device
    batch = normalise(images.to(device, non_blocking=True), mean, std).contiguous(memory_format=torch.channels_last)
    total: torch.Tensor | None = None
    sums = []  # not finite where any probability is not; looked at once, as the device is not to wait for every model
    set_up(precision, device.type, benchmark=False)  # each time: beside it others may predict in another precision
    with autocast(precision, device.type):
        for model in models:
            for weight, forth, back in views:
                maps = back(model(forth(batch)).float().sigmoid_())
                sums.append(maps.sum())
                if maps.shape[-2:] != batch.shape[-2:]:  # a scaled view; pixel centres stay where they are
                    maps = functional.interpolate(maps, batch.shape[-2:], mode="bilinear", align_corners=False)
                share = weight / len(models)
                # In place: 29 maps are the largest tensors here, and every copy of them costs as much as an upsampling.
                total = maps.mul_(share) if total is None else total.add_(maps, alpha=share)
    assert total is not None
    if bad := (~torch.isfinite(torch.stack(sums))).nonzero().flatten().tolist():
        path = fold_models[bad[0] * len(fold_models) // len(sums)].path
        raise BonepipeError(
            f"{path}: predicts numbers that are not finite (NaN or infinity), though its weights are; try "
            f"prediction.precision=32, else {NOT_FINITE}"
        )
    return total
