"""`python -m tests.benchmarks.gpu`: what only a GPU shows, measured on one of them in about six minutes.

Everything is the pipeline's own: its data module, module, trainer, out-of-fold prediction and submission, on a phantom
that is written first, with a network that starts from scratch, so that nothing is fetched. What it says out of fold
and of test images is what it learned in a few epochs: with glow and stray spots, at three points of its training.
"""

import argparse
import gc
import itertools
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils.data import default_collate

from bonepipe import config as configs
from bonepipe.files import epoch_file, write_json
from bonepipe.inference.oof.predict import Validation, predict_fold
from bonepipe.inference.oof.predict import measure as measure_image
from bonepipe.labels import bitplane, on_device, outline
from bonepipe.parallel import cores
from bonepipe.pipeline import submission
from bonepipe.pipeline.experiment import Experiment
from bonepipe.pipeline.predictors.run import Run
from bonepipe.pipeline.run_folder import SCORES, THRESHOLDS, WEIGHTS
from bonepipe.report import markdown
from bonepipe.training.fit import train_fold
from bonepipe.training.precision import autocast, resolve

from .measure import MB, REPOSITORY, threads
from .table import duration

HEADER = ("step", "measured", "target", "met", "on")
NETWORK, WITH_LOSS, LOSS = "network forward + backward", "with loss", "loss forward + backward"


@dataclass(frozen=True)
class Row:
    """One line: texts with their units; `met` is None where there is no target."""

    step: str
    measured: str
    target: str = ""
    met: bool | None = None
    on: str = ""

    @property
    def cells(self) -> tuple[str, ...]:
        """The texts in the order of HEADER."""
        return self.step, self.measured, self.target, {None: "", True: "yes", False: "**no**"}[self.met], self.on


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
        patients, test_patients: of the phantom, two images each.
        original: side of its images in pixels; size: side that the network sees; batch: images a training step.
        large_batch: images a step at twice that size.
        epochs: of the training; validate_every: epochs between validations, so that it has some with and some without.
        repeats: of a step, whose median counts.
        budget: seconds to predict out of fold with one network; as many images as that allows, at least a batch.
        words: settings of the experiment.
        compiled: whether torch.compile is tried, which takes a minute.
        judged: whether figures are held against targets, which are set for one large GPU.
    """

    patients: int
    test_patients: int
    original: int
    size: int
    batch: int
    large_batch: int
    epochs: int
    validate_every: int
    repeats: int
    budget: float
    words: tuple[str, ...]
    compiled: bool
    judged: bool


FULL = Scale(200, 48, 2048, 512, 16, 4, 12, 3, 20, 6.0, (), compiled=True, judged=True)
SMALL_NETWORK = ("model=unet_resnet18", "model.settings.decoder_channels=[16,16,8,8,8]", "trainer.workers=0")
QUICK = Scale(5, 2, 128, 64, 2, 1, 4, 2, 2, 0.0, SMALL_NETWORK, compiled=False, judged=False)


@dataclass(frozen=True)
class Bench:
    """Where and on what to measure; the phantom is written to the folder first."""

    scale: Scale
    device: str
    folder: Path

    @property
    def root(self) -> Path:
        """The phantom."""
        return self.folder / "phantom"

    @property
    def cuda(self) -> bool:
        """Whether the device is a GPU."""
        return self.device == "cuda"

    def experiment(self, *words: str) -> Experiment:
        """The experiment at this scale, from scratch and untracked."""
        scale = self.scale
        fixed = (
            *("experiment=effunet_512", *scale.words, "model.encoder_weights=null", "tracking=none", "averaging=none"),
            *(f"data.root={self.root}", "data.name=gpu", f"folds.file={self.folder / 'folds.csv'}"),
            *(f"runs={self.folder / 'runs'}", f"device={self.device}", f"data.size={scale.size}"),
            *(f"trainer.batch_size={scale.batch}", f"trainer.epochs={scale.epochs}"),
            *(f"trainer.validate_every={scale.validate_every}", f"trainer.keep_epochs={scale.epochs}"),
        )
        return Experiment(configs.compose([*fixed, *words]))

    @cached_property
    def plain(self) -> Experiment:
        """The experiment without further settings."""
        return self.experiment()

    @cached_property
    def on(self) -> str:
        """The card, the version of torch, and the cores."""
        card = torch.cuda.get_device_name() if self.cuda else "CPU"
        return f"{card}, torch {torch.__version__}, {cores()} cores"

    @cached_property
    def batch(self) -> dict[str, torch.Tensor]:
        """The first training batch, in the host's memory."""
        data = self.plain.datamodule(0)
        data.setup("fit")
        return default_collate([data.training[draw] for draw in itertools.islice(data.sampler, self.scale.batch)])

    def device_batch(self, *, large: bool = False) -> dict[str, torch.Tensor]:
        """The first training batch on the device; or a part of it, each pixel four times."""
        batch = {key: value.to(self.device) for key, value in self.batch.items()}
        if not large:
            return batch
        first = {key: batch[key][: self.scale.large_batch] for key in ("image", "planes")}
        return {key: value.repeat_interleave(2, 1).repeat_interleave(2, 2) for key, value in first.items()}

    def module(self, experiment: Experiment | None = None) -> Any:
        """A module to train, on the device."""
        return (experiment or self.plain).module(0).to(self.device).train()

    def judge(self, row: Row, target: str, met: bool) -> Row:
        """The row with its target, where targets apply."""
        return replace(row, target=target, met=met) if self.scale.judged and self.cuda else row


Section = Callable[[Bench], Iterator[Row]]


def mark(device: str) -> Any:
    """A moment: on a GPU, when the work that was given to it so far is done; nothing waits for it."""
    if device != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def between(start: Any, end: Any) -> float:
    """Seconds from one mark to another."""
    return end - start if isinstance(start, float) else start.elapsed_time(end) / 1e3


def wait(device: str) -> None:
    """Until the device has done all that it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def median_of(call: Callable[[], Any], device: str, repeats: int) -> float:
    """Median seconds of a call on the device after a warm-up, one call on the heels of another."""
    for _ in range(min(5, repeats)):
        call()
    marks = [mark(device)]
    for _ in range(repeats):
        call()
        marks.append(mark(device))
    wait(device)
    return statistics.median(itertools.starmap(between, itertools.pairwise(marks)))


class Passes:
    """Seconds in the forward passes of networks, whoever calls them, while they are watched."""

    def __init__(self, device: str) -> None:
        self.device, self.depth = device, 0
        self.spans: list[tuple[Any, Any]] = []
        self._start: Any = None

    @contextmanager
    def watched(self) -> Iterator["Passes"]:
        """Watch every module of this process; the outermost call counts."""
        hooks = register_module_forward_pre_hook(self._enter), register_module_forward_hook(self._leave)
        try:
            yield self
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, *_: Any) -> None:
        if not self.depth:
            self._start = mark(self.device)
        self.depth += 1

    def _leave(self, *_: Any) -> None:
        self.depth -= 1
        if not self.depth:
            self.spans.append((self._start, mark(self.device)))

    @property
    def seconds(self) -> float:
        """In all passes so far."""
        wait(self.device)
        return sum(itertools.starmap(between, self.spans))


def timed(bench: Bench, call: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of the whole call by the clock on the wall, and of the forward passes in it on the device."""
    wait(bench.device)
    start = time.perf_counter()
    with Passes(bench.device).watched() as passes:
        call()
        wait(bench.device)
    return time.perf_counter() - start, passes.seconds


def prepare(bench: Bench) -> Iterator[Row]:
    """Write the phantom and build the store."""
    start, scale = time.perf_counter(), bench.scale
    # The command: processes started from here would each import torch before they draw.
    words = ("--patients", scale.patients, "--test-patients", scale.test_patients, "--size", scale.original)
    command = [sys.executable, "-m", "bonepipe", "phantom", bench.root, *words]
    subprocess.run(list(map(str, command)), cwd=REPOSITORY, check=True)
    written = time.perf_counter()
    _ = bench.plain.cohort.store
    images = f"{2 * (scale.patients + scale.test_patients)} images of {scale.original} pixels written"
    yield Row(f"phantom: {images} / store of {scale.size} built", f"{written - start:.1f} s / {seconds_since(written)}")


def seconds_since(start: float) -> str:
    """Seconds as a text."""
    return f"{time.perf_counter() - start:.1f} s"


def loss_of(module: Any, answer: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The training loss of a network's answer, targets unpacked from the batch's planes."""
    targets, parts = bitplane.counts_torch(batch["planes"], len(module.classes))
    return module.loss(answer, targets, None, parts)


def step_times(bench: Bench, module: Any, precision: Any, names: Sequence[str] = (NETWORK, WITH_LOSS, LOSS)) -> Any:
    """Median seconds of parts of a training step by their names."""
    batch = bench.device_batch()
    images = module.images(batch)

    def forward() -> torch.Tensor:
        module.zero_grad(set_to_none=True)
        with autocast(precision, bench.device):
            return module(images)

    logits = forward().detach().requires_grad_()
    ones = torch.ones_like(logits)

    def alone() -> None:
        logits.grad = None
        with autocast(precision, bench.device):
            loss = loss_of(module, logits, batch)
        loss.backward()

    def whole() -> None:
        module.zero_grad(set_to_none=True)
        with autocast(precision, bench.device):
            loss = loss_of(module, module(module.images(batch)), batch)
        loss.backward()

    calls = {NETWORK: lambda: forward().backward(ones), WITH_LOSS: whole, LOSS: alone}
    return {name: median_of(calls[name], bench.device, bench.scale.repeats) for name in names}


def step(bench: Bench, precision: Any) -> Iterator[Row]:
    """Where a training step's time goes, in one number format."""
    times, title = step_times(bench, bench.module(), precision), step_title(bench, precision)
    yield Row(f"{title}: network / with loss", f"{duration(times[NETWORK])} / {duration(times[WITH_LOSS])}")
    share = 1 - times[NETWORK] / times[WITH_LOSS]
    row = Row(f"{title}: loss alone, share of the step", f"{duration(times[LOSS])}, {share:.0%}")
    yield bench.judge(row, "at most 12% of the step", share <= 0.12)


def step_title(bench: Bench, precision: Any) -> str:
    """What a step is."""
    return f"step of {bench.scale.batch} at {bench.scale.size}, {resolve(precision, bench.device)}"


def transfer(bench: Bench) -> Iterator[Row]:
    """A batch's way to the device."""
    batch = {key: value.pin_memory() if bench.cuda else value for key, value in bench.batch.items()}
    size = sum(value.nbytes for value in batch.values())
    copy = partial(to_device, batch, bench.device)
    measured = median_of(copy, bench.device, bench.scale.repeats)
    yield Row(f"transfer of a batch, {size / MB:.1f} MiB, pinned", duration(measured))


def to_device(batch: dict[str, torch.Tensor], device: str) -> dict[str, torch.Tensor]:
    """A copy of a batch on the device."""
    return {key: value.to(device, non_blocking=True, copy=True) for key, value in batch.items()}


def memory(bench: Bench) -> Iterator[Row]:
    """Peak memory of a training step, at both sizes."""
    scale = bench.scale
    for large, images, size in ((False, scale.batch, scale.size), (True, scale.large_batch, 2 * scale.size)):
        module, batch = bench.module(), bench.device_batch(large=large)
        gc.collect()
        if bench.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        with autocast("auto", bench.device):
            loss = loss_of(module, module(module.images(batch)), batch)
        loss.backward()
        peak = f"{torch.cuda.max_memory_allocated() / MB:,.0f} MiB" if bench.cuda else "not known of a CPU"
        name = resolve("auto", bench.device)
        yield Row(f"peak memory of a step of {images} at {size}, {name}, without an optimiser's state", peak)
        del loss, module, batch


def epochs(bench: Bench) -> Iterator[Row]:
    """A short training of a fold: its epochs with and without validation, and how long the device waits for data."""
    experiment, start = bench.plain, time.perf_counter()
    folder, data, recipe = experiment.fold_folder(0), experiment.datamodule(0), experiment.augmentation
    folder.mkdir(parents=True)
    counts = [len(part) for part in data.split]
    train_fold(
        experiment.module(0),
        data,
        configs.build(experiment.config, "averaging"),
        experiment.trainer,
        device=bench.device,
        folder=folder,
        title="training",
        run=configs.build(experiment.config, "tracking").start("gpu", "fold", "fold-0", experiment.config, folder),
        facts={"classes": experiment.data.classes, "augmentations": recipe.names, "seen": recipe.shows, "fold": 0},
    )
    whole, table = time.perf_counter() - start, pd.read_csv(folder / "metrics.csv")
    yield from epoch_rows(bench, table, whole, counts)


def epoch_rows(bench: Bench, table: pd.DataFrame, whole: float, counts: Sequence[int]) -> Iterator[Row]:
    """What metrics.csv says of epochs and steps."""
    first, later = table.seconds.iloc[0], table.iloc[1:]
    validated = later["val/dice"].notna()
    with_validation, without = (float(later.seconds[which].median()) for which in (validated, ~validated))
    step = f"epoch of {counts[0]} images without / with validation of {counts[1]}, first epoch"
    ratio = with_validation / without
    measured = f"{without:.2f} s / {with_validation:.2f} s = {ratio:.2f}, first {first:.2f} s"
    yield bench.judge(Row(step, measured), "with / without at most 1.4", ratio <= 1.4)
    times = later[~validated].filter(like="time/").median()
    data_wait, compute, rest = (times[f"time/{name}_ms"] for name in ("data_wait", "forward_backward", "rest"))
    share = data_wait / (data_wait + compute + rest)
    measured = f"{data_wait:.1f} ms ({share:.0%}) / {compute:.1f} ms / {rest:.1f} ms"
    yield Row("step in a real epoch: data wait / forward + backward / rest", measured)
    dice = f"Dice {table['val/dice'].max():.3f}"
    measured = f"{whole:.1f} s, of which epochs {table.seconds.sum():.1f} s, {dice}"
    yield Row(f"{len(table)} epochs from building the network to chosen weights", measured)


def kept_epochs(experiment: Experiment) -> list[int]:
    """The epochs whose weights the training left."""
    stems = [path.stem.partition("-")[2] for path in experiment.fold_folder(0).glob(epoch_file("*"))]
    if not stems:
        raise RuntimeError("the training left no weights to predict with")
    return sorted(map(int, stems))


def out_of_fold(bench: Bench) -> Iterator[Row]:
    """Out-of-fold prediction with the network early, in the middle and at the end of its training."""
    experiment = bench.plain
    kept = kept_epochs(experiment)
    slowest = 0.0
    for epoch in sorted({kept[0], kept[len(kept) // 2], kept[-1]}):
        count, whole, forward, dice = predict_within(bench, experiment, epoch)
        slowest = max(slowest, whole / count)
        step = f"out of fold at {bench.scale.original}, {count} images after epoch {epoch}: whole / forward / rest"
        parts = " / ".join(duration(seconds / count) for seconds in (whole, forward, whole - forward))
        yield Row(step, f"{parts} an image, Dice {dice:.3f}")
    row = Row("... the slowest of them", f"{duration(slowest)} an image")
    yield bench.judge(row, "at most 15 ms an image", slowest <= 0.015)


def comparison(bench: Bench) -> Iterator[Row]:
    """An image compared at full size on the device, glow and noise all over it, and whether it equals the CPU's."""
    store, size = bench.plain.cohort.store, bench.scale.size
    shape, truth = store.shape(0), store.truth(0)
    noise = torch.rand(len(truth), size, size, generator=torch.Generator().manual_seed(0))
    planes = torch.from_numpy(store.planes[0][None].copy())
    maps = bitplane.unpack_torch(planes, len(truth))[0].mul_(0.6).add_(0.3 * noise**2)
    there = maps.to(bench.device)
    whole = median_of(lambda: on_device.measure(there, truth, shape), bench.device, bench.scale.repeats)
    dice = median_of(lambda: on_device.dice_at_half(there, truth, shape), bench.device, bench.scale.repeats)
    counts, runs = on_device.measure(there, truth, shape)
    cpu = measure_image(maps, store, 0)
    scores = outline.dice_at_half(maps.numpy(), truth, shape)
    same = (counts == cpu.counts).all() and all(map(np.array_equal, runs, cpu.runs))
    same = bool(same and (on_device.dice_at_half(there, truth, shape) == scores).all())
    step = f"comparison of an image at {bench.scale.original} on the device: out of fold / validation"
    row = Row(step, f"{duration(whole)} / {duration(dice)}, {'equal to' if same else 'other than'} the CPU's")
    yield bench.judge(row, "equal to the bit", same)


def predict_within(bench: Bench, experiment: Experiment, epoch: int) -> tuple[int, float, float, float]:
    """Predict as many validation images as the budget allows: count, whole and forward seconds, Dice."""
    settings, store = experiment.prediction, experiment.cohort.store
    folder = bench.folder / f"oof-{epoch}"
    folder.mkdir()
    predict = experiment.average([experiment.fold_model(0, epoch)])
    images = experiment.datamodule(0).split[1]
    dice: list[Any] = []

    def call(indices: Sequence[int]) -> None:
        classes = experiment.data.classes
        validation = Validation(store, indices, classes, folder, settings.batch_size, settings.ahead)
        dice[:] = [predict_fold(predict, validation)]

    call(images[:1])  # kernels are chosen
    trial, _ = timed(bench, lambda: call(images[: settings.batch_size]))
    within = int(settings.batch_size * bench.scale.budget / trial)
    chosen = images[: max(within, settings.batch_size)]
    whole, forward = timed(bench, lambda: call(chosen))
    return len(chosen), whole, forward, float(dice[0].mean())


def submit(bench: Bench) -> Iterator[Row]:
    """`submit` of the test images with two folds' weights and two views, as if the run were finished."""
    experiment = bench.experiment("prediction.folds=[0,1]")
    kept = kept_epochs(experiment)
    for fold, epoch in enumerate((kept[-1], kept[-2])):
        experiment.fold_folder(fold).mkdir(exist_ok=True)
        shutil.copy(experiment.fold_folder(0) / epoch_file(epoch), experiment.fold_folder(fold) / WEIGHTS)
    write_json(experiment.folder / THRESHOLDS, {"thresholds": dict.fromkeys(experiment.data.classes, 0.5)})
    write_json(experiment.folder / SCORES, {})
    scores: dict[str, Any] = {}
    whole, forward = timed(bench, lambda: scores.update(submission.submit(Run(experiment))))
    count, views = 2 * bench.scale.test_patients, len(experiment.views)
    step = f"submit of {count} images at {bench.scale.size}, 2 folds x {views} views: whole / forward passes"
    row = Row(
        step,
        f"{whole:.2f} s / {forward:.2f} s = {whole / forward:.2f}, "
        f"{duration(whole / count)} an image, Dice {scores['test_dice']:.3f}",
    )
    yield bench.judge(row, "at most 1.15", whole / forward <= 1.15)


def host_rates(bench: Bench) -> Iterator[Row]:
    """How fast the maps of a batch come back: as floats and as bytes, into ordinary and into pinned memory."""
    shape = (bench.scale.batch, len(bench.plain.data.classes), bench.scale.size, bench.scale.size)
    for name, dtype in (("float32", torch.float32), ("bytes", torch.uint8)):
        maps = torch.zeros(shape, dtype=dtype, device=bench.device)
        pinned = torch.empty(shape, dtype=dtype, pin_memory=bench.cuda)
        ways = {
            "pageable, allocated anew": lambda maps=maps: maps.to("cpu", copy=True),
            "pinned, kept": lambda maps=maps, pinned=pinned: pinned.copy_(maps, non_blocking=True),
        }
        for way, call in ways.items():
            seconds = median_of(call, bench.device, min(5, bench.scale.repeats))
            rate = f"{duration(seconds)}, {maps.nbytes / seconds / 1e9:.1f} GB/s"
            yield Row(f"{maps.nbytes / MB:,.0f} MiB of maps to the host as {name}, {way}", rate)


def compiled(bench: Bench) -> Iterator[Row]:
    """The network through torch.compile."""
    module, start = bench.module(bench.experiment("trainer.compile=true")), time.perf_counter()
    batch = bench.device_batch()
    with autocast("auto", bench.device):
        loss = loss_of(module, module(module.images(batch)), batch)
    loss.backward()
    wait(bench.device)
    first = seconds_since(start)
    times = step_times(bench, module, "auto", (NETWORK, WITH_LOSS))
    step = f"{step_title(bench, 'auto')}, torch.compile: network / with loss, first step"
    yield Row(step, f"{duration(times[NETWORK])} / {duration(times[WITH_LOSS])}, first {first}")


def sections(bench: Bench) -> dict[str, Section]:
    """What is measured, in this order: what may fail or take long comes late."""
    formats = ("bf16", "fp16") if bench.cuda else ("32",)
    chosen: dict[str, Section] = {
        "phantom": prepare,
        **{f"step {name}": partial(step, precision=name) for name in formats},
        "transfer": transfer,
        "memory": memory,
        "comparison": comparison,
        "host rates": host_rates,
        "epochs": epochs,
        "out of fold": out_of_fold,
        "submit": submit,
    }
    return {**chosen, "compile": compiled} if bench.scale.compiled else chosen


def measure(bench: Bench, chosen: dict[str, Section], keep: Callable[[Sequence[Row]], None]) -> tuple[list[Row], bool]:
    """Measure one after another, each row on the screen at once; a fault becomes a row. Returns rows, and if all went.

    Args:
        keep: is handed the rows so far after each section, in case the next ends the process.
    """
    rows: list[Row] = []
    whole = True
    for name, section in chosen.items():
        start = time.perf_counter()
        try:
            for row in section(bench):
                rows.append(replace(row, on=bench.on))
                print("  ".join(cell for cell in rows[-1].cells if cell), flush=True)
        except Exception as error:
            whole = False
            traceback.print_exc()
            rows.append(Row(name, f"failed: {' '.join(str(error).split())[:200]!r}", on=bench.on))
            print(f"{name}: FAILED: {error!r}", flush=True)
        print(f"({name}: {seconds_since(start)})", flush=True)
        keep(rows)
    return rows, whole


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser("python -m tests.benchmarks.gpu", description=__doc__.splitlines()[0])
    result.add_argument("--quick", action="store_true", help="tiny sizes and a small network, to see that it runs")
    result.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="where to measure (%(default)s)")
    result.add_argument("--document", type=Path, help="write the table into this document too, docs/benchmarks.md say")
    return result


def main(words: Sequence[str] | None = None) -> int:
    """Measure and print; exit code 1 where something failed, missed targets are only marked."""
    flags, start = parser().parse_args(words), time.perf_counter()
    if flags.device == "cuda" and not torch.cuda.is_available():
        print("no GPU that torch can use here; --device cpu --quick shows that the script runs", file=sys.stderr)
        return 2

    def keep(rows: Sequence[Row]) -> None:
        if flags.document:
            markdown.replace_block(flags.document, "gpu", text(rows), "Benchmarks")

    def text(rows: Sequence[Row]) -> str:
        return f"{markdown.table(HEADER, [row.cells for row in rows])}\n\n{len(rows)} rows in {seconds_since(start)}."

    # On a CPU nothing is compared, and threads that wait for each other take longest on a busy machine.
    limit = threads(1) if flags.quick else nullcontext()
    with limit, tempfile.TemporaryDirectory(prefix="bonepipe-gpu-") as folder:
        bench = Bench(QUICK if flags.quick else FULL, flags.device, Path(folder))
        rows, whole = measure(bench, sections(bench), keep)
    print(f"\n{text(rows)}")
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
