"""One training step and one validation step around a segmentation model."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from bonepipe import config as configs
from bonepipe.data.batches import Batch, Truth
from bonepipe.errors import BonepipeError
from bonepipe.labels import bitplane, on_device, outline
from bonepipe.models.outputs import Outputs
from bonepipe.parallel import Overlap, cores
from bonepipe.training.batch_norm import calibration_images, evaluating, learning_norms, recalibrate
from bonepipe.training.losses import Loss
from bonepipe.training.mixing import Mixed, Part, Predict, unmixed


def normalise(images: torch.Tensor, mean: float, std: float) -> torch.Tensor:
    """Grey bytes `[N, h, w]` to float32 `[N, 1, h, w]` with mean 0 and deviation 1 over the dataset."""
    return ((images.float() - 255 * mean) / (255 * std)).unsqueeze(1)


def window_weight(batch_index: int, batch_samples: int, batches: int, samples: int, size: int, window: int) -> float:
    """Factor on a batch's mean loss so that an accumulation window's gradient is the mean over its samples.

    Lightning divides every loss by `window`, also in the last window of an epoch, which may hold fewer batches, the
    last of them with fewer samples.

    Args:
        batch_index: number of the batch in the epoch; batch_samples: samples in it.
        batches, samples: in the epoch; size: samples of a full batch; window: batches accumulated before a step.
    """
    first = batch_index - batch_index % window
    last = min(first + window, batches)
    in_window = min(last * size, samples) - first * size
    return window * batch_samples / in_window


def validated(pair: tuple[torch.Tensor, Truth]) -> np.ndarray:
    """Dice `[C]` of an image's maps `[C, h, w]` at its original size, at threshold 0.5; on the GPU that they are on.

    Raises BonepipeError for maps that are not finite: they would count as a Dice of 0.
    """
    maps, truth = pair
    if not maps.sum().isfinite():
        raise BonepipeError(
            "validation: probabilities are not finite though the weights are; try trainer.precision=32, else a "
            "lower optimizer.lr"
        )
    if maps.is_cuda:
        return on_device.dice_at_half(truth.content(maps), truth.masks, truth.shape)
    return outline.dice_at_half(truth.content(maps.cpu().numpy()), truth.masks, truth.shape)


def pixel_weights(batch: Batch, classes: int) -> torch.Tensor | None:
    """What each pixel weighs in the loss, `[N, 1 or C, h, w]`: 0 where labels do not count; None for all alike."""
    weight = batch.get("weight")
    if "ignored" not in batch:
        return weight
    counts = 1 - bitplane.coverage_torch(batch["ignored"], classes)
    return counts if weight is None else weight * counts


Node = Mapping[str, Any]  # `_target_` and the settings of what it names, see `bonepipe.config.build`


def _built(part: Any, group: str, *given: Any) -> Any:
    """A part as its node describes it, or as it was handed in."""
    return configs.build({group: part}, group, *given) if isinstance(part, Mapping) else part


def _made(maker: Any, group: str, *given: Any) -> Any:
    """What a node describes, or a function makes, of what the module gives."""
    return _built(maker, group, *given) if isinstance(maker, Mapping) else maker(*given)


class SegmentationModule(pl.LightningModule):
    """Lightning's view of a model: bytes in, loss out; Dice at the images' original size in validation and test.

    A part is either built from its config node, which checkpoints then hold (`load_from_checkpoint` builds it again),
    or the part itself, which has to be handed in again.

    Args:
        model: float32 `[N, 1, h, w]` to logits `[N, C, h, w]`, or `Outputs` while it is trained.
        loss: of its answer, targets and pixel weights, a mean over samples.
        optimizer: makes the optimiser of a model.
        scheduler: makes the schedule, stepped with the optimiser, of an optimiser, a total number of steps, and the
            step from which the learning rate is held, or None.
        mixing: mixes the images of a training batch with each other.
        mean, std: of the grey values, on the scale 0 to 1.
        seed: of everything random in the network, set anew each batch so that a resumed run continues exactly.
        compiled: run the model through torch.compile.
        hold: share of the epochs from which the learning rate is held; None for never.
    """

    def __init__(
        self,
        model: Node | nn.Module,
        loss: Node | Loss,
        optimizer: Node | Callable[[nn.Module], Optimizer],
        scheduler: Node | Callable[[Optimizer, int, int | None], LRScheduler],
        mixing: Node | Callable[[torch.Tensor, Part, np.random.Generator, Predict], Mixed] = unmixed,
        *,
        classes: Sequence[str],
        mean: float,
        std: float,
        seed: int,
        compiled: bool = False,
        hold: float | None = None,
    ) -> None:
        super().__init__()
        parts = {"model": model, "loss": loss, "optimizer": optimizer, "scheduler": scheduler, "mixing": mixing}
        handed_in = [name for name, part in parts.items() if not isinstance(part, Mapping)]
        self.save_hyperparameters(ignore=handed_in, logger=False)
        if isinstance(model, Mapping) and "encoder_weights" in model:  # a checkpoint brings the trained ones
            self.hparams["model"] = {**model, "encoder_weights": None}
        network: nn.Module = _built(model, "model", len(classes))
        self.model = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.loss, self.mixing, self.classes = _built(loss, "loss"), _built(mixing, "mixing"), tuple(classes)
        self.mean, self.std, self.seed, self.hold = mean, std, seed, hold
        self._optimizer, self._scheduler = optimizer, scheduler
        # Outside the module tree: the compiled wrapper would store every weight a second time under another name.
        self._call = (torch.compile(network) if compiled else network,)
        self.batch_loss = torch.zeros(())  # mean of the last training batch
        self._dice: list[np.ndarray] = []
        self._comparing: Overlap[tuple[torch.Tensor, Truth], np.ndarray] | None = None  # while it validates
        self._calibration: list[torch.Tensor] = []  # grey bytes [N, h, w] that running statistics are computed from
        self._fresh = -1  # the optimiser step whose weights they were last computed for

    def images(self, batch: Batch) -> torch.Tensor:
        """The batch's images as the model wants them."""
        return normalise(batch["image"], self.mean, self.std).contiguous(memory_format=torch.channels_last)

    def forward(self, images: torch.Tensor) -> torch.Tensor | Outputs:
        """The network's answer to normalised images: logits, or `Outputs` while it is trained."""
        return self._call[0](images)

    def calibrate(self, model: nn.Module) -> None:
        """Recompute a network's running statistics as the module's own, from the same training images.

        In the mode of training, with its frozen parts in evaluation mode; while the module's trainer trains, or after.
        """
        if not learning_norms(model):
            return
        if not self._calibration:
            loader: Any = self.trainer.train_dataloader
            self._calibration = calibration_images(loader)
        device = next(model.parameters()).device
        with self.trainer.precision_plugin.forward_context():
            recalibrate(model, (self.images({"image": grey.to(device)}) for grey in self._calibration))

    def refresh(self) -> None:
        """Calibrate the module's own network, unless its weights are those of the last time."""
        if self._fresh != self.trainer.global_step:
            self.calibrate(self.model)
            self._fresh = self.trainer.global_step

    def on_fit_start(self) -> None:
        """Forget another training's images."""
        self._calibration, self._fresh = [], -1

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        """Dropout and its like depend on epoch and batch alone, not on what ran before.

        Not when the epoch starts: Lightning leaves that hook out in the first epoch of a resumed run.
        """
        state = np.random.SeedSequence((self.seed, self.current_epoch, batch_index)).generate_state(1)
        torch.manual_seed(int(state[0]))

    def training_step(self, batch: Batch, batch_index: int) -> torch.Tensor:
        """The loss, weighted for the accumulation window."""
        rng = np.random.default_rng((self.seed, self.current_epoch, batch_index))  # its own: dropout stays as it is
        labels = Part(batch["planes"], pixel_weights(batch, len(self.classes)), batch.get("share", 1.0))
        images, parts = self.mixing(self.images(batch), labels, rng, self._predict)
        answer = self(images)
        loss = torch.stack([self._loss(answer, part) for part in parts]).sum()
        samples, self.batch_loss = len(images), loss.detach()  # Lightning knows only means over epochs
        self.log("train/loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=samples)
        return loss * self._window_weight(batch_index, samples)

    def _predict(self, images: torch.Tensor) -> torch.Tensor:
        """Logits without gradients, in evaluation mode."""
        with evaluating(self.model) as model:
            return model(images)

    def _loss(self, answer: torch.Tensor | Outputs, part: Part) -> torch.Tensor:
        targets, parts = bitplane.counts_torch(part.planes, len(self.classes))
        return (part.share * self.loss.each(answer, targets, part.weight, parts)).mean()

    def _window_weight(self, batch_index: int, batch_samples: int) -> float:
        loader = self.trainer.train_dataloader
        assert loader is not None
        batches, samples = int(self.trainer.num_training_batches), len(loader.sampler)
        return window_weight(
            batch_index, batch_samples, batches, samples, loader.batch_size, self.trainer.accumulate_grad_batches
        )

    def on_validation_model_eval(self) -> None:
        """The last moment that tells which layers learn; what is validated are the weights, not statistics that lag."""
        if self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking:
            self.refresh()
        super().on_validation_model_eval()

    def on_validation_epoch_start(self) -> None:
        """Forget the last validation or test."""
        self._dice, self._comparing = [], None

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Dice of every class at the image's original size, at threshold 0.5, while the next batch is predicted."""
        probabilities = self.predict_step(batch, batch_index)
        if self._comparing is None:
            waiting = 0 if probabilities.is_cuda else max(len(probabilities), cores())  # a GPU does one after another
            self._comparing = Overlap(validated, waiting, cores())
        for pair in zip(probabilities, batch["truth"], strict=True):
            self._dice += self._comparing.put(pair)

    def on_validation_epoch_end(self) -> None:
        """Log the mean over images, and over images and classes."""
        self._log_dice("val")

    def _log_dice(self, stage: str) -> None:
        assert self._comparing is not None
        with self._comparing as comparing:
            self._dice += comparing.rest()
        self._comparing = None  # threads cannot be copied with the module
        per_class = np.mean(self._dice, axis=0)
        names = {f"{stage}/dice/{name}": float(value) for name, value in zip(self.classes, per_class, strict=True)}
        self.log_dict({f"{stage}/dice": float(per_class.mean()), **names})

    on_test_epoch_start, test_step = on_validation_epoch_start, validation_step

    def on_test_epoch_end(self) -> None:
        """Log as after a validation."""
        self._log_dice("test")

    def predict_step(self, batch: Batch, batch_index: int) -> torch.Tensor:
        """Probabilities float32 `[N, C, h, w]` at model size, padding included: `DataSpec.frame` takes it off."""
        return self(self.images(batch)).float().sigmoid_()

    def configure_optimizers(self) -> Any:
        """The optimiser, and the schedule stepped with it."""
        total = int(self.trainer.estimated_stepping_batches)
        optimizer = _made(self._optimizer, "optimizer", self.model)
        scheduler = _made(self._scheduler, "scheduler", optimizer, total, self._hold_step(total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _hold_step(self, total: int) -> int | None:
        """The optimiser step from which the learning rate is held, or None."""
        epochs = self.trainer.max_epochs
        return None if self.hold is None or not epochs else round(self.hold * epochs) * (total // epochs)
