"""`trainer.batch_size=auto`: the largest batch that fits, found once a run by training for two steps.

Batches divide the images of an optimiser's step (`trainer.effective_batch`), and as many are accumulated as make them
up: the gradient is the same mean over the same images whatever fits, and only BatchNorm sees the difference.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge
from typing_extensions import TypedDict

from bonepipe import memory
from bonepipe.digests import combined
from bonepipe.errors import BonepipeError
from bonepipe.files import write_json
from bonepipe.forms import read_json
from bonepipe.parallel import sharers
from bonepipe.pipeline.experiment import Experiment, say, with_group
from bonepipe.pipeline.run_folder import BATCH_SIZE
from bonepipe.pipeline.steps import training_settings

if TYPE_CHECKING:
    from bonepipe.data.datamodule import FoldDataModule
    from bonepipe.training.fit import TrainerSpec

STEPS = 2  # of the optimiser, whose own state is there from the second on
MARGIN = 0.1  # of the memory, for what comes later: averaged weights, validation, fragments
# Whatever else the trainer is told: a trial is two plain steps.
TRIAL = {
    "epochs": 1, "validate_every": 1, "train_batches": STEPS, "accumulate": 1, "effective_batch": None, "workers": 0,
    "compile": False, "patience": None, "keep_epochs": 0, "overfit_batches": None, "detect_anomaly": False,
}  # fmt: skip


class Found(TypedDict):
    """What is kept of a search."""

    batch_size: Annotated[int, Ge(1)]
    settings: str
    device: str


def resolved(experiment: Experiment, spec: "TrainerSpec") -> "TrainerSpec":
    """A spec with `auto` as the batch size that was found for the run on such a device, by this fold or an earlier one.

    Raises:
        BonepipeError: not even the smallest batch fits.
    """
    from filelock import FileLock

    assert spec.effective_batch is not None
    path, settings = experiment.folder / BATCH_SIZE, combined(training_settings(experiment.config))
    shared = f", shared by {sharers()}" if sharers() > 1 else ""  # executor.parallel
    asked = {"settings": settings, "device": memory.described(experiment.device) + shared}
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.stem}.lock")):  # of folds that begin at once, one searches
        size = _known(path, asked)
        if size is None:
            size = _search(experiment, spec.effective_batch)
            write_json(path, {"batch_size": size, **asked})
    batches = spec.effective_batch // size
    say(f"trainer.batch_size=auto: {size} images a batch, {batches} batches a step of {spec.effective_batch} images")
    return replace(spec, batch_size=size, accumulate=batches, effective_batch=None)


def _known(path: Path, asked: Mapping[str, str]) -> int | None:
    """What was found for these settings on this device; None where nothing was."""
    try:
        content = read_json(path, Found, "the size is searched for again")
    except FileNotFoundError:
        return None
    except BonepipeError as error:
        say(f"warning: {error}")
        return None
    return content["batch_size"] if asked.items() <= content.items() else None


def _search(experiment: Experiment, effective: int) -> int:
    from bonepipe.models.inspect import learns_from_one
    from bonepipe.training.fit import training_shape

    device, fold = experiment.device, experiment.config["fold"]
    trial = with_group(experiment, "trainer", batch_size=1, **TRIAL)
    data = trial.datamodule(fold)
    data.setup("fit")
    sizes = [size for size in range(1, effective + 1) if effective % size == 0]
    if len(sizes) > 1 and not learns_from_one(trial.model(pretrained=False), training_shape(data)):
        sizes = sizes[1:]
    memory.forget_peak(device)
    limit = (1 - MARGIN) * memory.available(device) / sharers()
    needs: dict[int, float | None] = {}
    found = largest(sizes, lambda size: needs.setdefault(size, _need(trial, data, size)), limit)
    if found is None:
        raise BonepipeError(
            f"trainer.batch_size=auto: not even {sizes[0]} of {experiment.data.size} pixels fit into the memory of "
            f"{device}; lower data.size, or choose a smaller model or trainer.precision=bf16"
        )
    if found == effective and (most := would_fit(needs, limit)):
        say(
            f"trainer.batch_size=auto: about {most} would fit, by a straight line; a larger "
            "trainer.effective_batch would use them"
        )
    return found


def would_fit(needs: Mapping[int, float | None], limit: float) -> int | None:
    """The largest batch that fits by a straight line through what was measured, where that says more than was tried.

    Args:
        needs: bytes that batches of a size need, None where they ran out of them.
        limit: bytes that may be needed.
    """
    known = sorted((size, need) for size, need in needs.items() if need is not None)
    if len(known) < 2 or limit == float("inf"):
        return None
    (first, low), (last, high) = known[0], known[-1]
    if high <= low:
        return None
    most = int(last + (limit - high) * (last - first) / (high - low))
    return most if most > last else None


def largest(sizes: Sequence[int], need: Callable[[int], float | None], limit: float) -> int | None:
    """The largest batch that fits, tried; None where none does.

    The two smallest tell by a straight line which of the others are worth a try: a process that asks the kernel for too
    much is killed, and cannot say so.

    Args:
        sizes: to choose from, ascending.
        need: bytes that a batch of a size needs, None where it ran out of them.
        limit: bytes that may be needed.
    """
    needs: dict[int, float] = {}
    for size in sizes[:2]:
        needed = need(size)
        if needed is None or needed > limit:
            return next(iter(needs), None)
        needs[size] = needed
    if len(needs) < 2:
        return next(iter(needs), None)
    (first, low), (second, high) = needs.items()
    for size in reversed(sizes[2:]):
        expected = low + (high - low) * (size - first) / (second - first)
        if expected <= limit and (needed := need(size)) is not None and needed <= limit:
            return size
    return second


def _need(experiment: Experiment, data: "FoldDataModule", size: int) -> float | None:
    """Bytes in use at the most while two steps are trained with batches of a size; None where there are too few."""
    device = experiment.device
    memory.forget_peak(device)
    try:
        _train(experiment, data, size)
    except Exception as error:
        if memory.ran_out(error) not in (memory.GPU, memory.MAIN):
            raise
        say(f"trainer.batch_size=auto: a batch of {size} does not fit")
        return None
    finally:
        used = memory.peak(device)
        memory.forget_peak(device)
    say(f"trainer.batch_size=auto: a batch of {size} fits ({used / 2**30:.2f} GiB in use)")
    return used


def _train(experiment: Experiment, data: "FoldDataModule", size: int) -> None:
    """Two steps of the optimiser, as the fold makes them: augmentation, mixing, loss, precision, clipping."""
    from bonepipe.training.fit import make_trainer, stopping

    data.batch_size = size
    data.setup("fit")
    data.sampler.stretch(STEPS * size)
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(experiment.trainer, [], experiment.device, Path(folder))
        trainer.limit_val_batches = 0
        module = experiment.module(data.fold, pretrained=False)
        with stopping():
            trainer.fit(module, data.train_dataloader(), data.val_dataloader())
