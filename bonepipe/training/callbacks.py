"""What happens at the end of an epoch: keep the best weights, tell the user, save a checkpoint to resume from."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.trainer.states import TrainerFn
from torch import nn

from bonepipe.files import epoch_file, replacing, write_csv
from bonepipe.screen import say
from bonepipe.training.averaging import model_of
from bonepipe.training.optim import Plateau
from bonepipe.training.progress import Progress
from bonepipe.training.step_history import StepHistory
from bonepipe.training.tracking import Run

METRIC = "val/dice"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames, so that a killed run leaves the previous checkpoint whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Save a checkpoint."""
        with replacing(Path(path)) as part, part.open("wb") as file:  # of a file, torch passes on why it fails
            torch.save(checkpoint, file)


class BestWeights(pl.Callback):
    """Keeps a copy of the weights with the highest validation Dice; of equals, the earliest."""

    def __init__(self) -> None:
        self.dice, self.epoch = -1.0, -1
        self.weights: dict[str, torch.Tensor] = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare, and copy if better."""
        dice = float(trainer.callback_metrics[METRIC])
        if trainer.state.fn == TrainerFn.FITTING and dice > self.dice:
            self.dice, self.epoch = dice, trainer.current_epoch
            self.weights = {
                key: value.detach().cpu().clone() for key, value in model_of(pl_module).state_dict().items()
            }

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"dice": self.dice, "epoch": self.epoch, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.dice, self.epoch, self.weights = state_dict["dice"], state_dict["epoch"], state_dict["weights"]


class KeepEpochs(pl.Callback):
    """Keeps the weights of the last epochs, a file each, for ensembles that average their outputs.

    To average the weights themselves is what `averaging=swa` does. Older files go as new ones come, because early
    stopping may make any epoch the last; a resumed run writes the epoch that it repeats over the same file.

    Args:
        count: epochs to keep; 0 for none.
        save: writes a model's weights to a file.
    """

    def __init__(self, folder: Path, count: int, save: Callable[[nn.Module, Path], None]) -> None:
        self.folder, self.count, self.save = folder, count, save

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save this epoch's weights and remove those that are too old."""
        if not self.count:
            return
        epoch = trainer.current_epoch + 1
        self.save(model_of(pl_module), self.folder / epoch_file(epoch))
        (self.folder / epoch_file(epoch - self.count)).unlink(missing_ok=True)


class ValidateLast(pl.Callback):
    """Has the last epoch validated whatever `validate_every` says: what training arrives at must be a candidate.

    The last is that of the plan, or the one in which something asks the trainer to stop.
    """

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Lightning decides after this hook."""
        if trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1


class TellSchedule(pl.Callback):
    """Tells a schedule that waits for plateaus how validation went, before the epoch's checkpoint is saved."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Hand over the Dice."""
        if trainer.state.fn == TrainerFn.FITTING:
            for config in trainer.lr_scheduler_configs:
                if isinstance(config.scheduler, Plateau):
                    config.scheduler.observe(float(trainer.callback_metrics[METRIC]))


class History(pl.Callback):
    """One row an epoch in metrics.csv and one line on the screen.

    The learning rate is the one that the epoch's last optimiser step was made with, of the first parameter group.
    """

    def __init__(self, path: Path, progress: Progress) -> None:
        self.path, self.progress = path, progress
        self.rows: list[dict[str, float]] = []
        self._start, self._rate = 0.0, 0.0
        self._validated = -1  # the last epoch with a validation; Lightning goes on showing its metrics

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note that this epoch has scores of its own."""
        self._validated = trainer.current_epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    on_train_start = on_train_epoch_start  # in a resumed run's first epoch Lightning leaves the latter out

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        """Note the rate; the schedule sets the next step's as soon as this one is done."""
        self._rate = float(optimizer.param_groups[0]["lr"])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the row; validation has run by now."""
        seconds = time.perf_counter() - self._start
        metrics = {
            key: float(value)
            for key, value in trainer.callback_metrics.items()
            if self._validated == trainer.current_epoch or not key.startswith("val/")
        }
        row = {"epoch": trainer.current_epoch, "step": trainer.global_step, "lr": self._rate, "seconds": seconds}
        self.rows.append({**metrics, **row})  # Lightning still shows the rate that the epoch before logged
        self._write()
        pl_module.log_dict({"lr": self._rate})
        dice = f"  dice {metrics[METRIC]:.4f}" if METRIC in metrics else ""
        loss = metrics.get("train/loss", float("nan"))
        left = self.progress.left(trainer)
        say(f"{self.progress.epoch(trainer)}  loss {loss:.4f}{dice}  {seconds:.1f} s  {left}".rstrip())

    def _write(self) -> None:
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        write_csv(self.path, columns, ([row.get(key, "") for key in columns] for row in self.rows))

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint, so that a resumed run's file holds every epoch once."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.rows = state_dict["rows"]


class TrackEpochs(pl.Callback):
    """Shows the rows of metrics.csv and steps.csv on the dashboard; a resumed training's earlier ones first."""

    def __init__(self, run: Run, history: History, steps: StepHistory) -> None:
        self.run, self.history, self.steps = run, history, steps

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell what was not told yet; after both files have the epoch."""
        self.run.epochs(self.history.rows, self.steps.rows)

    on_train_start = on_train_epoch_end


class SaveLast(pl.callbacks.Checkpoint):
    """Saves everything needed to resume, after all other callbacks of the epoch."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save."""
        trainer.save_checkpoint(self.path)


class Patience(pl.callbacks.EarlyStopping):
    """Early stopping on the validation Dice that a resumed run remembers.

    Lightning's own forgets that it had already stopped and would train one epoch more.
    """

    def __init__(self, epochs: int) -> None:
        super().__init__(monitor=METRIC, mode="max", patience=epochs)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop again where the checkpoint had stopped."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True
