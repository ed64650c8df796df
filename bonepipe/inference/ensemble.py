"""The ensemble's masks of the test images, one image after the other."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from bonepipe.data.catalog import Radiograph
from bonepipe.data.image import read_grey, resize_grey
from bonepipe.inference.overlap import overlapped
from bonepipe.labels import cutout, rle, upsample
from bonepipe.labels.cutout import Cutout
from bonepipe.training.precision import Precision

Shape = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class EnsembleSpec:
    """How the folds' models decide together.

    Attributes:
        folds: folds that vote; null for all.
        margin: a class leaves threshold 0.5 only if its cross-fitted gain exceeds so many standard errors.
        thresholds_by: `stratum` lets a class have another threshold in some strata, kept by the same margin; null for
            one threshold a class.
        batch_size: images a forward pass.
        workers: processes that decode images; 0 for none.
        ahead: images whose masks may wait for their encoding while the next ones are predicted; 0 for none.
        precision: of the forward passes; `auto` is half precision on GPUs.
        compile: run the models through torch.compile.
    """

    folds: tuple[int, ...] | None = None
    margin: float = 2.0
    thresholds_by: Literal["stratum"] | None = None
    batch_size: int = 4
    workers: int = 0
    ahead: int = 4
    precision: Precision = "auto"
    compile: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1 or min(self.workers, self.ahead, self.margin) < 0:
            raise ValueError("batch_size must be positive, workers, ahead and margin not negative")


class TestImages(Dataset[dict[str, Any]]):
    """Images at model size with their original shape; of several sizes all are made from one decoding.

    Args:
        images: to read.
        shape: height and width; or several in a frozenset, and `image` is a dictionary with an image of each.
    """

    __test__ = False  # not a test case, whatever its name

    def __init__(self, images: Sequence[Radiograph], shape: Shape | frozenset[Shape]) -> None:
        self.images, self.shape = images, shape

    def __getitem__(self, index: int) -> dict[str, Any]:
        grey = read_grey(self.images[index].path)
        return {"image": self._resized(grey), "shape": torch.tensor(grey.shape), "index": index}

    def _resized(self, grey: NDArray[np.uint8]) -> Any:
        if isinstance(self.shape, frozenset):
            return {shape: resize_grey(grey, shape) for shape in self.shape}
        return resize_grey(grey, self.shape)

    def __len__(self) -> int:
        return len(self.images)


def predict_masks(
    predict: Callable[[Any], torch.Tensor],
    images: Sequence[Radiograph],
    shape: Shape | frozenset[Shape],
    thresholds: Sequence[float] | Sequence[Sequence[float]],
    spec: EnsembleSpec,
    refine: Callable[[list[Cutout], tuple[int, int]], list[Cutout]] = lambda masks, shape: masks,
) -> Iterator[tuple[Radiograph, list[str]]]:
    """Yield every image with the run-length strings of its classes, in order; memory does not grow with the images.

    Args:
        predict: probabilities of grey bytes `[N, h, w]`; of a dictionary of them by shape where there are several.
        images: to predict.
        shape: height and width that the model sees; several in a frozenset where members see several.
        thresholds: one a class, or a row of them an image.
        spec: batch size and workers.
        refine: what is done to an image's masks, one a class, given its height and width.
    """
    loader = DataLoader(
        TestImages(images, shape),
        batch_size=spec.batch_size,
        num_workers=spec.workers,
        pin_memory=torch.cuda.is_available(),
    )

    limits = np.asarray(thresholds, np.float64)
    limits = np.broadcast_to(limits, (len(images), limits.shape[-1]))

    def encode(item: tuple[int, NDArray[np.float32], list[int]]) -> tuple[Radiograph, list[str]]:
        index, maps, (height, width) = item
        masks = refine(upsample.cutouts(maps, limits[index].tolist(), (height, width)), (height, width))
        return images[index], [rle.format_runs(cutout.runs(mask, width)) for mask in masks]

    predicted = (
        item
        for batch in loader
        for item in zip(
            batch["index"].tolist(), predict(batch["image"]).cpu().numpy(), batch["shape"].tolist(), strict=True
        )
    )
    return overlapped(encode, predicted, spec.ahead)
