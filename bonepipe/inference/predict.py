"""The ensemble's masks of the test images, one image after the other."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from bonepipe.data.batches import TestImages
from bonepipe.data.catalog import Radiograph
from bonepipe.data.frame import Frame, Shape
from bonepipe.data.loading import batches, reading_processes
from bonepipe.labels import cutout, on_device, rle, upsample
from bonepipe.labels.cutout import Cutout
from bonepipe.parallel import overlapped
from bonepipe.ranges import Count, Number, Processes
from bonepipe.training.precision import Precision

Maps = NDArray[np.float32]
Member = tuple[Frame, Callable[[torch.Tensor], torch.Tensor]]  # what it is shown; grey bytes [N, h, w] to maps


@dataclass(frozen=True, kw_only=True)
class PredictionSpec:
    """How trained models predict together.

    Attributes:
        folds: whose models predict; null for all.
        batch_size: images a forward pass.
        workers: processes that decode images; 0 for none, null for as many as pay (`data.loading`).
        ahead: images whose masks may wait for their encoding while the next ones are predicted; 0 for none.
        precision: of the forward passes; `auto` is half precision on GPUs.
        compile: run the models through torch.compile.
    """

    folds: tuple[Number, ...] | None = None
    batch_size: Count = 4
    workers: Processes | None = None
    ahead: Number = 4
    precision: Precision = "auto"
    compile: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1 or min(self.workers or 0, self.ahead) < 0:
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
        maps: probabilities float32 `[C, h, w]`, without the padding of a frame.
        shape: height and width of the image in pixels.
        thumbnail: of the image, see `bonepipe.data.thumbnails`.
    """

    maps: Maps
    shape: Shape
    thumbnail: NDArray[np.float32]

    def cutouts(self, thresholds: Sequence[float]) -> list[Cutout]:
        """One mask a class, upsampled only inside the box where its threshold can be reached."""
        return upsample.cutouts(self.maps, thresholds, self.shape)


def predictions(
    members: Sequence[Member],
    images: Sequence[Radiograph],
    spec: PredictionSpec,
    mean: Callable[[Sequence[Maps]], Maps] = lambda maps: maps[0],
) -> Iterator[tuple[Radiograph, Whole]]:
    """Yield every image with what its predictors say of it, in order, a batch at a time.

    Args:
        members: that predict, each with the frame that it is shown; all from one decoding.
        spec: batch size and workers.
        mean: of the members' maps of an image, which differ in size where their frames do.
    """
    source = TestImages(images, frozenset(frame for frame, _ in members))
    for batch in batches(source, spec.batch_size, reading_processes(len(images), spec.workers)):
        stacks = (on_device.to_host(predict(batch["image"][frame])).numpy() for frame, predict in members)
        answers = zip(*stacks, strict=True)
        facts = batch["index"].tolist(), batch["shape"].tolist(), batch["thumbnail"].numpy()
        for index, shape, little, maps in zip(*facts, answers, strict=True):
            size = (shape[0], shape[1])
            shown = [frame.content(of_member, size) for (frame, _), of_member in zip(members, maps, strict=True)]
            yield images[index], Whole(mean(shown), size, little)


def encode(
    predicted: Iterable[tuple[Radiograph, Prediction]],
    thresholds: Iterable[Sequence[float]],
    postprocess: Callable[[list[Cutout], Shape], list[Cutout]] = lambda masks, shape: masks,
    ahead: Number = 0,
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
