"""How far a training is and how long it will take: a bar on a terminal, and words for the line of an epoch."""

import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn
from tqdm import tqdm

BAR = "{desc} |{bar}| {n_fmt}/{total_fmt}"


def time_left(seconds: float, steps: int, remaining: int, fold_steps: int = 0, folds_after: int = 0) -> str:
    """`fold 04:10 left`, and `run 21:00 left` where other folds follow; empty before the first step.

    Args:
        seconds: that the first `steps` of them took, validations among them.
        remaining: steps until the fold is trained.
        fold_steps: steps of a whole fold.
        folds_after: rounds of folds that follow this one.
    """
    if not steps:
        return ""
    pace = seconds / steps
    run = f", run {_clock(pace * (remaining + folds_after * fold_steps))} left" if folds_after else ""
    return f"fold {_clock(pace * remaining)} left{run}"


def _clock(seconds: float) -> str:
    return tqdm.format_interval(round(seconds))


class Progress(pl.Callback):
    """One bar for all epochs of a training, drawn on terminals only: redrawn hundreds of times, it ruins a log file.

    Args:
        title: of the training.
        folds_after: rounds of folds that follow this one, for the time that the run takes.
    """

    def __init__(self, title: str, folds_after: int = 0) -> None:
        self.title, self.folds_after = title, folds_after
        self._bar: Any = None
        self._begin, self._steps, self._first = 0.0, 0, 0

    def left(self, trainer: pl.Trainer) -> str:
        """The time left, as far as this process can tell."""
        total = _steps_of(trainer)
        remaining = total - self._first - self._steps
        return time_left(time.perf_counter() - self._begin, self._steps, remaining, total, self.folds_after)

    def epoch(self, trainer: pl.Trainer) -> str:
        """The training and its epoch, counted from 1."""
        return f"{self.title}  epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock; a resumed training has steps behind it that this process did not make."""
        self._begin, self._steps = time.perf_counter(), 0
        self._first = trainer.current_epoch * int(trainer.num_training_batches)
        self._bar = self._new(_steps_of(trainer), self.epoch(trainer), self._first)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Name the epoch."""
        self._tell(trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Count."""
        self._steps += 1
        self._bar.update()
        self._tell(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A bar of its own for a validation that belongs to no epoch."""
        if trainer.state.fn != TrainerFn.FITTING:
            self._bar = self._new(_validation_steps(trainer), f"{self.title}  the weight average is validated")

    def on_validation_batch_end(self, trainer: pl.Trainer, *hook: Any) -> None:
        """Count, or say that the epoch is being validated."""
        if trainer.state.fn == TrainerFn.FITTING:
            batch = hook[3] + 1
            self._bar.set_description_str(f"{self.epoch(trainer)}  validated {batch}/{_validation_steps(trainer)}")
        else:
            self._bar.update()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Clear the validation's own bar."""
        if trainer.state.fn != TrainerFn.FITTING:
            self._bar.close()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Clear the bar."""
        if self._bar is not None:
            self._bar.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Clear the bar, so that what is told of the error stands alone."""
        self.on_fit_end(trainer, pl_module)

    def _tell(self, trainer: pl.Trainer) -> None:
        left = self.left(trainer)
        self._bar.set_description_str(f"{self.epoch(trainer)}  {left}".rstrip(), refresh=False)

    @staticmethod
    def _new(total: int, title: str, initial: int = 0) -> Any:
        return tqdm(
            total=total, desc=title, initial=initial, bar_format=BAR, leave=False, disable=None, file=sys.stderr,
            dynamic_ncols=True,
        )  # fmt: skip


def _steps_of(trainer: pl.Trainer) -> int:
    return int(trainer.num_training_batches) * (trainer.max_epochs or 0)


def _validation_steps(trainer: pl.Trainer) -> int:
    return sum(map(int, trainer.num_val_batches))
