"""Predicting the validation images of a fold with weights that never saw them, at the original size."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm import tqdm

from bonepipe.data.datamodule import ValidationImages
from bonepipe.data.frame import Frame
from bonepipe.data.loading import batches, reading_processes
from bonepipe.data.store import Store
from bonepipe.inference.oof import byte_maps
from bonepipe.inference.oof.results import PROBABILITIES, Compared, write_results
from bonepipe.labels import histogram, on_device, outline, rle, upsample
from bonepipe.labels.histogram import HALF, HALF_BIN
from bonepipe.parallel import cores, overlapped

Images = Dataset[dict[str, Any]]
Predict = Callable[[torch.Tensor], torch.Tensor]  # grey bytes [N, h, w] to probabilities [N, C, h, w]


@dataclass(frozen=True)
class Validation:
    """The validation images of a fold, and how and where they are predicted.

    Attributes:
        store: training images; `indices` of those to predict.
        folder: the fold's, which exists, as do those of the variants in it.
        batch_size: images a forward pass.
        ahead: images whose comparison with the truth may wait while the next ones are predicted; unless it is 0, at
            least one a core.
        images: grey bytes `image`, original `shape` and store index `index`, in the order of `indices`; None for those
            of the store.
        frame: how these show the radiographs; None for that of the store.
        workers: processes that decode them where they are none of the store's; None for as many as pay.
    """

    store: Store
    indices: Sequence[int]
    classes: Sequence[str]
    folder: Path
    batch_size: int
    ahead: int = 0
    images: Images | None = None
    frame: Frame | None = None
    workers: int | None = None


def predict_fold(predict: Predict, validation: Validation) -> np.ndarray:
    """Predict validation images in one way: `predict_variants` with one. Returns Dice `[N, C]`."""
    return predict_variants(lambda batch: [predict(batch)], validation)[0]


def predict_variants(
    predict: Callable[[torch.Tensor], Sequence[torch.Tensor]], validation: Validation, variants: Sequence[str] = ("",)
) -> list[np.ndarray]:
    """Predict validation images and write what later steps need of them, in a folder for each variant.

    oof.csv holds the masks at threshold 0.5, histograms.npz what thresholds are chosen from, probabilities.npz what
    ensembles are chosen from, and oof_dice.csv, which comes last, each mask's Dice.

    Args:
        predict: probabilities of a batch, with the views that test images will have, one tensor a variant.
        validation: the images.
        variants: names of the folders below the fold's.

    Returns:
        Dice at threshold 0.5 of each variant, float64 `[N, C]`.
    """
    store, indices, classes, folder = validation.store, validation.indices, validation.classes, validation.folder
    source = ValidationImages(store, indices) if validation.images is None else validation.images
    frame = validation.frame or store.frame
    predicted = _predicted(predict, source, frame, validation.batch_size, validation.workers)
    ahead = max(validation.ahead, cores()) if validation.ahead else 0
    rows = overlapped(lambda item: [_digest(maps, store, item[1]) for maps in item[0]], predicted, ahead, cores())
    images_of_variants = zip(*tqdm(rows, f"{folder.name} out of fold", len(indices), unit="image"), strict=True)
    names, dice = [store.names[index] for index in indices], []
    for variant, of_variant in zip(variants, images_of_variants, strict=True):
        compared, packed, shapes = zip(*of_variant, strict=True)
        byte_maps.write(folder / variant / PROBABILITIES, names, classes, shapes, packed)
        dice.append(write_results(folder / variant, names, classes, compared))
    return dice


def predict_bytes(
    predict: Predict,
    images: Images,
    frame: Frame,
    names: Sequence[str],
    classes: Sequence[str],
    path: Path,
    batch_size: int,
    workers: int | None = None,
) -> None:
    """Predict images in another way than their fold did, and write only the bytes that ensembles are averaged from.

    Args:
        images: grey bytes `image` of each of the names, in their order, original `shape` and `index`.
        frame: how they show the radiographs.
        batch_size: images a forward pass.
        workers: processes that decode images; None for as many as pay.
    """
    maps_of_images = _predicted(lambda batch: [predict(batch)], images, frame, batch_size, workers)
    predicted = tqdm(maps_of_images, f"{path.parent.name} anew", len(names), unit="image")
    levels = (on_device.to_host(on_device.levels(maps)).numpy() for (maps,), _ in predicted)
    shapes, packed = zip(*((of_image.shape[1:], byte_maps.pack_levels(of_image)) for of_image in levels), strict=True)
    byte_maps.write(path, names, classes, shapes, packed)


def _predicted(
    predict: Callable[[torch.Tensor], Sequence[torch.Tensor]],
    images: Images,
    frame: Frame,
    batch_size: int,
    workers: int | None,
) -> Iterator[tuple[tuple[torch.Tensor, ...], int]]:
    """Maps `[C, h, w]` of each variant, on their device, without padding, and index, of one image after the other."""
    stored = isinstance(images, ValidationImages)  # and not decoded any more
    processes = 0 if stored else reading_processes(len(images), workers)  # type: ignore[arg-type]
    for batch in batches(images, batch_size, processes):
        variants = zip(*predict(batch["image"]), strict=True)
        for of_image, shape, index in zip(variants, batch["shape"].tolist(), batch["index"].tolist(), strict=True):
            yield tuple(frame.content(maps, tuple(shape)) for maps in of_image), index


class Measured(NamedTuple):
    """What is kept of an image's maps `[C, h, w]`.

    Attributes:
        counts: histograms int64 `[C, 2, 256]` at the image's size.
        runs: of each class's mask at threshold 0.5.
        levels: the maps in bytes, uint8 `[C, h, w]`.
    """

    counts: np.ndarray
    runs: list[rle.Runs]
    levels: np.ndarray

    @property
    def compared(self) -> Compared:
        """As the files of results have it."""
        dice = histogram.dice_curve(self.counts)[:, HALF_BIN]
        return Compared([rle.format_runs(runs) for runs in self.runs], dice, self.counts)


DEVICE = Lock()  # one image at a time on a device: its memory is bounded


def measure(maps: torch.Tensor, store: Store, index: int) -> Measured:
    """Compare an image's maps with the truth, at the image's size, on the GPU that they are on, else on the CPU."""
    shape, truth = store.shape(index), store.truth(index)
    if maps.is_cuda:
        with DEVICE:
            levels = on_device.to_host(on_device.levels(maps)).numpy()
            return Measured(*on_device.measure(maps, truth, shape), levels)
    values = maps.cpu().numpy()
    counts = np.stack([upsample.histogram(map_, true, shape) for map_, true in zip(values, truth, strict=True)])
    runs = outline.runs(outline.segments(values, [HALF] * len(truth), shape), len(truth), shape)
    levels = np.stack([histogram.levels(map_) for map_ in values])  # each in the core's cache
    return Measured(counts, runs, levels)


def compare_with_truth(maps: np.ndarray, store: Store, index: int) -> Compared:
    """Compare one image's maps `[C, h, w]` with the truth, at the image's size."""
    return measure(torch.from_numpy(maps), store, index).compared


def _digest(maps: torch.Tensor, store: Store, index: int) -> tuple[Compared, byte_maps.Packed, tuple[int, ...]]:
    """What is known of an image, its maps in bytes, and their size."""
    measured = measure(maps, store, index)
    return measured.compared, byte_maps.pack_levels(measured.levels), tuple(maps.shape[1:])
