"""What happened within an epoch: loss, learning rate and throughput over the images seen, a few rows an epoch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from bonepipe.files import write_csv
from bonepipe.training.speed import StepClock

ROWS = 8  # of an epoch, at most
COLUMNS = ("epoch", "images_seen", "loss", "lr", "images_per_second")


class StepHistory(pl.Callback):
    """Writes steps.csv at the end of each epoch; what lies on a GPU is read once an epoch, so no step waits for it.

    Args:
        path: of the file.
        clock: has timed each batch; it comes before in the list of callbacks.
    """

    def __init__(self, path: Path, clock: StepClock) -> None:
        self.path, self.clock = path, clock
        self.rows: list[dict[str, float]] = []
        self._losses: list[torch.Tensor] = []
        self._rates: list[float] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the last epoch's batches."""
        self._losses, self._rates = [], []

    on_train_start = on_train_epoch_start  # in a resumed run's first epoch Lightning leaves the latter out

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Note the rate that this batch is learned with; afterwards the schedule has set the next one's."""
        self._rates.append(float(trainer.optimizers[0].param_groups[0]["lr"]))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Keep the batch's mean loss where it is."""
        self._losses.append(pl_module.batch_loss)  # type: ignore[arg-type]

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Sum up the epoch's batches and write."""
        if not self._losses:
            return
        losses = torch.stack(self._losses).float().tolist()
        seen = int(self.rows[-1]["images_seen"]) if self.rows else 0
        for row in summed_up(self.clock.batches(), losses, self._rates, seen):
            self.rows.append({"epoch": trainer.current_epoch, **row})
        write_csv(self.path, COLUMNS, ([row[key] for key in COLUMNS] for row in self.rows))

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint, so that a resumed run's file holds every epoch once."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.rows = state_dict["rows"]


def summed_up(
    batches: Sequence[tuple[int, float]], losses: Sequence[float], rates: Sequence[float], seen: int
) -> list[dict[str, float]]:
    """At most `ROWS` rows of an epoch, each over as many batches: mean loss, last rate, throughput.

    Args:
        batches: images and seconds of each.
        losses: mean over each batch's images.
        rates: learning rate of each batch.
        seen: images before this epoch.
    """
    rows = []
    for part in np.array_split(np.arange(len(batches)), min(len(batches), ROWS)):
        images, seconds = np.array([batches[index] for index in part]).T
        seen += int(images.sum())
        loss = float(np.average([losses[index] for index in part], weights=images))
        throughput = float(images.sum() / max(seconds.sum(), 1e-9))
        rows.append({"images_seen": seen, "loss": loss, "lr": rates[part[-1]], "images_per_second": throughput})
    return rows
