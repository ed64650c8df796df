"""Numbers that are not finite: a training that breaks down stops and says where that began."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim import Optimizer

from bonepipe.errors import BonepipeError
from bonepipe.training.averaging import model_of

NEVER = 2**62  # a step that no training reaches
SKIPPED = 24  # steps in a row that fp16's loss scaling may skip: it has then halved 2 ** 16 to less than 0.01
REMEDIES = "a lower optimizer.lr, trainer.clip (largest gradient norm) or trainer.precision=32"


def first_not_finite(tensors: Mapping[str, torch.Tensor]) -> str | None:
    """Name of the first tensor that holds NaN or infinity, or None."""
    if not tensors:
        return None
    finite = torch.stack([torch.isfinite(tensor).all() for tensor in tensors.values()]).tolist()  # one wait, not many
    return next((name for name, good in zip(tensors, finite, strict=True) if not good), None)


def require_finite(tensors: Mapping[str, torch.Tensor], where: object, way_out: str) -> None:
    """Raise BonepipeError naming the file and the first tensor that holds NaN or infinity."""
    if name := first_not_finite(tensors):
        raise BonepipeError(f"{where}: {name} holds numbers that are not finite (NaN or infinity); {way_out}")


class StopWhenNotFinite(pl.Callback):
    """Stops a training whose loss, gradients or weights are no longer finite, before anything of it is kept.

    Every step notes on the device whether it was finite; the CPU looks every `interval` batches and before an epoch's
    validation, so that no step waits for it. With fp16, steps with infinite gradients are skipped by the loss scaling
    as a matter of course; only many in a row, or a loss that is not finite, are a fault.

    Args:
        title: what is trained, for the message.
        checkpoint: the file to go on from, which holds the end of the last good epoch.
        interval: batches between two looks.

    Raises:
        BonepipeError: from the hooks; it says since when, where first, and what to try.
    """

    def __init__(self, title: str, checkpoint: Path, interval: int = 50) -> None:
        self.title, self.checkpoint, self.interval = title, checkpoint, interval

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin with weights that are finite."""
        device = pl_module.device
        self._loss = torch.tensor(NEVER, device=device)  # the first step with such a loss
        self._gradients = torch.tensor(NEVER, device=device)  # the first of the present row of such steps
        self._row = torch.tensor(0, device=device)  # how many in a row
        self._where = torch.tensor(-1, device=device)  # number of the parameter where the row began
        require_finite(
            model_of(pl_module).state_dict(), f"{self.title}: before its first step", "other weights are needed"
        )

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: torch.Tensor) -> None:
        """Note a loss that is not finite."""
        bad = ~torch.isfinite(loss.detach())
        self._loss = torch.where(bad, self._loss.clamp(max=trainer.global_step), self._loss)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Note gradients that are not finite; the backward pass met the last of them first."""
        gradients = list(_gradients(model_of(pl_module)).values())
        bad = ~torch.isfinite(torch.stack(torch._foreach_norm(gradients)))
        place = torch.where(bad, torch.arange(len(bad), device=bad.device), -1).max()
        begins = (place >= 0) & (self._row == 0)
        self._where = torch.where(begins, place, self._where)
        self._gradients = torch.where(begins, trainer.global_step, self._gradients)
        self._row = torch.where(place >= 0, self._row + 1, 0)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *given: Any) -> None:
        """Look now and then, and before the epoch is validated and saved."""
        if trainer.is_last_batch or (given[-1] + 1) % self.interval == 0:
            self._look(trainer, model_of(pl_module))

    def _look(self, trainer: pl.Trainer, model: nn.Module) -> None:
        loss, began, row = torch.stack((self._loss, self._gradients, self._row)).tolist()
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        gradients = began if row > (SKIPPED if scaled else 0) else NEVER
        if min(loss, gradients) < NEVER:
            what = "the loss" if loss <= gradients else f"the gradient of {self._first_gradient(model)}"
            raise BonepipeError(self._message(trainer, f"{what} is not finite from step {min(loss, gradients) + 1} on"))
        if name := first_not_finite(model.state_dict()):
            raise BonepipeError(self._message(trainer, f"{name} is not finite after step {trainer.global_step}"))

    def _first_gradient(self, model: nn.Module) -> str:
        return list(_gradients(model))[int(self._where)]

    def _message(self, trainer: pl.Trainer, what: str) -> str:
        there = self.checkpoint.is_file()
        kept = f"{self.checkpoint} holds the end of epoch {trainer.current_epoch}" if there else "no epoch was finished"
        own = " in a run of its own (name=...)" if there else ""
        return (
            f"{self.title}: broke down in epoch {trainer.current_epoch + 1}: {what}; {kept}. Try {REMEDIES}{own}; "
            "trainer.detect_anomaly=true names the operation"
        )


def _gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    """The gradients that there are, by the name of their parameter."""
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
