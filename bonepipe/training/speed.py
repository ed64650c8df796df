"""Where a training step's time goes: waiting for data, forward and backward pass, the rest."""

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

Mark = float | torch.cuda.Event


@dataclass(frozen=True)
class StepTimes:
    """Means over the steps of an epoch, in seconds a batch.

    Attributes:
        wait: from the end of a batch until the next one is on the device.
        rest: clipping, optimiser, schedule, logging.
        images: in a batch, on average.
    """

    wait: float
    compute: float
    rest: float
    images: float

    @property
    def step(self) -> float:
        """The whole step."""
        return self.wait + self.compute + self.rest

    @property
    def images_per_second(self) -> float:
        """Throughput of the training steps alone, without validation."""
        return self.images / self.step

    def __str__(self) -> str:
        """One line for people."""
        parts = (("data wait", self.wait), ("forward+backward", self.compute), ("rest", self.rest))
        shares = ", ".join(f"{name} {1e3 * part:.1f} ({part / self.step:.0%})" for name, part in parts)
        return f"{self.images_per_second:.1f} images/s, step {1e3 * self.step:.1f} ms: {shares}"


def mean_times(marks: Sequence[tuple[Mark, Mark, Mark, Mark]], images: int) -> StepTimes:
    """Average over steps of (end of the last batch, start, after the backward pass, end)."""
    parts = [[_between(a, b) for a, b in pairwise(step)] for step in marks]
    wait, compute, rest = (statistics.fmean(column) for column in zip(*parts, strict=True))
    return StepTimes(wait, compute, rest, images / len(marks))


def _mark(device: torch.device) -> Mark:
    """A moment: on a GPU, when the work that was given to it so far is done; nothing waits for it."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _between(start: Any, end: Any) -> float:
    """Seconds from one mark to another."""
    return end - start if isinstance(start, float) else start.elapsed_time(end) / 1e3


class StepClock(pl.Callback):
    """Logs the split of the step's time every epoch.

    On a GPU the moments are those of its own queue: `wait` is then the time in which the GPU had nothing to do but
    receive the batch, which is what a slow loader costs. The first epoch, which starts processes and tunes kernels,
    counts only if there is no other.
    """

    def __init__(self) -> None:
        self.epochs: list[StepTimes] = []
        self._marks: list[tuple[Mark, Mark, Mark, Mark]] = []
        self._images: list[int] = []
        self._last: Mark = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the last epoch's marks."""
        self._marks, self._images, self._last = [], [], _mark(pl_module.device)

    on_train_start = on_train_epoch_start  # in a resumed run's first epoch Lightning leaves the latter out

    def on_train_batch_start(self, trainer: Any, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        """The batch is there."""
        self._start = _mark(pl_module.device)
        self._images.append(len(batch["image"]))

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The gradients are there."""
        self._middle = _mark(pl_module.device)

    def on_train_batch_end(self, trainer: Any, pl_module: pl.LightningModule, *_: Any) -> None:
        """The step is done."""
        end = _mark(pl_module.device)
        self._marks.append((self._last, self._start, self._middle, end))
        self._last = end

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the epoch's means, in milliseconds a step."""
        if not self._marks:
            return
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)
        times = mean_times(self._marks, sum(self._images))
        self.epochs.append(times)
        parts = {"data_wait": times.wait, "forward_backward": times.compute, "rest": times.rest}
        pl_module.log_dict({f"time/{name}_ms": 1e3 * seconds for name, seconds in parts.items()})
        pl_module.log_dict({"time/images_per_second": times.images_per_second})

    def batches(self) -> list[tuple[int, float]]:
        """Images and seconds of each batch of the epoch that has just ended."""
        return [(n, _between(mark[0], mark[-1])) for n, mark in zip(self._images, self._marks, strict=True)]

    def summary(self) -> StepTimes | None:
        """Medians over the epochs, or None where nothing was trained."""
        epochs = self.epochs[1:] or self.epochs
        if not epochs:
            return None
        names = ("wait", "compute", "rest", "images")
        return StepTimes(*(statistics.median(getattr(times, name) for times in epochs) for name in names))


class Repeated:
    """A loader that has its only batch already, on the device: what training would be if data cost nothing.

    Args:
        loader: gives the batch, and how many of them an epoch has.
        device: where to keep it.
    """

    def __init__(self, loader: DataLoader[Any], device: torch.device | str) -> None:
        self.sampler, self.batch_size, self._count = loader.sampler, loader.batch_size, len(loader)
        self._batch = {key: value.to(device) for key, value in next(iter(loader)).items()}

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        for _ in range(self._count):
            yield dict(self._batch)
