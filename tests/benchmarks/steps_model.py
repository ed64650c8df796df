"""Steps around a network: the ensemble, `submit`, a training step."""

import copy
import itertools
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.nn import functional

from bonepipe import config as configs
from bonepipe.data.datamodule import FoldDataModule
from bonepipe.inference.fold_model import FoldModel, mean_probabilities
from bonepipe.inference.predict import PredictionSpec, encode, predictions
from bonepipe.labels import bitplane
from bonepipe.parallel import cores
from bonepipe.pipeline.experiment import Experiment
from bonepipe.training.callbacks import SaveLast
from bonepipe.training.fit import TrainerSpec, make_trainer, save_weights
from bonepipe.training.module import normalise

from . import baseline
from .material import Material, replicate
from .measure import MB, Child, Pair, run_child, seconds, threads
from .standin import Clock, StandIn, write_table
from .steps_files import mean_dice
from .steps_labels import encode_image
from .table import Row, duration, faster

MEMBERS, VIEWS = 5, 2
FAIR = 12  # test images from which on the building of five networks no longer decides the ratio
SUBMIT = "tests.benchmarks.standin:submit"


def stand_in(material: Material, size: int) -> StandIn:
    """The demo's network, untrained, that answers with prepared maps."""
    arguments = {key: value for key, value in material.config()["model"].items() if key != "_target_"}
    return StandIn(len(material.spec(size).classes), table=str(write_table(material, size)), **arguments)


def members_of(material: Material, size: int, count: int = MEMBERS) -> list[FoldModel]:
    """An ensemble of them."""
    models = [stand_in(material, size).eval().to(memory_format=torch.channels_last) for _ in range(count)]
    return [FoldModel(Path("none"), model, {"HorizontalFlip": []}) for model in models]


def run_ensemble(material: Material, size: int, images: int, members: list[FoldModel]) -> list[list[str]]:
    """Texts of some test images, five members and two views."""
    spec = material.spec(size)
    views = configs.build(material.config("tta=flip"), "tta", spec)
    predict = partial(mean_probabilities, members, views, mean=spec.mean, std=spec.std)
    chosen = list(itertools.islice(itertools.cycle(material.unseen), images))
    settings, limits = PredictionSpec(), [[0.5] * len(spec.classes)] * images
    masks = encode(predictions([(spec.frame, predict)], chosen, settings), limits, ahead=settings.ahead)
    return [texts for _, texts in masks]


def check_ensemble(material: Material, size: int, members: list[FoldModel], texts: list[str]) -> str:
    """The first image's texts against those of one plain view, whose logits all members and views share."""
    answer = members[0].model.answers[0][None].float()  # type: ignore[union-attr, index]
    logits = functional.interpolate(answer, (size, size), mode="bilinear")
    similar = mean_dice(texts, encode_image(logits, (material.size, material.size)))
    assert similar > 0.999, similar
    return f"Dice {similar:.5f} to the masks of one plain view, whose logits all members share"


def ensemble(material: Material, images: int, size: int = 512) -> list[Row]:
    """Whole time against the time in forward passes; what lies outside them against the baseline's way."""
    members = members_of(material, size)
    texts: list[list[str]] = []
    with threads(cores()):
        run_ensemble(material, size, 1, members[:1])
        Clock.forward = Clock.aside = 0.0
        whole = seconds(lambda: texts.extend(run_ensemble(material, size, images, members))) - Clock.aside
        forward = Clock.forward
        answer = members[0].model.answers[:1].float()  # type: ignore[union-attr, index]
        logits = [functional.interpolate(answer, (size, size), mode="bilinear")] * (MEMBERS * VIEWS)
        theirs = seconds(lambda: baseline.soft_vote(logits, material.size))
    ratio, outside = whole / forward, (whole - forward) / images
    step = f"ensemble of {MEMBERS} members x {VIEWS} views, {images} images, {cores()} threads"
    return [
        Row(
            f"{step}: whole time / forward passes",
            ours=f"{duration(whole / images)} / {duration(forward / images)} an image",
            ratio=f"{ratio:.3f}",
            target="at most 1.15",
            met=ratio <= 1.15,
            checked="forward passes (U-Net on ResNet-18, 512) timed inside the network; the rest is everything else",
        ),
        faster(
            "... an image, outside the forward passes",
            Pair(theirs, outside, theirs / outside),
            None,
            check_ensemble(material, size, members, texts[0]),
        ),
    ]


def prepare_run(material: Material, size: int, images: int, tta: str, folds: Sequence[int]) -> list[str]:
    """An experiment as if trained, ready for `submit`; returns the stand-in's table and the command's words."""
    name = f"submit-{material.size}-{size}-{images}-{tta}-{len(folds)}"
    words = [
        *(
            "experiment=demo",
            "data.name=bench",
            f"data.root={replicate(material, 'test', images)}",
            f"data.size={size}",
        ),
        *("tracking=none", "device=cpu", f"runs={material.folder}", f"name={name}", f"tta={tta}"),
        f"prediction.folds={list(folds)}",
    ]
    folder, classes = material.folder / name, material.spec(size).classes
    for fold in folds:
        (folder / f"fold-{fold}").mkdir(parents=True, exist_ok=True)
        facts = {"classes": classes, "augmentations": ["HorizontalFlip", "VerticalFlip", "Affine"]}
        save_weights(stand_in(material, size), folder / f"fold-{fold}" / "weights.safetensors", facts)
    (folder / "thresholds.json").write_text(json.dumps({"thresholds": dict.fromkeys(classes, 0.5)}))
    (folder / "scores.json").write_text("{}")
    return [str(write_table(material, size)), *words]


def submit(material: Material, counts: Sequence[int], large: int) -> list[Row]:
    """Peak memory and time as the test set grows, and the peak with all members and views."""
    size = 512
    base = run_child("tests.benchmarks.child:imports", thread_count=cores()).peak
    children = [run_child(SUBMIT, *prepare_run(material, size, n, "none", [0]), thread_count=cores()) for n in counts]
    rows = [_grown(material, count, child, children[0]) for count, child in zip(counts, children, strict=True)]
    share = children[-1].peak / children[0].peak
    rows[-1] = replace(rows[-1], target="memory within 5%", met=share <= 1.05)
    whole = run_child(SUBMIT, *prepare_run(material, size, large, "flip", range(MEMBERS)), thread_count=cores())
    over = (whole.peak - base) / MB
    rows.append(
        Row(
            f"submit, {large} images, {MEMBERS} members x {VIEWS} views: peak over the imports",
            ours=f"{over:,.0f} MB ({whole.peak / MB:,.0f} MB less {base / MB:,.0f} MB)",
            target="at most 1,536 MB",
            met=over <= 1536,
            checked=f"Dice {score_of(material, large, 'flip', MEMBERS):.4f} to the truth",
        )
    )
    for weights in material.folder.glob(f"submit-{material.size}-*/fold-*/weights.safetensors"):
        weights.unlink()
    return rows


def crowd(material: Material, images: int, size: int = 512) -> list[Row]:
    """`submit` with all members and twelve views: its time against the forward passes, and its peak."""
    base = run_child("tests.benchmarks.child:imports", thread_count=cores()).peak
    words = prepare_run(material, size, images, "twelve", range(MEMBERS))
    child = run_child(f"{SUBMIT}_timed", *words, thread_count=cores())
    whole, forward = child.result["whole"], child.result["forward"]
    folder = material.folder / f"submit-{material.size}-{size}-{images}-twelve-{MEMBERS}"
    for weights in folder.glob("fold-*/weights.safetensors"):
        weights.unlink()
    ratio, over = whole / forward, (child.peak - base) / MB
    step = f"submit, {images} images at {size}, {MEMBERS} members x 12 views, {cores()} threads"
    return [
        Row(
            f"{step}: whole time / forward passes",
            ours=f"{duration(whole / images)} / {duration(forward / images)} an image",
            ratio=f"{ratio:.3f}",
            target="at most 1.15" if images >= FAIR else "",
            met=ratio <= 1.15 if images >= FAIR else None,
            checked=f"Dice {dice_in(folder):.4f} to the truth",
        ),
        Row(
            "... peak over the imports",
            ours=f"{over:,.0f} MB ({child.peak / MB:,.0f} MB less {base / MB:,.0f} MB)",
            target="at most 1,536 MB",
            met=over <= 1536,
        ),
    ]


def _grown(material: Material, count: int, child: Child, first: Child) -> Row:
    return Row(
        f"submit, {count} images of {material.size}, one member, {cores()} threads",
        ours=f"{child.peak / MB:,.0f} MB, {duration(child.seconds)}",
        ratio=f"{child.peak / first.peak:.3f}x memory, {child.seconds / first.seconds:.2f}x time",
        checked=f"Dice {score_of(material, count, 'none', 1):.4f} to the truth",
    )


def score_of(material: Material, images: int, tta: str, folds: int) -> float:
    """The test Dice that a finished `submit` wrote."""
    return dice_in(material.folder / f"submit-{material.size}-512-{images}-{tta}-{folds}")


def dice_in(folder: Path) -> float:
    """The test Dice in a run's folder."""
    return float(json.loads((folder / "scores.json").read_text())["test_dice"])


class Steps(pl.Callback):
    """The time at the end of every training batch, and the losses."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: Any) -> None:
        """Look at the clock."""
        self.losses.append(float(outputs["loss"]))
        self.times.append(time.perf_counter())

    @property
    def seconds(self) -> list[float]:
        """From the end of a batch to the end of the next."""
        return [b - a for a, b in itertools.pairwise(self.times)]


def parts(material: Material, size: int, batch_size: int, steps: int) -> tuple[Any, FoldDataModule]:
    """A module and its data: the demo's settings on the phantom's images, repeated for as many steps."""
    words = [f"data.size={size}", f"trainer.batch_size={batch_size}", "trainer.workers=0", "seed=0", "folds.count=2"]
    experiment = Experiment(material.config(*words, f"folds.file={material.folder / 'folds.csv'}"))
    module, data = experiment.module(0), experiment.datamodule(0)
    data.setup("fit")
    data.sampler.stretch(steps * batch_size)
    return module, data


def lightning_steps(module: Any, data: FoldDataModule, folder: Path) -> Steps:
    """Train an epoch with the pipeline's own trainer."""
    steps = Steps()
    spec = TrainerSpec(epochs=1, batch_size=data.batch_size, workers=0, precision="32")
    callbacks = [steps, SaveLast(folder / "last.ckpt")]  # without one, Lightning adds its own
    trainer = make_trainer(spec, callbacks, "cpu", folder)
    trainer.fit(module, data.train_dataloader())
    return steps


def bare_steps(module: Any, data: FoldDataModule) -> Steps:
    """The same epoch in a loop of plain torch."""
    model, loss_of = module.model.train(), module.loss
    optimizer = configs.build(module.hparams, "optimizer", model)
    scheduler = configs.build(module.hparams, "scheduler", optimizer, len(data.train_dataloader()), None)
    steps = Steps()
    for batch in data.train_dataloader():
        images = normalise(batch["image"], module.mean, module.std).contiguous(memory_format=torch.channels_last)
        targets, parts = bitplane.counts_torch(batch["planes"], len(module.classes))
        optimizer.zero_grad()
        loss = loss_of(model(images), targets, None, parts)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        steps.losses.append(loss.item())
        steps.times.append(time.perf_counter())
    return steps


def train_both(material: Material, size: int, batch_size: int, steps: int) -> tuple[Steps, Steps]:
    """The bare loop and Lightning, from the same weights and with the same batches."""
    module, data = parts(material, size, batch_size, steps)
    twin = copy.deepcopy(module)
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    bare = bare_steps(twin, data)
    whole = lightning_steps(module, data, material.folder)  # asks for deterministic algorithms
    torch.use_deterministic_algorithms(before[0], warn_only=before[1])
    return bare, whole


def loss_gap(bare: Steps, whole: Steps) -> float:
    """The largest relative difference of the losses."""
    return max(abs(a - b) / abs(a) for a, b in zip(bare.losses, whole.losses, strict=True))


def training_step(material: Material, turns: int, steps: int, size: int = 160, batch_size: int = 4) -> list[Row]:
    """The demo's training step, in Lightning and without it."""
    with threads(cores()):
        results = [train_both(material, size, batch_size, steps) for _ in range(turns)]
    bare, whole = (statistics.median(_middle(one[which]) for one in results) for which in (0, 1))
    ratio = statistics.median(_middle(b) / _middle(a) for a, b in results)
    gap = max(loss_gap(*result) for result in results)
    assert gap < 0.05, gap
    step = f"training step, batch {batch_size} at {size}, {cores()} threads: Lightning / bare loop"
    note = f"losses of {steps} steps differ by at most {gap:.1e} of their value; both load their batches themselves"
    return [Row(step, duration(bare), duration(whole), f"{ratio:.3f}", "at most 1.05", ratio <= 1.05, note)]


class Halves(pl.Callback):
    """When an epoch's training begins and ends, and when its validation does, statistics computed anew included."""

    def __init__(self) -> None:
        self.start = self.trained = self.validated = 0.0

    def on_train_epoch_start(self, *_: Any) -> None:
        """Look at the clock."""
        self.start = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        """Look at the clock."""
        self.trained = time.perf_counter()

    def on_validation_end(self, *_: Any) -> None:
        """Look at the clock."""
        self.validated = time.perf_counter()


def train_epoch(material: Material, images: int, size: int, batch_size: int = 4) -> Halves:
    """An epoch of four fifths of the images and its validation on the others at their original size."""
    words = (
        *(f"data.root={replicate(material, 'train', images)}", f"data.size={size}", "folds.count=5", "seed=0"),
        *("model.settings.decoder_channels=[16,16,8,8,8]", f"folds.file={material.folder / f'folds-{images}.csv'}"),
        *(f"trainer.batch_size={batch_size}", "trainer.workers=0"),
    )
    experiment, halves = Experiment(material.config(*words)), Halves()
    module, data = experiment.module(0), experiment.datamodule(0)
    spec = TrainerSpec(epochs=1, batch_size=batch_size, workers=0)
    trainer = make_trainer(spec, [halves, SaveLast(material.folder / "epoch.ckpt")], "cpu", material.folder)
    trainer.fit(module, datamodule=data)
    return halves


def epoch(material: Material, images: int, size: int = 512) -> list[Row]:
    """An epoch with validation against one without."""
    with threads(cores()):
        halves = train_epoch(material, images, size)
    alone, whole = halves.trained - halves.start, halves.validated - halves.start
    step = (
        f"epoch of {images * 4 // 5} images at {size}, small network, {cores()} threads: with validation of a quarter"
    )
    note = f"compared at {material.size}; BatchNorm's statistics computed anew before it"
    both = f"{duration(whole)} / {duration(alone)} without"
    return [Row(step, "", both, f"{whole / alone:.3f}", "at most 1.5", whole / alone <= 1.5, note)]


def _middle(steps: Steps) -> float:
    return statistics.median(steps.seconds[1:])
