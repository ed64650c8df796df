"""From logits at model resolution to Dice, histograms, runs and thresholds."""

from pathlib import Path

import numpy as np
import torch

from bonepipe.data.store import Store
from bonepipe.inference import thresholds
from bonepipe.inference.crossfit import Split
from bonepipe.inference.oof import results
from bonepipe.labels import cutout, rle, upsample
from bonepipe.labels.cutout import Cutout
from bonepipe.labels.histogram import THRESHOLDS, dice_curve
from bonepipe.labels.histogram import histogram as full_histogram

from . import baseline
from .material import Material, blurred_logits
from .measure import alternate, median_seconds, seconds
from .table import Row, duration, faster

FOLDS = 5
HALF = 0.5


def logits_of(material: Material, index: int, size: int = 512) -> torch.Tensor:
    """Logits float32 `[1, C, size, size]` of a training image."""
    return torch.from_numpy(blurred_logits(material.train_masks(index), size, index))[None]


def score_image(logits: torch.Tensor, store: Store, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Dice `[C]` at 0.5 and histograms `[C, 2, 256]` of an image, at its original size."""
    maps, shape, truth = logits[0].sigmoid().numpy(), store.shape(index), store.truth(index)
    masks = upsample.cutouts(maps, [HALF] * len(truth), shape)
    counts = [upsample.histogram(map_, true, shape) for map_, true in zip(maps, truth, strict=True)]
    return upsample.dice_scores(masks, truth), np.stack(counts)


def encode_image(logits: torch.Tensor, shape: tuple[int, int]) -> list[str]:
    """Texts of an image's masks, box by box."""
    maps = logits[0].sigmoid().numpy()
    return [_text(mask, shape) for mask in upsample.cutouts(maps, [HALF] * len(maps), shape)]


def _text(mask: Cutout, shape: tuple[int, int]) -> str:
    return rle.format_runs(cutout.runs(mask, shape[1]))


def check_validation(material: Material, index: int, size: int = 512, classes: int = 29) -> str:
    """Dice and histograms of the first classes equal those of the full frame; how far the baseline's Dice is."""
    store, logits, true = material.store(32), logits_of(material, index, size), material.train_masks(index)
    dice, counts = score_image(logits, store, index)
    for number, (map_, mask) in enumerate(zip(logits[0, :classes].sigmoid().numpy(), true, strict=False)):
        full = upsample.upsample(map_, mask.shape)
        np.testing.assert_array_equal(counts[number], full_histogram(full, mask))
        np.testing.assert_allclose(dice[number], baseline.sweep_thresholds(full, mask, [HALF])[0], rtol=1e-12)
    theirs = baseline.validate(logits, torch.from_numpy(true)[None].float())[0].numpy()
    gap = float(np.abs(theirs - dice).max())
    assert gap < 10 / size, gap  # the edge moves by a part of a low-resolution pixel
    return (
        f"Dice and histograms of {classes} classes equal those of the full frame; the baseline interpolates before the "
        f"sigmoid, which moves the Dice of a class by at most {gap:.4f}"
    )


def validation(material: Material, repeats: int, classes: int = 29) -> list[Row]:
    """Dice of all classes at full size; ours makes the histograms too."""
    store, logits = material.store(32), logits_of(material, 0)
    masks = torch.from_numpy(material.train_masks(0))[None].float()
    pair = alternate(lambda: baseline.validate(logits, masks), lambda: score_image(logits, store, 0), repeats, calls=3)
    checked = check_validation(material, 0, classes=classes)
    return [faster(f"validation of an image after the forward pass, 512 -> {material.size}", pair, 25, checked)]


def check_encoding(material: Material, index: int, size: int = 512) -> str:
    """Texts equal those of the full frame, encoded by the baseline's encoder."""
    logits, shape = logits_of(material, index, size), material.store(32).shape(index)
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
    """Logits -> 29 texts."""
    logits, shape = logits_of(material, 0), material.store(32).shape(0)
    pair = alternate(lambda: baseline.predict(logits, shape[0]), lambda: encode_image(logits, shape), repeats, calls=3)
    checked = check_encoding(material, 0)
    return [faster(f"logits 29 x 512 x 512 -> 29 texts at {material.size}", pair, 25, checked)]


def check_thresholds(material: Material, index: int, size: int, classes: int, every: int = 1) -> tuple[str, float]:
    """Curves from histograms equal brute force on the same probabilities, and so do the thresholds chosen from them.

    Returns:
        What was compared, and the seconds that brute force takes for a class at one threshold.
    """
    store, logits, true = material.store(32), logits_of(material, index, size), material.train_masks(index)
    maps, steps = logits[0].sigmoid().numpy(), THRESHOLDS[::every]
    elapsed = 0.0
    for number in range(classes):
        full = upsample.upsample(maps[number], true[number].shape)
        counts = upsample.histogram(maps[number], store.truth(index)[number], true[number].shape)
        brute: list[np.ndarray] = []
        elapsed += seconds(lambda full=full, number=number, brute=brute: brute.append(
            baseline.sweep_thresholds(full, true[number], steps)))  # fmt: skip
        curve = dice_curve(counts)[::every]
        np.testing.assert_allclose(curve, brute[0], rtol=1e-12)
        assert curve[1:].argmax() == brute[0][1:].argmax()
    what = f"Dice and best threshold of {classes} classes at {len(steps)} thresholds equal brute force on full frames"
    return what, elapsed / classes / len(steps)


def make_histograms(material: Material, images: int) -> Path:
    """Histograms of five folds with `images` images in all, in the folds' own files: a few real ones, varied."""
    folder = material.folder / f"histograms-{images}"
    if folder.is_dir():
        return folder
    store, classes = material.store(32), material.spec(512).classes
    real = [score_image(logits_of(material, index), store, index)[1] for index in range(len(material.train))]
    rng, part = np.random.default_rng(0), folder.with_name(f"{folder.name}.part")
    for fold in range(FOLDS):
        numbers = range(fold, images, FOLDS)
        counts = np.stack([rng.poisson(real[number % len(real)]) for number in numbers])
        (part / f"fold-{fold}").mkdir(parents=True)
        results._write_histograms(
            part / f"fold-{fold}" / "histograms.npz", [f"{number}.png" for number in numbers], classes, counts
        )
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
    brute = one * 256 * len(classes) * images
    step = f"thresholds for {images} images x {len(classes)} classes, with reading the files"
    ratio = f"{brute / elapsed:,.0f}x"
    note = f"{checked}; the baseline's time is extrapolated from these"
    return [Row(step, duration(brute), duration(elapsed), ratio, "under 2 s", elapsed < 2, note)]
