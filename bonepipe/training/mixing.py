"""Mixing the images of a batch with each other, on the device, their labels being bit-planes all the while.

Every image's partner is another image of the batch: the batch rolled by a random number of places. A batch of one
has no partners and is left alone.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from bonepipe.labels import bitplane
from bonepipe.labels.cutout import Box
from bonepipe.ranges import Positive, Share

Predict = Callable[[torch.Tensor], torch.Tensor]  # images [N, 1, h, w] to logits [N, C, h, w], without gradients


class Part(NamedTuple):
    """Labels that a mixed batch has to answer for; its loss is the sum over parts of share * loss(answer, part).

    Attributes:
        planes: labels as bit-planes, uint8 `[N, h, w, S * P]`, of the pixels' sub-pixels.
        weight: pixel weights `[N or 1, C or 1, h, w]`, or None.
        share: of the part in the loss: one number, or one a sample, float32 `[N]`.
    """

    planes: torch.Tensor
    weight: torch.Tensor | None = None
    share: float | torch.Tensor = 1.0


Mixed = tuple[torch.Tensor, tuple[Part, ...]]


def unmixed(images: torch.Tensor, part: Part, rng: np.random.Generator, predict: Predict) -> Mixed:
    """The batch as it is."""
    return images, (part,)


def no_mixing() -> Callable[[torch.Tensor, Part, np.random.Generator, Predict], Mixed]:
    """The choice of leaving every batch as it is."""
    return unmixed


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """Mixes a batch with probability p.

    Attributes:
        alpha: of the Beta(alpha, alpha) distribution that the mixing ratio is drawn from; large values are near 1/2.
        p: probability that a batch is mixed.
    """

    alpha: Positive = 1.0
    p: Share = 0.5

    def __post_init__(self) -> None:
        if not (self.alpha > 0 and math.isfinite(self.alpha)):
            raise ValueError(f"alpha={self.alpha} must be a number above 0")
        if not 0 <= self.p <= 1:
            raise ValueError(f"p={self.p} is a probability, so between 0 and 1")

    def __call__(self, images: torch.Tensor, part: Part, rng: np.random.Generator, predict: Predict) -> Mixed:
        """Mix images float32 `[N, 1, h, w]`; the generator alone decides how."""
        if len(images) == 1 or rng.random() >= self.p:
            return unmixed(images, part, rng, predict)
        return self.mix(images, part, rng, predict)

    def mix(self, images: torch.Tensor, part: Part, rng: np.random.Generator, predict: Predict) -> Mixed:
        """Mix without tossing the coin; at least two images."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class MixUp(Mixing):
    """Images blended with their partners, the losses against both labels in the same ratio (Zhang 2018, section 2).

    The paper mixes labels; cross entropy is linear in them, so that mixing the losses is the same there. Dice-like
    losses are not linear, and are mixed as losses so that labels stay 0 or 1.
    """

    alpha: Positive = 0.4

    def mix(self, images: torch.Tensor, part: Part, rng: np.random.Generator, predict: Predict) -> Mixed:
        """Blend each image with its partner in the ratio ratio : 1 - ratio."""
        ratio, shift = float(rng.beta(self.alpha, self.alpha)), _shift(len(images), rng)
        other = _roll(part, shift)
        blend = ratio * images + (1 - ratio) * images.roll(shift, 0)
        return blend, (part._replace(share=ratio * part.share), other._replace(share=(1 - ratio) * other.share))


@dataclass(frozen=True, kw_only=True)
class CutMix(Mixing):
    """A box of each image and its labels replaced by its partner's (Yun 2019, section 3.1).

    The box has the share 1 - ratio of the image before it is clipped to it. Labels are pasted pixel by pixel, so that
    the loss needs no ratio, which the paper needs because its labels belong to whole images.
    """

    def mix(self, images: torch.Tensor, part: Part, rng: np.random.Generator, predict: Predict) -> Mixed:
        """Paste the same box into every image of the batch."""
        box, shift = _draw_box(images, self.alpha, rng), _shift(len(images), rng)
        if box is None:
            return unmixed(images, part, rng, predict)
        other, inside, of_planes = _roll(part, shift), (..., *box.slices), (slice(None), *box.slices)
        pasted = _paste(images, images.roll(shift, 0)[inside], inside)
        planes = _paste(part.planes, other.planes[of_planes], of_planes)
        cut = box.height * box.width / (images.shape[-2] * images.shape[-1])
        share = part.share + cut * (other.share - part.share)  # of images that weigh differently, by area
        if part.weight is None or other.weight is None:
            return pasted, (Part(planes, None, share),)
        return pasted, (Part(planes, _paste(part.weight, other.weight[inside], inside), share),)


@dataclass(frozen=True, kw_only=True)
class SnapMix(Mixing):
    """A box of each image replaced by another box of its partner, resized to fit (Huang 2021, section 3).

    The two boxes are drawn independently, so that they differ in place and size. The paper weighs the two images'
    labels by what the boxes hold of each image's semantic map S (a class activation map of sum 1): the image's own
    by rho_a = 1 - S_a(its box), the partner's by rho_b = S_b(the partner's box); the two need not sum to 1.

    For dense labels the pasted box carries its own labels, so each pixel is right as it is, and what the weights
    still say is how much each image's remains are worth in the loss:
    `rho_a * loss(outside the box) + rho_b * loss(inside the box)`, each as if the pixels of the other did not exist.
    The activation map of a class in a segmentation network is its logit map: the head's weights applied to the last
    features. S is the sum of the probability maps of the classes that occur in the image; it takes one more forward
    pass, as in the paper.
    """

    alpha: Positive = 5.0

    def mix(self, images: torch.Tensor, part: Part, rng: np.random.Generator, predict: Predict) -> Mixed:
        """Paste a box of one size, the same for the whole batch, into a box of another size."""
        target, source = (_draw_box(images, self.alpha, rng) for _ in range(2))
        shift = _shift(len(images), rng)
        if target is None or source is None:
            return unmixed(images, part, rng, predict)
        other, inside = _roll(part, shift), (..., *target.slices)
        patch = functional.interpolate(
            images.roll(shift, 0)[(..., *source.slices)], (target.height, target.width), mode="bilinear"
        )
        rows, columns = _nearest(source, target, images.device)
        planes = _paste(part.planes, other.planes[:, rows[:, None], columns], (slice(None), *target.slices))
        weight = None
        if part.weight is not None and other.weight is not None:
            weight = _paste(part.weight, other.weight[..., rows[:, None], columns], inside)
        semantic = semantic_map(predict(images), part.planes)
        kept = 1 - semantic[inside].sum((1, 2))
        partners = semantic.roll(shift, 0)[(..., *source.slices)].sum((1, 2))
        blank = torch.zeros(1, 1, *images.shape[-2:], device=images.device)
        pasted = _paste(blank, torch.ones_like(blank[inside]), inside)
        masks = (mask if weight is None else weight * mask for mask in (1 - pasted, pasted))
        shares = kept * part.share, partners * other.share
        parts = tuple(Part(planes, mask, share) for mask, share in zip(masks, shares, strict=True))
        return _paste(images, patch, inside), parts


def semantic_map(logits: torch.Tensor, planes: torch.Tensor) -> torch.Tensor:
    """Where an image's classes are seen, float32 `[N, h, w]` of sum 1: uniform where no class occurs.

    Args:
        logits: `[N, C, h, w]`; planes: the true labels, uint8 `[N, h, w, P]`.
    """
    occurs = (bitplane.counts_torch(planes, logits.shape[1])[0] > 0).flatten(2).any(2)
    seen = (logits.float().sigmoid() * occurs[..., None, None]).sum(1) + 1e-8
    return seen / seen.sum((1, 2), keepdim=True)


def _shift(samples: int, rng: np.random.Generator) -> int:
    return int(rng.integers(1, samples))


def _roll(part: Part, shift: int) -> Part:
    """The partners' labels."""
    weight = part.weight
    return part._replace(
        planes=part.planes.roll(shift, 0),
        weight=weight if weight is None or len(weight) == 1 else weight.roll(shift, 0),
        share=part.share.roll(shift, 0) if isinstance(part.share, torch.Tensor) else part.share,
    )


def _draw_box(images: torch.Tensor, alpha: float, rng: np.random.Generator) -> Box | None:
    """A box around a random pixel, with the share 1 - Beta(alpha, alpha) of the image before it is clipped to it."""
    height, width = images.shape[-2:]
    side = math.sqrt(1 - rng.beta(alpha, alpha))
    middle_row, middle_column = int(rng.integers(height)), int(rng.integers(width))
    rows, columns = int(height * side), int(width * side)
    top, left = middle_row - rows // 2, middle_column - columns // 2
    return Box(top, left, top + rows, left + columns).overlap(Box(0, 0, height, width))


def _paste(tensor: torch.Tensor, patch: torch.Tensor, place: Any) -> torch.Tensor:
    """A copy of a tensor with a patch in some place."""
    result = tensor.clone()
    result[place] = patch
    return result


def _nearest(source: Box, target: Box, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The source's rows and columns that are nearest to the target's, centres aligned."""
    rows = ((torch.arange(target.height, device=device) + 0.5) * (source.height / target.height)).long() + source.top
    columns = ((torch.arange(target.width, device=device) + 0.5) * (source.width / target.width)).long() + source.left
    return rows, columns
