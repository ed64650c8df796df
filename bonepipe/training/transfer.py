"""How pretrained weights are used: not at all, as a start, as a fixed feature extractor, or first one, then the other.

A frozen encoder gets no gradients, and stays in evaluation mode, so that the statistics of its BatchNorm layers remain
those of its pretraining and its dropout rests. The optimiser knows all parameters from the start (`optim`), so there is
nothing to add when they are thawed, and a resumed run finds everything in its place.
"""

from typing import Literal

import pytorch_lightning as pl
from torch import nn

from bonepipe.errors import UsageError
from bonepipe.models.inspect import encoder_of
from bonepipe.ranges import Number
from bonepipe.training.averaging import model_of

Mode = Literal["scratch", "finetune", "frozen", "freeze_then_unfreeze"]


class Transfer(pl.Callback):
    """Freezes and thaws the encoder.

    Args:
        mode: `scratch` refuses pretrained weights; `finetune` trains everything from the weights that the model
            starts with; `frozen` never trains the encoder; `freeze_then_unfreeze` does so after the first epochs.
        epochs: with a frozen encoder at the beginning; for `freeze_then_unfreeze` only.
    """

    def __init__(self, *, mode: Mode = "finetune", epochs: Number = 0) -> None:
        if (mode == "freeze_then_unfreeze") != (epochs > 0):
            raise ValueError(f"mode={mode}, epochs={epochs}: freeze_then_unfreeze needs epochs=1 or more, others none")
        self.mode, self.epochs = mode, epochs
        self._held: list[nn.Parameter] = []  # what this callback froze, and may thaw

    def check(self, encoder_weights: str | None, epochs: int) -> list[str]:
        """Warnings about a training of so many epochs that starts from these weights.

        Raises:
            UsageError: from scratch, but with pretrained weights.
        """
        if self.mode == "scratch" and encoder_weights is not None:
            raise UsageError(
                f"transfer=scratch: model.encoder_weights={encoder_weights} are pretrained weights; "
                "set model.encoder_weights=null, or transfer=finetune to start from them"
            )
        warnings = []
        if self.is_frozen(0) and encoder_weights is None:
            warnings.append(
                f"warning: transfer={self.mode} freezes an encoder without pretrained weights "
                "(model.encoder_weights=null): its features stay random; use transfer=scratch, or give it weights"
            )
        if self.mode == "freeze_then_unfreeze" and self.epochs >= epochs:
            warnings.append(
                f"warning: transfer.epochs={self.epochs} of trainer.epochs={epochs}: the encoder is never thawed"
            )
        return warnings

    def is_frozen(self, epoch: int) -> bool:
        """Whether the encoder is frozen in an epoch, counted from 0."""
        return self.mode == "frozen" or epoch < self.epochs

    def freeze(self, model: nn.Module) -> list[nn.Parameter]:
        """Freeze a model's encoder, and return the parameters that were free before.

        Raises:
            UsageError: the model has no encoder.
        """
        encoder = encoder_of(model)
        if encoder is None:
            raise UsageError(f"transfer={self.mode}: this model has no part called encoder to freeze; take finetune")
        encoder.eval()
        free = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
        for parameter in free:
            parameter.requires_grad_(False)
        return free

    def apply(self, model: nn.Module, epoch: int) -> None:
        """Freeze or thaw the encoder as the epoch wants it."""
        if self.is_frozen(epoch):
            self._held += self.freeze(model)
        elif self._held:
            for parameter in self._held:
                parameter.requires_grad_(True)
            self._held = []
            encoder = encoder_of(model)
            assert encoder is not None
            encoder.train()

    def settle(self, model: nn.Module, epoch: int) -> None:
        """Put the encoder of another copy of the model into evaluation mode if it is frozen in the epoch."""
        if self.is_frozen(epoch):
            self.freeze(model)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Thaw in time."""
        self.apply(model_of(pl_module), trainer.current_epoch)

    on_train_start = on_train_epoch_start  # in a resumed run's first epoch Lightning leaves the latter out
