"""Checkpoints to resume from: written whole, and judged before anything goes on from one.

A checkpoint of torch.save is a ZIP archive with a CRC-32 of each tensor in it, so that no digest has to be kept beside
it and every earlier one has them, too. `torch.load` itself passes over them (`torch.serialization.set_crc32_options`).
"""

import traceback
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import pytorch_lightning as pl
import torch
from annotated_types import Ge, Len
from pydantic import FiniteFloat, InstanceOf
from pytorch_lightning.plugins.io import TorchCheckpointIO
from typing_extensions import TypedDict

from bonepipe.errors import BonepipeError
from bonepipe.files import replacing
from bonepipe.forms import fitting
from bonepipe.memory import ran_out
from bonepipe.models.inspect import mismatch
from bonepipe.training.averaging import model_of
from bonepipe.training.finite import require_finite

WITHOUT_IT = "put back a copy; without one, move it away, and the same command trains the fold from its start"

Count = Annotated[int, Ge(0)]
Tensors = dict[str, InstanceOf[torch.Tensor]]


class Best(TypedDict):
    """The state of `BestWeights`."""

    dice: float
    epoch: int
    weights: Tensors


class Rows(TypedDict):
    """The state of `History` and of `StepHistory`."""

    rows: list[dict[str, float]]


class Callbacks(TypedDict):
    """The states that a fold cannot go on without."""

    BestWeights: Best
    History: Rows
    StepHistory: Rows


class Group(TypedDict):
    """Parameters of an optimiser; its other settings are compared with the optimiser's own."""

    lr: FiniteFloat
    params: list[int]


class OptimizerState(TypedDict):
    """As torch's optimisers give it."""

    state: dict[int, dict[str, Any]]
    param_groups: list[Group]


class Schedule(TypedDict):
    """As torch's schedules give it."""

    last_epoch: Count


class Counts(TypedDict):
    """Epochs."""

    processed: Count


class Progress(TypedDict):
    """As Lightning counts, of which only `current` decides."""

    current: Counts


class FitLoop(TypedDict):
    """Of the loops' many counters Lightning itself asks for the others."""

    epoch_progress: Progress


class Loops(TypedDict):
    """The loop of the training."""

    fit_loop: FitLoop


# What Lightning writes of a training at the end of an epoch.
Content = TypedDict(
    "Content",
    {
        "epoch": Count,
        "global_step": Count,
        "pytorch-lightning_version": str,
        "state_dict": Tensors,
        "loops": Loops,
        "callbacks": Callbacks,
        "optimizer_states": Annotated[list[OptimizerState], Len(1, 1)],
        "lr_schedulers": Annotated[list[Schedule], Len(1, 1)],
    },
)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames, so that a killed run leaves the previous checkpoint whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Save a checkpoint."""
        with replacing(Path(path)) as part, part.open("wb") as file:  # of a file, torch passes on why it fails
            torch.save(checkpoint, file)


def require_sound(checkpoint: Path, module: pl.LightningModule) -> None:
    """Judge a checkpoint before anything goes on from it, so that no later error is blamed on it.

    Raises:
        BonepipeError: it cannot be read, is damaged, no checkpoint, of another model, or holds weights that are not
            finite.
    """
    content = _read(checkpoint)
    expected = model_of(module).state_dict()
    for weights in _weights(content):
        if difference := mismatch(weights, expected):
            raise BonepipeError(f"{checkpoint}: is a checkpoint of another model ({difference}); {WITHOUT_IT}")
        require_finite(weights, checkpoint, f"training had broken down; {WITHOUT_IT}")


def _read(path: Path) -> dict[str, Any]:
    """What a checkpoint holds, once nothing in it is damaged; only tensors and plain values are read."""
    _require_whole(path)
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        _check(content)
        return content
    except Exception as error:  # whatever torch's reader of pickles meets in a file that it did not write
        if ran_out(error):
            raise
        what = f"holds no state of a training, or objects that are not trusted ({_brief(error)})"
        raise BonepipeError(f"{path}: {what}; {WITHOUT_IT}") from error


def _check(content: Any) -> None:
    """Raise ValueError unless a content has the form of a training at the end of an epoch."""
    fitting(content, Content)
    states = fitting([*content["callbacks"].values()], list[dict[str, Any]])
    fitting([state[key] for state in states for key in ("weights", "averaged") if key in state], list[Tensors])
    epochs = content["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    if not content["epoch"] + 1 == epochs == len(content["callbacks"]["History"]["rows"]):
        raise ValueError("its counts of epochs differ")


def _require_whole(path: Path) -> None:
    """Raise BonepipeError unless every checksum in the archive is right."""
    try:
        with zipfile.ZipFile(path) as archive:
            if not all(map(_is_plain, archive.infolist())):
                raise zipfile.BadZipFile("torch.save writes plain entries alone")
            if name := archive.testzip():
                raise zipfile.BadZipFile(f"{name} is not as it was written")
    except PermissionError as error:
        raise BonepipeError(f"{path}: cannot be read ({error.strerror}); make it readable") from error
    except Exception as error:  # zipfile raises a dozen kinds
        raise BonepipeError(f"{path}: is no checkpoint, or damaged ({_brief(error)}); {WITHOUT_IT}") from error


def _is_plain(entry: zipfile.ZipInfo) -> bool:
    """Whether an entry is as torch writes them: not packed, which could fill the memory, and no folder.

    With another size zipfile would compare the checksum of a part; of a folder torch hands out memory as it lies.
    """
    return not entry.compress_type and not entry.external_attr and entry.compress_size == entry.file_size


def _brief(error: Exception) -> str:
    """The first sentence of a message; torch's go on with advice to trust the file."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0].partition('. ')[0]}"[:200].rstrip(": ")


def _weights(content: Mapping[str, Any]) -> Iterator[dict[str, torch.Tensor]]:
    """All weights of the model in a checkpoint, named as the model names them: the last, the best, the average."""
    yield _below("model.", content["state_dict"])
    for state in content["callbacks"].values():
        if best := state.get("weights"):
            yield best
        if average := state.get("averaged"):
            yield _below("module.", average)


def _below(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


class RequireFittingOptimizer(pl.Callback):
    """Judges the state of the optimiser once it is restored, as torch does not.

    Args:
        checkpoint: the file that it came from.
    """

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        self._settings: list[set[str]] = []

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note the settings of each group of parameters; those of the checkpoint take their place."""
        self._settings = [set(group) for optimizer in trainer.optimizers for group in optimizer.param_groups]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Raise BonepipeError where settings are missing, or moments have other shapes or are not finite."""
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        for group, settings in zip(groups, self._settings, strict=True):
            if lacking := sorted(settings - group.keys()):
                self._refuse(f"lacks {lacking[0]}")
        for optimizer in trainer.optimizers:
            for parameter, state in optimizer.state.items():
                self._judge(parameter, state)

    def _judge(self, parameter: torch.Tensor, state: Mapping[str, Any]) -> None:
        for name, value in state.items():
            if not isinstance(value, torch.Tensor | float | int | None):
                self._refuse(f"{name} is {type(value).__name__}")
            if isinstance(value, torch.Tensor) and value.ndim == parameter.ndim and value.shape != parameter.shape:
                self._refuse(f"{name} has shape {list(value.shape)}, its parameter {list(parameter.shape)}")
            if isinstance(value, torch.Tensor) and not value.isfinite().all():
                self._refuse(f"{name} is not finite")

    def _refuse(self, what: str) -> None:
        raise BonepipeError(f"{self.checkpoint}: the state of its optimiser does not fit ({what}); {WITHOUT_IT}")


def refusal(error: Exception, checkpoint: Path) -> BonepipeError | None:
    """What to say of an error in Lightning's restoring of a checkpoint; None of any other, and where memory ran out."""
    frames = (frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__))
    restores = any("checkpoint_connector" in c.co_filename and "restore" in c.co_name for c in frames)
    if not restores or isinstance(error, BonepipeError) or ran_out(error):
        return None
    return BonepipeError(f"{checkpoint}: cannot be gone on from ({_brief(error)}); {WITHOUT_IT}")
