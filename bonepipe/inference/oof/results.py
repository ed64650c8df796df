"""The files of out-of-fold predictions: masks, histograms and Dice of each image."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bonepipe.data import submission
from bonepipe.data.store import Store
from bonepipe.errors import BonepipeError
from bonepipe.files import replacing, write_csv
from bonepipe.inference.crossfit import Split
from bonepipe.inference.oof import byte_maps
from bonepipe.labels import cutout, histogram, rle

MASKS, HISTOGRAMS, PROBABILITIES, SCORES = FILES = ("oof.csv", "histograms.npz", "probabilities.npz", "oof_dice.csv")


class Compared(NamedTuple):
    """An image's RLE a class, Dice `[C]` at threshold 0.5, and histograms int64 `[C, 2, 256]`."""

    runs: list[str]
    dice: np.ndarray
    counts: np.ndarray


@dataclass(frozen=True)
class Pooled:
    """What is known of all images that somebody predicted out of fold, whoever that was.

    Attributes:
        names: of the images, N of them.
        folds: the fold that each image validates, int `[N]`.
        counts: pixels by class, background and foreground, and probability, int `[N, C, 2, 256]`.
    """

    names: list[str]
    folds: np.ndarray
    counts: np.ndarray

    @cached_property
    def curves(self) -> np.ndarray:
        """Dice `[N, C, 256]` at thresholds k / 256."""
        return histogram.dice_curve(self.counts)

    def split(self, patients: Mapping[str, str]) -> Split:
        """Folds and patients of the images, from the patient of each name."""
        return Split(self.folds, np.array([patients[name] for name in self.names]))

    @property
    def areas(self) -> np.ndarray:
        """Pixels of the true masks `[N, C]`."""
        return np.asarray(self.counts[:, :, histogram.FOREGROUND].sum(-1))


def pool(folders: Mapping[int, Path], classes: Sequence[str]) -> Pooled:
    """Join the histograms of folds, each in its folder; raises as `read_counts`."""
    names, counts = zip(*(read_counts(folder / HISTOGRAMS, classes) for folder in folders.values()), strict=True)
    folds = np.repeat(list(folders), [len(of_fold) for of_fold in names])
    return Pooled([name for of_fold in names for name in of_fold], folds, np.concatenate(counts))


def write_results(folder: Path, names: Sequence[str], classes: Sequence[str], rows: Sequence[Compared]) -> np.ndarray:
    """Write oof.csv, histograms.npz and, last, oof_dice.csv of some images; returns their Dice `[N, C]`."""
    _write_csv(folder / MASKS, "rle", names, classes, [row.runs for row in rows])
    with replacing(folder / HISTOGRAMS) as part:
        counts = np.stack([row.counts for row in rows]).astype(np.int32)
        np.savez_compressed(part, names=np.array(names), classes=np.array(classes), counts=counts)
    _write_csv(folder / SCORES, "dice", names, classes, [[f"{d:.6f}" for d in row.dice] for row in rows])
    return np.stack([row.dice for row in rows])


def read_results(folder: Path, classes: Sequence[str]) -> tuple[list[str], list[Compared]]:
    """Names of the images that `write_results` wrote, and what it was given of them.

    Raises:
        BonepipeError: a file is missing, broken, or of other classes or images.
    """
    names, counts = read_counts(folder / HISTOGRAMS, classes)
    path = folder / MASKS
    texts = {row.key: row.rle for row in submission.stream(path)}
    dice = histogram.dice_curve(counts)[:, :, histogram.HALF_BIN]
    try:
        runs = [[texts[name, label] for label in classes] for name in names]
    except KeyError as error:
        raise BonepipeError(f"{path}: has no mask of {error}; predict this fold again") from error
    return names, [Compared(*row) for row in zip(runs, dice, counts, strict=True)]


def _write_csv(path: Path, column: str, names: Sequence[str], classes: Sequence[str], rows: Sequence[Any]) -> None:
    cells = ((name, *cell) for name, row in zip(names, rows, strict=True) for cell in zip(classes, row, strict=True))
    write_csv(path, ("image_name", "class", column), cells)


def mean_pixel_accuracy(tables: Iterable[Path], store: Store, names: Collection[str]) -> float:
    """The mean over images of `rle.pixel_accuracy`, for the masks at threshold 0.5.

    Args:
        tables: oof.csv of one folder or several, which together hold the images; masks in the order of the classes.
        store: with the truth.
        names: the images that count.
    """
    masks: dict[str, list[rle.Runs]] = {name: [] for name in names}
    for path in tables:
        for row in submission.stream(path):
            if row.image in masks:
                masks[row.image].append(submission.runs(path, row, store.shape(store.index[row.image])))
    return float(np.mean([rle.pixel_accuracy(masks[name], _true_runs(store, name)) for name in names]))


def _true_runs(store: Store, name: str) -> list[rle.Runs]:
    index = store.index[name]
    return [cutout.runs(mask, store.shape(index)[1]) for mask in store.truth(index)]


def read_curves(path: Path, classes: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Image names and Dice `[N, C, 256]` at thresholds k / 256 from a fold's histograms; raises as `read_counts`."""
    names, counts = read_counts(path, classes)
    return names, histogram.dice_curve(counts)


def read_counts(path: Path, classes: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Image names and pixel counts `[N, C, 2, 256]` from a fold's histograms.

    Raises:
        BonepipeError: the file is missing, broken, or of other classes.
    """
    with byte_maps.opened(path, classes) as file:
        names, counts = byte_maps.names_of(file), file["counts"]
        expected = (len(names), len(classes), 2, histogram.BINS)
        if counts.shape != expected or counts.dtype.kind not in "iu" or counts.min(initial=0) < 0:
            raise ValueError(f"counts are {counts.dtype} {list(counts.shape)}, expected pixels {list(expected)}")
        return names, counts
