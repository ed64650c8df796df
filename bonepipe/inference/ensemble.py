"""The ensemble's masks of the test images, one image after the other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from bonepipe.data.catalog import Radiograph
from bonepipe.data.image import read_grey, resize_grey
from bonepipe.inference.outoffold import Predict
from bonepipe.labels import cutout, rle, upsample


@dataclass(frozen=True, kw_only=True)
class EnsembleSpec:
    """How the folds' models decide together.

    Attributes:
        folds: folds that vote; null for all.
        margin: a class leaves threshold 0.5 only if its cross-fitted gain exceeds so many standard errors.
        batch_size: images a forward pass.
        workers: processes that decode images; 0 for none.
    """

    folds: tuple[int, ...] | None = None
    margin: float = 2.0
    batch_size: int = 4
    workers: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.workers < 0 or self.margin < 0:
            raise ValueError("batch_size must be positive, workers and margin not negative")


class TestImages(Dataset[dict[str, Any]]):
    """Images at model size with their original shape."""

    __test__ = False  # not a test case, whatever its name

    def __init__(self, images: Sequence[Radiograph], shape: tuple[int, int]) -> None:
        self.images, self.shape = images, shape

    def __getitem__(self, index: int) -> dict[str, Any]:
        grey = read_grey(self.images[index].path)
        return {"image": resize_grey(grey, self.shape), "shape": torch.tensor(grey.shape), "index": index}

    def __len__(self) -> int:
        return len(self.images)


def predict_masks(
    predict: Predict,
    images: Sequence[Radiograph],
    shape: tuple[int, int],
    thresholds: Sequence[float],
    spec: EnsembleSpec,
) -> Iterator[tuple[Radiograph, list[str]]]:
    """Yield every image with the run-length strings of its classes, in order; memory does not grow with the images.

    Args:
        predict: probabilities of grey bytes `[N, h, w]`.
        images: to predict.
        shape: height and width that the model sees.
        thresholds: one a class.
        spec: batch size and workers.
    """
    loader = DataLoader(TestImages(images, shape), batch_size=spec.batch_size, num_workers=spec.workers)
    for batch in loader:
        maps = predict(batch["image"]).cpu().numpy()
        for probabilities, original, index in zip(maps, batch["shape"].tolist(), batch["index"].tolist(), strict=True):
            masks = upsample.cutouts(probabilities, thresholds, (original[0], original[1]))
            yield images[index], [rle.format_runs(cutout.runs(mask, original[1])) for mask in masks]
