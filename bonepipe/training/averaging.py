"""Stochastic weight averaging (Izmailov et al. 2018) as a callback that keeps out of the way.

It adds the weights to a running mean at the end of every epoch from a start epoch on, the last included. It changes
neither the model in training, nor the schedule, nor what is validated meanwhile; its state travels in the checkpoint.
When training is over, `averaged_model` gives a copy to calibrate, score and choose like any other weights.
"""

from collections.abc import Iterable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn


def model_of(pl_module: pl.LightningModule) -> nn.Module:
    """The network inside a Lightning module."""
    model = pl_module.model
    assert isinstance(model, nn.Module)
    return model


class StochasticWeightAveraging(pl.Callback):
    """Average the weights of the last epochs.

    Args:
        start: first epoch to average, as a share of all epochs; 1 switches averaging off.
        hold: keep the learning rate constant from the start epoch on, so that the averaged weights differ.
    """

    def __init__(self, *, start: float = 0.75, hold: bool = False) -> None:
        if not 0 <= start <= 1:
            raise ValueError(f"start={start} must lie between 0 and 1")
        self.start, self.hold = start, hold
        self._averaged: AveragedModel | None = None
        self._restored: dict[str, torch.Tensor] | None = None

    def start_epoch(self, epochs: int) -> int:
        """The first epoch that is averaged, counted from 0; `epochs` for none."""
        return round(self.start * epochs)

    def hold_step(self, epochs: int, steps_per_epoch: int) -> int | None:
        """The optimiser step from which the learning rate is held, or None."""
        return self.start_epoch(epochs) * steps_per_epoch if self.hold else None

    @property
    def count(self) -> int:
        """Number of epochs in the average so far."""
        return 0 if self._averaged is None else int(self._averaged.n_averaged)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take up the average that a checkpoint restored."""
        if self._restored is not None:
            self._averaged = AveragedModel(model_of(pl_module))
            self._averaged.load_state_dict(self._restored)
            self._restored = None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add this epoch's weights."""
        assert trainer.max_epochs is not None
        if trainer.current_epoch < self.start_epoch(trainer.max_epochs):
            return
        if self._averaged is None:
            self._averaged = AveragedModel(model_of(pl_module))
        self._averaged.update_parameters(model_of(pl_module))

    def averaged_model(self, batches: Iterable[torch.Tensor]) -> nn.Module | None:
        """The averaged model with BatchNorm statistics of its own, or None where nothing was averaged.

        Running means and variances of single epochs do not fit the averaged weights, so they are recomputed from
        `batches` of normalised images `[N, 1, h, w]`. Models without BatchNorm skip that.
        """
        if self._averaged is None or not self.count:
            return None
        model: nn.Module = self._averaged.module
        update_bn(batches, model, next(model.parameters()).device)
        return model.eval()

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        state = self._restored if self._averaged is None else self._averaged.state_dict()
        return {} if state is None else {"averaged": state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint; applied when the fit starts, as the model is not known before."""
        self._restored = state_dict.get("averaged")
