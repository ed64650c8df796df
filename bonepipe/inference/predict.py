"""The ensemble's masks of the test images, one image after the other."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from bonepipe.data.batches import Shape, TestImages
from bonepipe.data.catalog import Radiograph
from bonepipe.labels import cutout, rle, upsample
from bonepipe.labels.cutout import Cutout
from bonepipe.parallel import overlapped
from bonepipe.training.precision import Precision

Shapes = Shape | frozenset[Shape]  # height and width that models see; several where members see several


@dataclass(frozen=True, kw_only=True)
class PredictionSpec:
    """How trained models predict together.

    Attributes:
        folds: whose models predict; null for all.
        batch_size: images a forward pass.
        workers: processes that decode images; 0 for none.
        ahead: images whose masks may wait for their encoding while the next ones are predicted; 0 for none.
        precision: of the forward passes; `auto` is half precision on GPUs.
        compile: run the models through torch.compile.
    """

    folds: tuple[int, ...] | None = None
    batch_size: int = 4
    workers: int = 0
    ahead: int = 4
    precision: Precision = "auto"
    compile: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1 or min(self.workers, self.ahead) < 0:
            raise ValueError("batch_size must be positive, workers and ahead not negative")
        if self.folds == ():
            raise ValueError("folds=[]: name folds, or null for all")


class Prediction(Protocol):
    """What models say of one image, from which its masks are made."""

    @property
    def shape(self) -> Shape:
        """Height and width of the image in pixels."""

    def cutouts(self, thresholds: Sequence[float]) -> list[Cutout]:
        """One mask a class, at the image's size, where the probability is at or above the class's threshold."""


class Whole(NamedTuple):
    """A prediction of the whole image at model size.

    Attributes:
        maps: probabilities float32 `[C, h, w]`.
        shape: height and width of the image in pixels.
        thumbnail: of the image, see `bonepipe.data.thumbnails`.
    """

    maps: NDArray[np.float32]
    shape: Shape
    thumbnail: NDArray[np.float32]

    def cutouts(self, thresholds: Sequence[float]) -> list[Cutout]:
        """One mask a class, upsampled only inside the box where its threshold can be reached."""
        return upsample.cutouts(self.maps, thresholds, self.shape)


def predictions(
    predict: Callable[[Any], torch.Tensor], images: Sequence[Radiograph], shape: Shapes, spec: PredictionSpec
) -> Iterator[tuple[Radiograph, Whole]]:
    """Yield every image with what a predictor says of it, in order, a batch at a time.

    Args:
        predict: probabilities of grey bytes `[N, h, w]`; of a dictionary of them by shape where there are several.
        shape: height and width that the model sees; several in a frozenset where members see several.
        spec: batch size and workers.
    """
    source, pin = TestImages(images, shape), torch.cuda.is_available()
    for batch in DataLoader(source, spec.batch_size, num_workers=spec.workers, pin_memory=pin):
        maps = predict(batch["image"]).cpu().numpy()
        rows = zip(batch["index"].tolist(), maps, batch["shape"].tolist(), batch["thumbnail"].numpy(), strict=True)
        for index, of_image, size, little in rows:
            yield images[index], Whole(of_image, tuple(size), little)


def encode(
    predicted: Iterable[tuple[Radiograph, Prediction]],
    thresholds: Iterable[Sequence[float]],
    postprocess: Callable[[list[Cutout], Shape], list[Cutout]] = lambda masks, shape: masks,
    ahead: int = 0,
) -> Iterator[tuple[Radiograph, list[str]]]:
    """Yield every image with the run-length strings of its classes; memory does not grow with the images.

    Args:
        predicted: images with their predictions.
        thresholds: a row an image, one a class.
        postprocess: what is done to an image's masks, one a class, given its height and width.
        ahead: images whose masks may wait for their encoding while the next ones are predicted.
    """

    def work(item: tuple[tuple[Radiograph, Prediction], Sequence[float]]) -> tuple[Radiograph, list[str]]:
        (image, prediction), limits = item
        return image, texts(postprocess(prediction.cutouts(limits), prediction.shape), prediction.shape)

    return overlapped(work, zip(predicted, thresholds, strict=True), ahead)


def texts(masks: Sequence[Cutout], shape: Shape) -> list[str]:
    """Run-length strings of an image's masks."""
    return [rle.format_runs(cutout.runs(mask, shape[1])) for mask in masks]
