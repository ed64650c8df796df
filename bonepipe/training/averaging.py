"""Averages of the weights that training passes through, as callbacks that keep out of the way.

They change neither the model in training, nor the schedule, nor what is validated meanwhile; their state travels in
the checkpoint. When training is over, `averaged_model` gives a copy to calibrate, score and choose like any other
weights.
"""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from bonepipe.ranges import Rest, Share


def model_of(pl_module: pl.LightningModule) -> nn.Module:
    """The network inside a Lightning module."""
    model = pl_module.model
    assert isinstance(model, nn.Module)
    return model


class WeightAveraging(pl.Callback):
    """What the averages share: their state, its way through the checkpoint, and the finished model.

    Attributes:
        hold_from: share of the epochs from which the learning rate is held, or None.
    """

    hold_from: float | None = None
    wanted: bool = True  # not where the settings switch averaging off

    def __init__(self) -> None:
        self._averaged: AveragedModel | None = None
        self._restored: dict[str, torch.Tensor] | None = None

    @property
    def count(self) -> int:
        """How many times weights were added so far."""
        return 0 if self._averaged is None else int(self._averaged.n_averaged)  # which stays in main memory

    def check(self, epochs: int) -> list[str]:
        """Warnings about a training of so many epochs."""
        return []

    def missed(self, epochs: int) -> str:
        """What to say of a training that ended after so many epochs without an average that was wanted, or nothing."""
        return f"averaging never began (training ended after epoch {epochs})" if self.wanted and not self.count else ""

    def _start(self, model: nn.Module) -> AveragedModel:
        """An average without anything in it."""
        return AveragedModel(model)

    def add(self, model: nn.Module) -> None:
        """Add the model's present weights."""
        if self._averaged is None:
            self._averaged = self._start(model)
        self._averaged.update_parameters(model)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take up the average that a checkpoint restored."""
        if self._restored is not None:
            self._averaged = self._start(model_of(pl_module))
            self._averaged.load_state_dict(self._restored)
            self._restored = None

    def averaged_model(
        self, calibrate: Callable[[nn.Module], None], prepare: Callable[[nn.Module], None] | None = None
    ) -> nn.Module | None:
        """The averaged model with BatchNorm statistics of its own, or None where nothing was averaged.

        Running means and variances of single steps fit their weights, not the average, and averaging them as well
        would only blur them; so `calibrate` recomputes them. `prepare` may put parts whose statistics shall stay into
        evaluation mode.
        """
        if self._averaged is None or not self.count:
            return None
        model: nn.Module = self._averaged.module
        model.train()
        if prepare is not None:
            prepare(model)
        calibrate(model)
        return model.eval()

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        state = self._restored if self._averaged is None else self._averaged.state_dict()
        return {} if state is None else {"averaged": state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint; applied when the fit starts, as the model is not known before."""
        self._restored = state_dict.get("averaged")


class StochasticWeightAveraging(WeightAveraging):
    """The mean of the weights at the end of the last epochs (Izmailov et al. 2018).

    Args:
        start: first epoch to average, as a share of all epochs; 1 switches averaging off.
        hold: keep the learning rate constant from the start epoch on, so that the averaged weights differ.
    """

    def __init__(self, *, start: Share = 0.75, hold: bool = False) -> None:
        if not 0 <= start <= 1:
            raise ValueError(f"start={start} must lie between 0 and 1")
        if hold and start == 1:
            raise ValueError("hold=True, start=1: nothing is averaged that the rate could be held for; lower start")
        super().__init__()
        self.start, self.hold_from, self.wanted = start, start if hold else None, start < 1

    def start_epoch(self, epochs: int) -> int:
        """The first epoch that is averaged, counted from 0; `epochs` for none."""
        return round(self.start * epochs)

    def check(self, epochs: int) -> list[str]:
        """Warnings about a training of so many epochs that averages no weights, or those of one epoch."""
        count = epochs - self.start_epoch(epochs)
        if not self.wanted or count > 1:
            return []
        what = "averages the last epoch alone" if count else "never begins to average"
        return [f"warning: averaging.start={self.start} of trainer.epochs={epochs} {what}; lower it, or averaging=none"]

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add this epoch's weights."""
        assert trainer.max_epochs is not None
        if trainer.current_epoch >= self.start_epoch(trainer.max_epochs):
            self.add(model_of(pl_module))


def decay_at(count: int, decay: float) -> float:
    """Share of the average that stays when weights are added to `count` earlier ones.

    The ramp (1 + n) / (10 + n), known from TensorFlow's moving averages, soon forgets the untrained weights: with 0.999
    from the start, half of them would still be there after 700 steps.
    """
    return min(decay, (1 + count) / (10 + count))


class ExponentialMovingAverage(WeightAveraging):
    """An exponential moving average of the weights, updated after every optimiser step (Polyak averaging).

    Args:
        decay: share of the average that stays at each step, reached by a ramp (`decay_at`).
    """

    def __init__(self, *, decay: Rest = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay={decay} must be at least 0 and below 1")
        super().__init__()
        self.decay, self._seen = decay, 0

    def check(self, epochs: int) -> list[str]:
        """A warning about an average that is none."""
        return [] if self.decay else ["warning: averaging.decay=0: the average is the last step's weights"]

    def add(self, model: nn.Module) -> None:
        """Add the model's present weights, without a wait for the device.

        `AveragedModel.update_parameters` would send its count there each step and have it read back for the ramp.
        """
        if self._averaged is None or not self.count:
            return super().add(model)
        averaged, now = ([*of.parameters()] for of in (self._averaged.module, model))
        get_ema_multi_avg_fn(decay_at(self.count, self.decay))(averaged, now, self.count)
        with torch.no_grad():
            for kept, buffer in zip(self._averaged.module.buffers(), model.buffers(), strict=True):
                kept.copy_(buffer, non_blocking=True)
        self._averaged.n_averaged += 1
        return None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note where a new or resumed run begins."""
        self._seen = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the weights if the optimiser has stepped; with accumulation it does so only now and then."""
        if trainer.global_step > self._seen:
            self._seen = trainer.global_step
            self.add(model_of(pl_module))
