"""What `pixel_sums` sums over pixels: values and, written out, their slopes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bonepipe.training.pixel_sums import Block, Labels, Pixels, shared_out


@dataclass(frozen=True, eq=False)
class Areas:
    """Two values, for indices of overlap: min(probability, target), and the probability.

    Attributes:
        smoothing: how far targets move towards `share` `[N, C]`.
    """

    count: ClassVar[int] = 2

    smoothing: float
    share: Tensor | None

    @classmethod
    def of(cls, labels: Labels, smoothing: float) -> "Areas":
        """Targets move towards the class's share of the image, so that areas stay as they are.

        Moved towards one half as in cross entropy, a large image's background would outweigh a small class, whose best
        Dice would then be had by predicting it everywhere. Szegedy 2016, section 7, allows any prior in its place.
        """
        return cls(smoothing, labels.share if smoothing else None)

    def values(self, pixels: Pixels) -> Sequence[Tensor]:
        """Overlap and prediction."""
        return torch.minimum(pixels.probability, self._targets(pixels)), pixels.probability

    def slope(self, pixels: Pixels, upstream: Sequence[Tensor]) -> Tensor:
        """Of the overlap it is 1 below the target, 0 above, and half of that where the two are equal, as in torch."""
        half, probability = upstream[0] / 2, pixels.probability
        below = torch.sub(self._targets(pixels), probability).sign_()
        factor = torch.addcmul(half + upstream[1], half, below)
        return (1 - probability).mul_(probability).mul_(factor)

    def _targets(self, pixels: Pixels) -> Tensor:
        if self.share is None:
            return pixels.targets
        return pixels.targets * (1 - self.smoothing) + self.smoothing * self.share[pixels.samples, :, None, None]


@dataclass(frozen=True)
class FocalEntropy:
    """Focal loss of a pixel (RetinaNet, equations 4-5), at gamma 0 its cross entropy.

    Attributes:
        gamma: focusing exponent.
        alpha: weight of positive pixels, 1 - alpha of negative ones; None for no weighting.
        smoothing: how far targets move towards one half.
    """

    count: ClassVar[int] = 1

    gamma: float = 0.0
    alpha: float | None = None
    smoothing: float = 0.0

    def values(self, pixels: Pixels) -> Sequence[Tensor]:
        """Entropy * wrong ** gamma; exp(-entropy) is the probability given to the truth."""
        loss = pixels.entropy(towards_half(pixels.targets, self.smoothing))
        if self.gamma:
            loss = (1 - torch.exp(-loss)).pow_(self.gamma).mul_(loss)
        return (self._weighted(loss, pixels),)

    def slope(self, pixels: Pixels, upstream: Sequence[Tensor]) -> Tensor:
        """(probability - target) * wrong ** (gamma - 1) * (gamma * right * entropy + wrong)."""
        targets = towards_half(pixels.targets, self.smoothing)
        slope = (pixels.probability - targets).mul_(upstream[0])
        if self.gamma:
            entropy = pixels.entropy(targets)
            right = torch.exp(-entropy)
            wrong = 1 - right
            slope *= entropy.mul_(right).mul_(self.gamma).add_(wrong)
            if self.gamma < 1:
                wrong.clamp_(min=1e-8)  # at 0 the power is infinite, and infinity times 0 is not a number
            slope *= wrong if self.gamma == 2 else wrong.pow_(self.gamma - 1)
        return self._weighted(slope, pixels)

    def _weighted(self, values: Tensor, pixels: Pixels) -> Tensor:
        if self.alpha is None:
            return values
        return values.mul_(pixels.targets.mul(2 * self.alpha - 1).add_(1 - self.alpha))


@dataclass(frozen=True, eq=False)
class WorstEntropy:
    """Two values: the cross entropy of a sample's worst pixels, all classes together, and 1 for each of them.

    Attributes:
        smoothing: how far targets move towards one half.
        threshold: the cross entropy above which a pixel is one of the worst, `[N]`.
        tied: how much of a pixel at the threshold is, `[N]`: among equals none is preferred.
    """

    count: ClassVar[int] = 2

    smoothing: float
    threshold: Tensor
    tied: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, logits: Tensor, labels: Labels, share: float, smoothing: float) -> "WorstEntropy":
        """Find the worst of the existing pixels: this share of them, but at least one."""
        limits = [_limit(_entropies(logits, labels, index, smoothing), share) for index in range(len(logits))]
        threshold, tied = map(torch.stack, zip(*limits, strict=True))
        return cls(smoothing, threshold, tied)

    def values(self, pixels: Pixels) -> Sequence[Tensor]:
        """Entropy and number."""
        entropy = pixels.entropy(towards_half(pixels.targets, self.smoothing))
        chosen = self._chosen(entropy, pixels)
        return entropy.mul_(chosen), chosen

    def slope(self, pixels: Pixels, upstream: Sequence[Tensor]) -> Tensor:
        """That of the entropy; the choice has none."""
        targets = towards_half(pixels.targets, self.smoothing)
        chosen = self._chosen(pixels.entropy(targets), pixels)
        return (pixels.probability - targets).mul_(upstream[0]).mul_(chosen)

    def _chosen(self, entropy: Tensor, pixels: Pixels) -> Tensor:
        threshold, tied = (limit[pixels.samples, None, None, None] for limit in (self.threshold, self.tied))
        side = torch.sub(entropy, threshold).sign_()  # comparisons, whose results are of another type, are slower
        return torch.clamp(side, min=0).add_((1 - side * side).mul_(tied))


def towards_half(targets: Tensor, smoothing: float) -> Tensor:
    """Targets of cross entropy, moved by label smoothing."""
    return targets * (1 - smoothing) + smoothing / 2 if smoothing else targets


def _entropies(logits: Tensor, labels: Labels, sample: int, smoothing: float) -> Tensor:
    """The cross entropies of a sample's existing pixels, in any order."""
    logits, targets = logits[sample : sample + 1], labels.targets[sample : sample + 1]
    entropies = torch.empty_like(logits, dtype=torch.promote_types(logits.dtype, torch.float32))

    def work(some: Sequence[Block]) -> None:
        for block in some:
            pixels = Pixels(logits, targets, None, labels.parts, block)
            entropies[block] = pixels.entropy(towards_half(pixels.targets, smoothing))

    shared_out(work, logits)
    if labels.weight is not None:
        return entropies[labels.weight[sample : sample + 1] > 0]
    return entropies.as_strided((entropies.numel(),), (1,))  # as it lies in memory


def _limit(values: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """The smallest of the largest values, and which share of those equal to it belongs to them."""
    count = min(len(values), max(1, int(share * len(values) + 0.5)))
    if not count:
        return values.new_tensor(torch.inf), values.new_tensor(0.0)
    if values.device.type == "cpu":  # NumPy selects with vector instructions, 30 times as fast
        values.numpy().partition(len(values) - count)
        threshold = values[len(values) - count].clone()
    else:
        threshold = values.topk(count, sorted=False).values.min()
    return threshold, (count - (values > threshold).count_nonzero()) / (values == threshold).count_nonzero()
