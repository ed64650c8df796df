"""From logits at model resolution to Dice, histograms, runs and thresholds."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from bonepipe.data.batches import Truth
from bonepipe.data.frame import Frame
from bonepipe.data.store import Store
from bonepipe.inference import thresholds
from bonepipe.inference.crossfit import Split
from bonepipe.inference.oof import results
from bonepipe.inference.oof.predict import _digest, compare_with_truth
from bonepipe.labels import cutout, outline, rle, upsample
from bonepipe.labels.cutout import Cutout
from bonepipe.labels.histogram import CHOOSABLE, THRESHOLDS, dice_curve, floored
from bonepipe.labels.histogram import histogram as full_histogram
from bonepipe.parallel import cores, overlapped
from bonepipe.training.module import validated

from . import baseline, before
from .learned import POINTS, logits_of, slowest
from .material import Material
from .measure import Pair, alternate, median_seconds, seconds
from .table import Row, duration, faster

BEFORE = "baseline: boxes, histograms of all bins"  # see the module `before`
FOLDS = 5
HALF = 0.5


def compared(logits: torch.Tensor, store: Store, index: int) -> results.Compared:
    """What is kept of an image, at its original size."""
    return compare_with_truth(logits[0].sigmoid().numpy(), store, index)


def encode_image(logits: torch.Tensor, shape: tuple[int, int]) -> list[str]:
    """Texts of an image's masks, box by box."""
    maps = logits[0].sigmoid().numpy()
    return [_text(mask, shape) for mask in upsample.cutouts(maps, [HALF] * len(maps), shape)]


def _text(mask: Cutout, shape: tuple[int, int]) -> str:
    return rle.format_runs(cutout.runs(mask, shape[1]))


def check_comparison(
    material: Material, index: int, size: int = 512, classes: int = 29, points: Sequence[str] = POINTS
) -> str:
    """Dice, histograms, texts and bytes equal those of the full frame; how far the baseline's Dice is."""
    store, true = material.store(32), material.train_masks(index)
    shape, gap = store.shape(index), 0.0
    for point in points:
        logits = logits_of(material, index, size, point)
        maps = logits[0].sigmoid()
        compared, packed, _ = _digest(maps, store, index)
        texts, dice, counts, bytes_before = before.digest(maps.numpy(), store, index)
        for number, (map_, mask) in enumerate(zip(maps[:classes].numpy(), true, strict=False)):
            full = before.upsample(map_, shape)
            np.testing.assert_array_equal(compared.counts[number], floored(full_histogram(full, mask)))
            np.testing.assert_allclose(dice[number], baseline.sweep_thresholds(full, mask, [HALF])[0], rtol=1e-12)
            assert compared.runs[number] == baseline.encode(full >= np.float32(HALF))
        np.testing.assert_array_equal(compared.counts, floored(counts))
        np.testing.assert_array_equal(compared.dice, dice)
        np.testing.assert_array_equal(outline.dice_at_half(maps.numpy(), store.truth(index), shape), dice)
        assert compared.runs == texts
        assert packed[1] == bytes_before[1]
        theirs = baseline.validate(logits, torch.from_numpy(true)[None].float())[0].numpy()
        gap = max(gap, float(np.abs(theirs - dice).max()))
    return (
        f"Dice, histograms and texts of {classes} classes equal those of the full frame at {len(points)} points of a "
        f"training; the baseline interpolates before the sigmoid, which moves the Dice of a class by at most {gap:.4f}"
    )


def out_of_fold(material: Material, repeats: int, classes: int = 29) -> list[Row]:
    """All that is kept of an image predicted out of fold, against the way before; the slowest of three models."""
    store = material.store(32)

    def measure(point: str) -> Pair:
        maps = logits_of(material, 0, point=point)[0].sigmoid()
        theirs, ours = partial(before.digest, maps.numpy(), store, 0), partial(_digest, maps, store, 0)
        return alternate(theirs, ours, repeats, 3, time.process_time)

    point, pair, all_points = slowest(measure)
    step = f"out of fold, an image after the forward pass, 512 -> {material.size}, {point} model, CPU time; {BEFORE}"
    row = faster(step, pair, 20, check_comparison(material, 0, classes=classes))
    met = bool(row.met) and pair.ours <= 0.15
    return [replace(row, target="at least 20x, at most 150 ms", met=met, ours=f"{row.ours} ({all_points})")]


def validation(material: Material, repeats: int, images: int = 160) -> list[Row]:
    """Dice of all classes at full size; the slowest of three models, and what a second core gains."""
    store = material.store(32)
    truth, shape, frame = store.truth(0), store.shape(0), Frame((512, 512))
    masks = torch.from_numpy(material.train_masks(0))[None].float()

    def all_images(point: str, workers: int) -> Callable[[], list[np.ndarray]]:
        pairs = [(logits_of(material, 0, point=point)[0].sigmoid(), Truth(shape, truth, frame))] * images
        return lambda: list(overlapped(validated, pairs, images, workers))

    def measure(point: str) -> Pair:
        logits = logits_of(material, 0, point=point)
        ours = partial(validated, (logits[0].sigmoid(), Truth(shape, truth, frame)))
        return alternate(lambda: baseline.validate(logits, masks), ours, repeats, 3, time.process_time)

    point, pair, all_points = slowest(measure)
    step = f"validation of an image after the forward pass, 512 -> {material.size}, {point} model, CPU time"
    row = faster(step, pair, 25, "Dice equals that of the row above")
    met = bool(row.met) and pair.ours <= 0.06
    first = replace(row, target="at least 25x, at most 60 ms", met=met, ours=f"{row.ours} ({all_points})")
    if cores() < 2:
        return [first]
    two = alternate(all_images(point, 1), all_images(point, 2), 2 * repeats + 1)
    return [first, faster(f"... {images} of them, on one core / on two", two, 1.7, "")]


def check_encoding(material: Material, index: int, size: int = 512, point: str = "trained") -> str:
    """Texts equal those of the full frame, encoded by the baseline's encoder."""
    logits, shape = logits_of(material, index, size, point), material.store(32).shape(index)
    full = [upsample.upsample(map_, shape) >= np.float32(HALF) for map_ in logits[0].sigmoid().numpy()]
    expected = [baseline.encode(mask) for mask in full]
    assert encode_image(logits, shape) == expected
    theirs = baseline.predict(logits, shape[0])
    same = np.mean([rle.dice(a, b) for a, b in zip(theirs, expected, strict=True)])
    return (
        f"texts equal the full frame's, written by the baseline's encoder; Dice to the baseline's own masks {same:.4f} "
        "(it interpolates before the sigmoid)"
    )


def encoding(material: Material, repeats: int) -> list[Row]:
    """Logits -> 29 texts; the slowest of three models."""
    shape = material.store(32).shape(0)

    def measure(point: str) -> Pair:
        logits = logits_of(material, 0, point=point)
        theirs, ours = partial(baseline.predict, logits, shape[0]), partial(encode_image, logits, shape)
        return alternate(theirs, ours, repeats, calls=3)

    point, pair, _ = slowest(measure)
    checked = check_encoding(material, 0, point=point)
    return [faster(f"logits 29 x 512 x 512 -> 29 texts at {material.size}, {point} model", pair, 25, checked)]


def check_thresholds(material: Material, index: int, size: int, classes: int, every: int = 1) -> tuple[str, float]:
    """Curves from histograms equal brute force on the same probabilities, and so do the thresholds chosen from them.

    Returns:
        What was compared, and the seconds that brute force takes for a class at one threshold.
    """
    store, logits, true = material.store(32), logits_of(material, index, size), material.train_masks(index)
    maps, steps = logits[0].sigmoid().numpy(), THRESHOLDS[CHOOSABLE][::every]
    elapsed = 0.0
    for number in range(classes):
        full = upsample.upsample(maps[number], true[number].shape)
        counts = upsample.histogram(maps[number], store.truth(index)[number], true[number].shape)
        brute: list[np.ndarray] = []
        elapsed += seconds(lambda full=full, number=number, brute=brute: brute.append(
            baseline.sweep_thresholds(full, true[number], steps)))  # fmt: skip
        curve = dice_curve(counts)[CHOOSABLE][::every]
        np.testing.assert_allclose(curve, brute[0], rtol=1e-12)
        assert curve.argmax() == brute[0].argmax()
    what = f"Dice and best threshold of {classes} classes at {len(steps)} thresholds equal brute force on full frames"
    return what, elapsed / classes / len(steps)


def make_histograms(material: Material, images: int) -> Path:
    """Histograms of five folds with `images` images in all, in the folds' own files: a few real ones, varied."""
    folder = material.folder / f"histograms-{images}"
    if folder.is_dir():
        return folder
    store, classes = material.store(32), material.spec(512).classes
    real = [compared(logits_of(material, index), store, index) for index in range(len(material.train))]
    rng, part = np.random.default_rng(0), folder.with_name(f"{folder.name}.part")
    for fold in range(FOLDS):
        (part / f"fold-{fold}").mkdir(parents=True)
        numbers = range(fold, images, FOLDS)
        copied = [real[number % len(real)] for number in numbers]
        varied = [image._replace(counts=rng.poisson(image.counts)) for image in copied]
        results.write_results(part / f"fold-{fold}", [f"{number}.png" for number in numbers], classes, varied)
    part.rename(folder)
    return folder


def choose_thresholds(folder: Path, classes: tuple[str, ...]) -> thresholds.ThresholdChoice:
    """Read the folds' files and choose, as `train-all` does."""
    curves = [results.read_curves(folder / f"fold-{fold}" / "histograms.npz", classes)[1] for fold in range(FOLDS)]
    folds = np.repeat(np.arange(FOLDS), [len(curve) for curve in curves])
    split = Split(folds, np.arange(len(folds)) // 2)
    return thresholds.choose_thresholds(np.concatenate(curves), split, 2.0)


def threshold_choice(material: Material, repeats: int, images: int = 800) -> list[Row]:
    """Thresholds from the folds' files; brute force measured on a few classes and extrapolated."""
    folder, classes = make_histograms(material, images), material.spec(512).classes
    elapsed = median_seconds(lambda: choose_thresholds(folder, classes), repeats)
    checked, one = check_thresholds(material, 0, 512, classes=3, every=1 if repeats > 3 else 16)
    brute = one * len(THRESHOLDS[CHOOSABLE]) * len(classes) * images
    step = f"thresholds for {images} images x {len(classes)} classes, with reading the files"
    ratio = f"{brute / elapsed:,.0f}x"
    note = f"{checked}; the baseline's time is extrapolated from these"
    return [Row(step, duration(brute), duration(elapsed), ratio, "under 2 s", elapsed < 2, note)]
