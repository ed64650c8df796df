"""A cascade, coarse to fine: the region that a first stage finds, cut from the original image, goes to a second stage.

Inside the crop the probability of a class is (1 - w) times the first stage's plus w times the second's; outside,
and where no region was found, the first stage's alone. Both are bilinear maps at the image's size, made only inside the
box where their mixture can matter, so that a box holds the very bits of the full frame.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from bonepipe.data.image import resize_grey
from bonepipe.data.region import Region, cut, smallest_box
from bonepipe.inference.oof import byte_maps
from bonepipe.inference.oof.byte_maps import ByteMaps
from bonepipe.inference.oof.predict import Predict
from bonepipe.labels import on_device, upsample
from bonepipe.labels.cutout import Box, Cutout, empty, hull
from bonepipe.labels.histogram import FLOOR, HALF

Maps = NDArray[np.float32]
Grey = NDArray[np.uint8]
Shape = tuple[int, int]
GAP = 0.03  # parts of the region that lie closer than this share of the image's side belong together
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the second stage, tried for each class; the first must be 0


class SecondStage(NamedTuple):
    """What the second stage says of a crop.

    Attributes:
        crop: the part of the image, in its pixels; it may reach beyond the image.
        maps: probabilities of the crop, float32 `[C, h, w]`.
    """

    crop: Box
    maps: Maps


class PackedSecondStage(NamedTuple):
    """The second stage's maps in bytes, inside the boxes where its classes can be: small enough to keep all images'."""

    crop: Box
    maps: ByteMaps

    def unpack(self) -> SecondStage:
        """The maps again, each probability the middle of its byte's bin."""
        return SecondStage(self.crop, self.maps.maps(0))


def pack(second: SecondStage) -> PackedSecondStage:
    """The second stage's maps in bytes."""
    boxes, stream = byte_maps.pack(second.maps)
    height, width = second.maps.shape[1:]
    return PackedSecondStage(second.crop, ByteMaps([""], [(height, width)], boxes[None], [stream]))


def find_region(maps: Maps, shape: Shape) -> Box | None:
    """The box of the region at the image's size, from the maps `[R, h, w]` of its classes; None where there is nothing.

    Pixels at or above 0.5 in any class count. Specks elsewhere do not: of the parts that wide gaps separate, the
    largest is taken.
    """
    mask = np.asarray((maps >= HALF).any(0))
    side = max(3, round(GAP * max(mask.shape)) | 1)
    joined = cv2.dilate(mask.view(np.uint8), np.ones((side, side), np.uint8))
    _, parts = cv2.connectedComponents(joined)
    sizes = np.bincount(parts[mask])
    box = smallest_box(mask & (parts == sizes.argmax())) if sizes.size else None
    if box is None:
        return None
    down, across = shape[0] / mask.shape[0], shape[1] / mask.shape[1]
    ends = np.ceil([box.bottom * down, box.right * across]).astype(int).tolist()
    return Box(int(box.top * down), int(box.left * across), *ends)


def predict_second_stage(
    predict: Predict, region: Region, labels: Sequence[int], size: Shape, images: Sequence[tuple[Grey, Maps]]
) -> list[SecondStage | None]:
    """Predict a batch of images where their first-stage maps say that the region is.

    Args:
        predict: probabilities of grey bytes `[N, h, w]`, by the run that sees the region.
        region: margin of the crops.
        labels: the region's classes, as the first stage counts them.
        size: height and width that `predict` takes.
        images: grey bytes `[H, W]` at original size, and first-stage maps `[C, h, w]`.

    Returns:
        Of each image; None where no region was found.
    """
    boxes = [find_region(maps[list(labels)], (grey.shape[0], grey.shape[1])) for grey, maps in images]
    crops = [None if box is None else region.crop(box, size) for box in boxes]
    shown = [resize_grey(cut(grey, crop), size) for (grey, _), crop in zip(images, crops, strict=True) if crop]
    if not shown:
        return [None] * len(boxes)
    answers = iter(on_device.to_host(predict(torch.from_numpy(np.stack(shown)))).numpy())
    return [None if crop is None else SecondStage(crop, next(answers)) for crop in crops]


@dataclass(frozen=True)
class StagePair:
    """One class of an image as both stages see it.

    Attributes:
        whole: the first stage's map `[h, w]` of the whole image.
        close: the second stage's map of the crop, or None where there is none.
        crop: the part of the image that `close` shows.
        shape: the image's height and width.
    """

    whole: Maps
    close: Maps | None
    crop: Box
    shape: Shape

    def reach(self, threshold: float) -> Box | None:
        """The box of pixels where any mixture of the two might reach a threshold; None where nowhere."""
        boxes = [upsample.reach(self.whole, threshold, self.shape)]
        if self.close is not None:
            near = upsample.reach(self.close, threshold, (self.crop.height, self.crop.width))
            frame = Box(0, 0, *self.shape)
            boxes.append(None if near is None else near.moved(self.crop.top, self.crop.left).overlap(frame))
        reached = hull(box for box in boxes if box is not None)
        return reached if reached.height else None

    def mixtures(self, weights: Sequence[float], box: Box) -> Iterator[Maps]:
        """The mixed map inside a box of the image, float32, for each weight of the second stage."""
        whole = upsample.upsample(self.whole, self.shape, box)
        common = None if self.close is None else box.overlap(self.crop)
        if common is None or self.close is None:
            yield from (whole for _ in weights)
            return
        inside = common.moved(-box.top, -box.left).slices
        local = common.moved(-self.crop.top, -self.crop.left)
        close = upsample.upsample(self.close, (self.crop.height, self.crop.width), local)
        for weight in weights:
            mixed = whole.copy()
            mixed[inside] = np.float32(1 - weight) * whole[inside] + np.float32(weight) * close
            yield mixed

    def cutout(self, weight: float, threshold: float) -> Cutout:
        """The mask where the mixed map is at or above a threshold."""
        if not weight:
            return upsample.cutout(self.whole, threshold, self.shape)
        box = self.reach(threshold)
        return empty() if box is None else Cutout(box, next(self.mixtures([weight], box)) >= np.float32(threshold))

    def histograms(self, weights: Sequence[float], truth: Cutout) -> NDArray[np.int64]:
        """Counts int64 `[K, 2, 256]` of the mixed map's values over background and foreground, for each weight.

        Those below `histogram.FLOOR` are together in bin 0.
        """
        box = self.reach(FLOOR) or Box(0, 0, 0, 0)
        return np.stack([upsample.count(mixed, box, truth, self.shape) for mixed in self.mixtures(weights, box)])


def pair_stages(whole: Maps, second: SecondStage | None, label: int | None, shape: Shape) -> StagePair:
    """The first stage's map of a class, and what the second says of it as its class `label`; None for nothing."""
    if second is None or label is None:
        return StagePair(whole, None, Box(0, 0, 0, 0), shape)
    return StagePair(whole, second.maps[label], second.crop, shape)


class BlendedStages(NamedTuple):
    """An image as both stages see it, a pair and a weight of the second stage a class: masks are made from it."""

    pairs: list[StagePair]
    weights: Sequence[float]
    shape: Shape

    def cutouts(self, thresholds: Sequence[float]) -> list[Cutout]:
        """One mask a class where the mixed map is at or above the class's threshold."""
        return [pair.cutout(*chosen) for pair, *chosen in zip(self.pairs, self.weights, thresholds, strict=True)]


def blend_stages(
    maps: Maps, second: SecondStage | None, labels: Mapping[int, int], weights: Sequence[float], shape: Shape
) -> BlendedStages:
    """Put the first stage's maps `[C, h, w]` and the second's, None where no region was found, together.

    The keys of `labels` are the region's classes as the first stage counts them, its values as the second does.
    """
    pairs = [pair_stages(whole, second, labels.get(label), shape) for label, whole in enumerate(maps)]
    return BlendedStages(pairs, weights, shape)
