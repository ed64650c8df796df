"""Training one fold: from built parts to the weights that predict."""

import contextlib
import logging
import math
import signal
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
from lightning_fabric.plugins.environments import LightningEnvironment
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from torch import nn
from torch.utils import deterministic

from bonepipe.data.datamodule import FoldDataModule
from bonepipe.errors import BonepipeError, UsageError
from bonepipe.interruption import Interrupted
from bonepipe.models.inspect import is_lone_value, learns_from_one
from bonepipe.ranges import Count, Number, Portion, Positive, Processes
from bonepipe.screen import say
from bonepipe.training.averaging import WeightAveraging
from bonepipe.training.callbacks import (
    METRIC,
    BestWeights,
    History,
    KeepEpochs,
    Patience,
    SaveLast,
    TellSchedule,
    TrackEpochs,
    ValidateLast,
)
from bonepipe.training.checkpoint import AtomicCheckpointIO, RequireFittingOptimizer, refusal, require_sound
from bonepipe.training.finite import REMEDIES, StopWhenNotFinite
from bonepipe.training.module import SegmentationModule
from bonepipe.training.precision import Precision, lightning_precision, set_up
from bonepipe.training.progress import Progress
from bonepipe.training.speed import StepClock
from bonepipe.training.step_history import StepHistory
from bonepipe.training.tracking import Run
from bonepipe.training.tracking.history import STEPS
from bonepipe.training.transfer import Transfer
from bonepipe.training.weights_file import save_weights

# Lightning's advice on hardware it does not find and loggers it would like; the pipeline says itself what matters.
logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
for advice in (".*does not have many workers.*", ".*LeafSpec.*", ".*smaller than the logging interval.*"):
    warnings.filterwarnings("ignore", advice)

AUTO = "auto"


@dataclass(frozen=True, kw_only=True)
class TrainerSpec:
    """How a fold is trained.

    Attributes:
        epochs: passes over the training images.
        batch_size: images a batch; `auto` for as many as fit, found when a run begins.
        accumulate: batches a step of the optimiser.
        effective_batch: images a step of the optimiser with batch_size=auto, which `accumulate` follows from; null for
            what the experiment has otherwise.
        precision: `auto` is bf16 where GPU or CPU have it, fp16 with loss scaling on other GPUs, else 32. Only 32 keeps
            a GPU from rounding factors to TF32.
        clip: largest gradient norm, or null.
        workers: loader processes; null for one a core, at most 8; folds that run at once share the cores.
        validate_every: epochs between validations; the last epoch is always validated.
        patience: validations without a better Dice before training stops, or null.
        keep_epochs: keep the weights of the last so many epochs too, for ensembles over epochs; 0 for none. They
            average the outputs; the mean of the weights themselves is averaging=swa.
        compile: run the model through torch.compile.
        train_batches, val_batches: use so many batches of an epoch, or null for all (for debugging).
        fraction: share of the training patients that are used, for light runs.
        overfit_batches: train and validate on the same so many batches, or null (for debugging).
        detect_anomaly: name the operation that made a NaN in the backward pass (slow, for debugging).
    """

    epochs: Count
    batch_size: Count | Literal["auto"]
    accumulate: Count = 1
    effective_batch: Count | None = None
    precision: Precision = "auto"
    clip: Positive | None = 1.0
    workers: Processes | None = None
    validate_every: Count = 1
    patience: Count | None = None
    keep_epochs: Number = 0
    compile: bool = False
    train_batches: Count | None = None
    val_batches: Count | None = None
    fraction: Portion = 1.0
    overfit_batches: Count | None = None
    detect_anomaly: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate", "validate_every"):
            if getattr(self, name) != AUTO and getattr(self, name) < 1:
                raise ValueError(f"trainer.{name}={getattr(self, name)}: at least 1")
        if (self.batch_size == AUTO) != (self.effective_batch is not None):
            raise ValueError(
                f"trainer.batch_size={self.batch_size} with trainer.effective_batch={self.effective_batch}: auto needs "
                "the images a step, and a number of images a batch has trainer.accumulate instead"
            )
        for name in ("effective_batch", "patience", "train_batches", "val_batches", "overfit_batches"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"trainer.{name}={getattr(self, name)}: at least 1, or null")
        if self.clip is not None and not 0 < self.clip < math.inf:
            raise ValueError(f"trainer.clip={self.clip}: above 0, or null for no clipping")
        if self.keep_epochs < 0:
            raise ValueError(f"trainer.keep_epochs={self.keep_epochs}: 0 or more")
        if not 0 < self.fraction <= 1:
            raise ValueError(f"trainer.fraction={self.fraction}: a share of the patients, above 0 and at most 1")

    @property
    def batch(self) -> int:
        """Images a batch, where that is known: `Experiment.trainer` has found it."""
        assert isinstance(self.batch_size, int)
        return self.batch_size

    def smallest_batch(self, images: int) -> int:
        """Images in the smallest batch of an epoch of so many images: the last, where it is used."""
        full, rest = divmod(images, self.batch)
        if full and (not rest or (self.train_batches or full + 1) <= full):
            return self.batch
        return rest


@dataclass(frozen=True)
class Chosen:
    """The weights that a fold predicts with."""

    source: str  # `best epoch` or `average`
    epoch: int  # of the best weights, counted from 1; number of epochs (SWA) or steps (EMA) averaged
    dice: float  # on the fold's validation images at threshold 0.5, without test-time augmentation
    other: str = ""  # what became of the other candidate, in words
    average: float | None = None  # Dice of the weights' average, measured alike; None where nothing was averaged

    def __str__(self) -> str:
        """For people."""
        other = f"; {self.other}" if self.other else ""
        return f"its {self.source} ({self.epoch}), Dice {self.dice:.4f} without views{other}"


def train_fold(
    module: SegmentationModule,
    data: FoldDataModule,
    averaging: WeightAveraging,
    spec: TrainerSpec,
    *,
    device: str,
    folder: Path,
    title: str,
    run: Run,
    transfer: Transfer | None = None,
    facts: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> Chosen:
    """Train, going on from `folder/last.ckpt` where there is one, and load the better weights into the module.

    With `spec.keep_epochs` the last epochs' weights are kept in the folder too, with these facts.
    Best epoch and weight average are both scored on the validation images, with running statistics of the same training
    images; the average must be strictly better.

    Raises:
        BonepipeError: the checkpoint cannot be gone on from (`require_sound`), or numbers are no longer finite.
        UsageError: the encoder of a model without one shall be frozen; BatchNorm would meet a single value.
    """
    best, transfer = BestWeights(), transfer or Transfer()
    data.prepare_data()
    data.setup("fit")
    if transfer.is_frozen(spec.epochs - 1):  # an encoder that is never trained takes batches of any size
        transfer.apply(module.model, 0)
    _refuse_lone_values(module.model, data, spec)
    transfer.apply(module.model, 0)
    checkpoint = folder / "last.ckpt"
    if resumes := checkpoint.exists():
        require_sound(checkpoint, module)
    clock, progress = StepClock(), progress or Progress(title)
    history = History(folder / "metrics.csv", progress)  # which writes the clock's figures
    steps = StepHistory(folder / STEPS, clock)
    keep = KeepEpochs(folder, spec.keep_epochs, partial(_keep, module, facts=facts or {}))
    watch, save = StopWhenNotFinite(title, checkpoint), SaveLast(checkpoint)
    told = [progress, TellSchedule(), clock, history, steps, TrackEpochs(run, history, steps)]
    callbacks = [best, transfer, averaging, watch, *told, keep, save, ValidateLast()]  # which sees all wishes to stop
    if spec.patience is not None:
        callbacks.append(Patience(spec.patience))
    if resumes:
        callbacks.append(RequireFittingOptimizer(checkpoint))
    trainer = make_trainer(spec, callbacks, device, folder)
    _fit(trainer, module, data, checkpoint if resumes else None)
    if times := clock.summary():
        say(f"{title}  {times}")
    return _choose(trainer, module, data, best, averaging, transfer)


def _keep(module: SegmentationModule, model: nn.Module, path: Path, facts: dict[str, Any]) -> None:
    """Save an epoch's weights, validated or not, with running statistics that fit them."""
    module.refresh()
    save_weights(model, path, facts)


def _refuse_lone_values(model: nn.Module, data: FoldDataModule, spec: TrainerSpec) -> None:
    """Raise UsageError where a batch of one image would leave BatchNorm one value a channel, before anything runs."""
    if spec.smallest_batch(len(data.sampler)) <= 1 and not learns_from_one(model, training_shape(data)):
        raise _lone_value(data)


def training_shape(data: FoldDataModule) -> tuple[int, int]:
    """Height and width of the images that are trained on, after augmentation."""
    height, width = data.training[next(iter(data.sampler))]["image"].shape[:2]
    return height, width


def _lone_value(data: FoldDataModule) -> UsageError:
    size = "x".join(str(side) for side in training_shape(data))
    alone = f" leaves one of {len(data.sampler)} training images alone in the last batch" if data.batch_size > 1 else ""
    return UsageError(
        f"trainer.batch_size={data.batch_size}{alone}: from a single image of {size} pixels BatchNorm gets one value "
        "a channel (a feature map of 1x1) and cannot normalise it; change trainer.batch_size, or enlarge data.size"
    )


def make_trainer(spec: TrainerSpec, callbacks: list[pl.Callback], device: str, folder: Path) -> pl.Trainer:
    """Lightning's Trainer as every training here uses it: one process on one device, whoever launched it.

    `srun -n 5` and torchrun number their processes in the environment, from which Lightning would conclude that they
    train one model together. Here each trains a model of its own, and is the first of one.
    """
    rank_zero_only.rank = 0  # type: ignore[attr-defined]
    set_up(spec.precision, device, benchmark=True)
    # In its deterministic mode torch fills all memory that it allocates, 2 to 4% of a step on a CPU. That is for code
    # that reads what it has not written; the tests of equal bytes would notice.
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return pl.Trainer(
        accelerator={"cuda": "gpu"}.get(device, device),
        devices=1,
        precision=lightning_precision(spec.precision, device),
        max_epochs=spec.epochs,
        accumulate_grad_batches=spec.accumulate,
        gradient_clip_val=spec.clip,
        check_val_every_n_epoch=spec.validate_every,
        limit_train_batches=spec.train_batches,
        limit_val_batches=spec.val_batches,
        detect_anomaly=spec.detect_anomaly,
        num_sanity_val_steps=0,
        # Compiled in this mode, networks with BatchNorm that end in a bilinear resize get gradients of 0 (torch 2.13).
        deterministic="warn" if device == "cpu" and not spec.compile else False,
        use_distributed_sampler=False,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO(), LightningEnvironment()],
        logger=False,  # `TrackEpochs` tells the dashboard
        log_every_n_steps=10,
        enable_progress_bar=False,  # `Progress` draws one
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(callback, pl.callbacks.Checkpoint) for callback in callbacks),
        default_root_dir=folder,
    )


def _fit(trainer: pl.Trainer, module: SegmentationModule, data: FoldDataModule, checkpoint: Path | None) -> None:
    try:
        with stopping():
            _start_or_resume(trainer, module, data, checkpoint)
    except ValueError as error:  # from networks that could not be asked beforehand
        if not is_lone_value(error):
            raise
        raise _lone_value(data) from error
    except RuntimeError as error:
        if "returned nan values" not in str(error):  # of trainer.detect_anomaly
            raise
        where = f"epoch {trainer.current_epoch + 1}, step {trainer.global_step + 1}"
        raise BonepipeError(f"broke down in {where}: {error} Try {REMEDIES}") from error


@contextlib.contextmanager
def stopping() -> Iterator[None]:
    """Raise the interruption itself where Lightning answers it with `exit(1)`, or SIGTERM with `exit(0)`."""
    try:
        yield
    except SystemExit as stop:
        cause = stop.__context__
        raise cause if isinstance(cause, KeyboardInterrupt) else Interrupted(signal.SIGTERM) from None


def _start_or_resume(
    trainer: pl.Trainer, module: SegmentationModule, data: FoldDataModule, checkpoint: Path | None
) -> None:
    try:
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except Exception as error:
        if checkpoint is not None and (refused := refusal(error, checkpoint)):
            raise refused from error
        raise


def _choose(
    trainer: pl.Trainer,
    module: SegmentationModule,
    data: FoldDataModule,
    best: BestWeights,
    averaging: WeightAveraging,
    transfer: Transfer,
) -> Chosen:
    if not best.weights:
        raise BonepipeError("no validation gave a Dice, so there are no weights to choose")
    average = averaging.averaged_model(module.calibrate, partial(transfer.settle, epoch=trainer.current_epoch - 1))
    other, averaged = averaging.missed(trainer.current_epoch), None
    if average is not None:
        module.model.load_state_dict(average.state_dict())
        with stopping():
            averaged = dice = trainer.validate(module, datamodule=data, verbose=False)[0][METRIC]
        if dice > best.dice:
            return Chosen("average", averaging.count, dice, f"epoch {best.epoch + 1} has Dice {best.dice:.4f}", dice)
        other = f"the average of {averaging.count} has Dice {dice:.4f}"
    module.model.load_state_dict(best.weights)
    return Chosen("best epoch", best.epoch + 1, best.dice, other, averaged)
