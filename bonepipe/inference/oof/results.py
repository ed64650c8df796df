"""Out-of-fold predictions: what a fold's weights say of the images they never saw, at the original size."""

import csv
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from bonepipe.data import submission
from bonepipe.data.batches import ValidationImages
from bonepipe.data.store import Store
from bonepipe.errors import BonepipeError
from bonepipe.files import replacing
from bonepipe.inference.oof import byte_maps
from bonepipe.labels import cutout, histogram, rle, upsample
from bonepipe.parallel import overlapped

HALF = 0.5
MASKS, HISTOGRAMS, PROBABILITIES, SCORES = FILES = ("oof.csv", "histograms.npz", "probabilities.npz", "oof_dice.csv")
Predict = Callable[[torch.Tensor], torch.Tensor]  # grey bytes [N, h, w] to probabilities [N, C, h, w]


def predict_fold(
    predict: Predict,
    store: Store,
    indices: Sequence[int],
    classes: Sequence[str],
    folder: Path,
    batch_size: int,
    ahead: int = 0,
    images: Dataset[dict[str, Any]] | None = None,
) -> np.ndarray:
    """Predict validation images in one way: `predict_variants` with one folder. Returns Dice `[N, C]`."""
    return predict_variants(
        lambda batch: [predict(batch)], store, indices, classes, [folder], batch_size, ahead, images, folder.name
    )[0]


def predict_variants(
    predict: Callable[[torch.Tensor], Sequence[torch.Tensor]],
    store: Store,
    indices: Sequence[int],
    classes: Sequence[str],
    folders: Sequence[Path],
    batch_size: int,
    ahead: int = 0,
    images: Dataset[dict[str, Any]] | None = None,
    title: str = "",
) -> list[np.ndarray]:
    """Predict validation images and write what later steps need of them, a folder a variant of the prediction.

    oof.csv holds the masks at threshold 0.5, histograms.npz what thresholds are chosen from, probabilities.npz what
    mixtures of models are chosen from, and oof_dice.csv, which comes last, each mask's Dice.

    Args:
        predict: probabilities of a batch, with the views that the ensemble will use, one tensor a variant.
        store: training images; `indices` of those to predict.
        classes: class names.
        folders: one a variant; they exist.
        batch_size: images a forward pass.
        ahead: images whose comparison with the truth may wait while the next ones are predicted.
        images: grey bytes `image` and store index `index`, in the order of `indices`; None for those of the store.
        title: of the progress bar.

    Returns:
        Dice at threshold 0.5 of each variant, float64 `[N, C]`.
    """
    source = ValidationImages(store, indices) if images is None else images
    predicted = _predicted(predict, source, batch_size)
    compared = overlapped(lambda item: [_compare(maps, store, item[1]) for maps in item[0]], predicted, ahead)
    rows = list(tqdm(compared, f"{title} out of fold", len(indices), unit="image"))
    names = [store.names[index] for index in indices]
    found = []
    for folder, own in zip(folders, zip(*rows, strict=True), strict=True):
        byte_maps.write(folder / PROBABILITIES, names, classes, own[0].shape, [row.packed for row in own])
        found.append(write_results(folder, names, classes, [row.compared for row in own]))
    return found


def predict_compact(
    predict: Predict,
    images: Dataset[dict[str, Any]],
    names: Sequence[str],
    classes: Sequence[str],
    path: Path,
    batch_size: int,
) -> None:
    """Predict images in another way than their fold did, and write only the bytes that mixtures are made from.

    Args:
        predict: probabilities of a batch.
        images: grey bytes `image` of each of the names, in their order, and `index`.
        names: of the images.
        classes: class names.
        path: the file to write.
        batch_size: images a forward pass.
    """
    found = _predicted(lambda batch: [predict(batch)], images, batch_size)
    predicted = tqdm(found, f"{path.parent.name} anew", len(names), unit="image")
    sizes, packed = zip(*((maps.shape[1:], byte_maps.pack(maps)) for (maps,), _ in predicted), strict=True)
    byte_maps.write(path, names, classes, sizes[0], packed)


def _predicted(
    predict: Callable[[torch.Tensor], Sequence[torch.Tensor]], images: Dataset[dict[str, Any]], batch_size: int
) -> Iterator[tuple[tuple[np.ndarray, ...], int]]:
    """Maps `[C, h, w]` of each variant, and index, of one image after the other."""
    for batch in DataLoader(images, batch_size=batch_size, pin_memory=torch.cuda.is_available()):
        variants = [maps.cpu().numpy() for maps in predict(batch["image"])]
        yield from zip(zip(*variants, strict=True), batch["index"].tolist(), strict=True)


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

    @property
    def areas(self) -> np.ndarray:
        """Pixels of the true masks `[N, C]`."""
        return np.asarray(self.counts[:, :, histogram.FOREGROUND].sum(-1))


def pool(folders: Mapping[int, Path], classes: Sequence[str]) -> Pooled:
    """Join the histograms of folds, each in its folder; raises as `read_counts`."""
    found = {fold: read_counts(folder / HISTOGRAMS, classes) for fold, folder in folders.items()}
    names = [name for here, _ in found.values() for name in here]
    folds = np.repeat(list(found), [len(here) for here, _ in found.values()])
    return Pooled(names, folds, np.concatenate([counts for _, counts in found.values()]))


class _Packed(NamedTuple):
    """What is known of an image, and its maps in bytes with their size."""

    compared: Compared
    packed: byte_maps.Packed
    shape: tuple[int, int]


def _compare(maps: np.ndarray, store: Store, index: int) -> _Packed:
    height, width = maps.shape[1:]
    return _Packed(compare(maps, store, index), byte_maps.pack(maps), (height, width))


def compare(maps: np.ndarray, store: Store, index: int) -> Compared:
    """Compare one image's maps `[C, h, w]` with the truth, at the image's size."""
    shape, truth = store.shape(index), store.truth(index)
    masks = upsample.cutouts(maps, [HALF] * len(truth), shape)
    hist = [upsample.histogram(map_, true, shape) for map_, true in zip(maps, truth, strict=True)]
    runs = [rle.format_runs(cutout.runs(mask, shape[1])) for mask in masks]
    return Compared(runs, upsample.dice_scores(masks, truth), np.stack(hist))


def write_results(folder: Path, names: Sequence[str], classes: Sequence[str], rows: Sequence[Compared]) -> np.ndarray:
    """Write oof.csv, histograms.npz and, last, oof_dice.csv of some images; returns their Dice `[N, C]`."""
    _write_csv(folder / MASKS, "rle", names, classes, [row.runs for row in rows])
    _write_histograms(folder / HISTOGRAMS, names, classes, np.stack([row.counts for row in rows]))
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
    dice = histogram.dice_curve(counts)[:, :, histogram.BINS // 2]
    try:
        runs = [[texts[name, label] for label in classes] for name in names]
    except KeyError as error:
        raise BonepipeError(f"{path}: has no mask of {error}; predict this fold again") from error
    return names, [Compared(*row) for row in zip(runs, dice, counts, strict=True)]


def _write_csv(path: Path, column: str, names: Sequence[str], classes: Sequence[str], rows: Sequence[Any]) -> None:
    with replacing(path) as part, part.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["image_name", "class", column])
        for name, row in zip(names, rows, strict=True):
            table.writerows([name, label, value] for label, value in zip(classes, row, strict=True))


def _write_histograms(path: Path, names: Sequence[str], classes: Sequence[str], counts: np.ndarray) -> None:
    with replacing(path) as part:
        np.savez_compressed(part, names=np.array(names), classes=np.array(classes), counts=counts.astype(np.int32))


def read_curves(path: Path, classes: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Image names and Dice `[N, C, 256]` at thresholds k / 256 from a fold's histograms; raises as `read_counts`."""
    names, counts = read_counts(path, classes)
    return names, histogram.dice_curve(counts)


def read_counts(path: Path, classes: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Image names and pixel counts `[N, C, 2, 256]` from a fold's histograms.

    Raises:
        BonepipeError: the file is missing, broken, or of other classes.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            names, labels, counts = file["names"].tolist(), file["classes"].tolist(), file["counts"]
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BonepipeError(f"{path}: cannot be read ({error}); train this fold again") from error
    if labels != list(classes):
        raise BonepipeError(f"{path}: was written for other classes ({', '.join(labels)})")
    return names, counts
