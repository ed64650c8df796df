"""Losses on logits and targets `[N, C, h, w]`: means over samples, so that a batch equals its parts."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from pydantic import ConfigDict
from torch import Tensor

from bonepipe.labels import boundary as boundaries
from bonepipe.models.outputs import Outputs
from bonepipe.ranges import Amount, Inside, Portion, Positive, Rest, Share
from bonepipe.training import loss_terms as terms
from bonepipe.training.pixel_sums import Labels, pixel_sums
from bonepipe.training.pixel_terms import Areas, FocalEntropy, WorstEntropy

Answer = Tensor | Outputs
Weight = Tensor | None


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """U-Net's weights of the pixels between objects, see `labels.boundary.weight_map`.

    Attributes:
        weight: what is added to a pixel's weight where two objects touch.
        sigma: width of the rise, in pixels at training size.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    weight: Amount = 10.0
    sigma: Positive = 5.0

    def __post_init__(self) -> None:
        if not (0 <= self.weight < math.inf and 0 < self.sigma < math.inf):
            raise ValueError(f"weight={self.weight} must not be negative and sigma={self.sigma} must be above 0")


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What all losses have in common.

    Called with logits or `Outputs`, targets `[N, C, h, w]` (0 to 1, the share of a pixel that is inside; or bytes, of
    how many `parts` of a pixel are), and optionally pixel weights `[N or 1, C or 1, h, w]`, not negative: a pixel of
    weight w counts as w pixels, and at 0 it does not exist. Logits may be of any precision.

    Attributes:
        label_smoothing: how far targets move towards one half in cross entropy and focal terms, and towards the class's
            share of the image in Dice-like terms (see `pixel_terms.Areas`); 0 leaves them alone.
        boundary: weights of pixels between objects, or None. They are made with the batch, not here.
        side_weight: of each output of deep supervision, where the network has such; its answer proper has 1.
        presence_weight: of the cross entropy of the head that tells which classes occur, where the network has one.
    """

    pair: ClassVar[tuple[str, ...]] = ()  # two settings of which one has to be above 0

    label_smoothing: Rest = 0.0
    boundary: Boundary | None = None
    side_weight: Amount = 0.5
    presence_weight: Amount = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing={self.label_smoothing} must be at least 0 and below 1")
        for name in ("side_weight", "presence_weight", *self.pair):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative")
        if self.pair and not any(getattr(self, name) for name in self.pair):
            raise ValueError(f"{' and '.join(self.pair)} are both 0, so there is nothing to learn from")

    def __call__(self, answer: Answer, targets: Tensor, weight: Weight = None, parts: int = 1) -> Tensor:
        """Scalar loss in float32, whatever the precision of the logits."""
        return self.each(answer, targets, weight, parts).mean()

    def each(self, answer: Answer, targets: Tensor, weight: Weight = None, parts: int = 1) -> Tensor:
        """Loss of each sample, float32 `[N]`."""
        labels = Labels(targets, None if weight is None else weight.float().expand_as(targets), parts)
        if not isinstance(answer, Outputs):
            return self.of_labels(answer, labels).float()
        main, *sides = (self.of_labels(logits, labels) for logits in answer.maps)
        total = main + self.side_weight * torch.stack(sides).sum(0) if sides else main
        if answer.presence is not None:
            total = total + self.presence_weight * terms.presence(answer.presence.float(), labels)
        return total.float()

    def of_labels(self, logits: Tensor, labels: Labels) -> Tensor:
        """Loss of each sample `[N]`; where sums over pixels do, `pixel_sums` needs least time and memory."""
        return self.of_logits(logits.float(), labels.targets.float() / labels.parts, labels.weight)

    def of_logits(self, logits: Tensor, targets: Tensor, weight: Weight) -> Tensor:
        """The same where autograd does all; everything is float32 and of one shape."""
        raise NotImplementedError

    def pixel_weights(self, classes: int) -> Callable[[np.ndarray], np.ndarray] | None:
        """What makes an image's weights float32 `[h, w]` of its planes, or None where all pixels count alike."""
        if self.boundary is None:
            return None
        return partial(boundaries.weight_map, classes=classes, weight=self.boundary.weight, sigma=self.boundary.sigma)


@dataclass(frozen=True, kw_only=True)
class BinaryCrossEntropy(Loss):
    """Cross entropy of one sigmoid a class, averaged over all pixels and classes."""

    def of_labels(self, logits: Tensor, labels: Labels) -> Tensor:
        """Cross entropy of each sample."""
        (entropy,) = pixel_sums(logits, labels, FocalEntropy(smoothing=self.label_smoothing))
        return terms.pixel_mean(entropy, labels.existing)


@dataclass(frozen=True, kw_only=True)
class Focal(Loss):
    """Focal loss over the number of positive pixels.

    Attributes:
        gamma: focusing exponent; 0 gives cross entropy.
        alpha: weight of positive pixels, 1 - alpha of negative ones; None for no weighting.
        focal_floor: share of the image that the positive pixels at least count as, all classes together.
    """

    gamma: Amount = 2.0
    alpha: Inside | None = None
    focal_floor: Share = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_focal(self.gamma, self.alpha)
        _check_share("focal_floor", self.focal_floor)

    def of_labels(self, logits: Tensor, labels: Labels) -> Tensor:
        """Focal loss of each sample."""
        (focal,) = pixel_sums(logits, labels, FocalEntropy(self.gamma, self.alpha, self.label_smoothing))
        return terms.positive_mean(focal, labels, self.focal_floor)


@dataclass(frozen=True, kw_only=True)
class Overlap(Loss):
    """One minus an index of overlap, per sample and class.

    Attributes:
        smooth: added to numerator and denominator of the index, in pixels.
    """

    smooth: Positive = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.smooth > 0:
            raise ValueError(f"smooth={self.smooth} must be above 0, or a class that occurs nowhere gives 0 / 0")

    def index(self, overlap: Tensor, predicted: Tensor, true: Tensor) -> Tensor:
        """The index of areas, all `[N, C]`."""
        raise NotImplementedError

    def of_labels(self, logits: Tensor, labels: Labels) -> Tensor:
        """Mean over classes of one minus the index."""
        overlap, predicted = pixel_sums(logits, labels, self.areas(labels))
        return self.of_areas(overlap, predicted, labels)

    def areas(self, labels: Labels) -> Areas:
        """The areas to be summed, with smoothed labels."""
        return Areas.of(labels, self.label_smoothing)

    def of_areas(self, overlap: Tensor, predicted: Tensor, labels: Labels) -> Tensor:
        """Loss of each sample, of its sums."""
        return terms.class_mean(1 - self.index(overlap, predicted, labels.area), labels.existing)


@dataclass(frozen=True, kw_only=True)
class Tversky(Overlap):
    """One minus the Tversky index, per sample and class.

    Attributes:
        alpha, beta: costs of false positives and of false negatives; beta above alpha favours recall.
    """

    pair = ("alpha", "beta")

    alpha: Amount = 0.3
    beta: Amount = 0.7

    def index(self, overlap: Tensor, predicted: Tensor, true: Tensor) -> Tensor:
        """The Tversky index."""
        return terms.soft_tversky(overlap, predicted, true, self.alpha, self.beta, self.smooth)


@dataclass(frozen=True, kw_only=True)
class Jaccard(Overlap):
    """One minus the soft Jaccard index (intersection over union), per sample and class."""

    def index(self, overlap: Tensor, predicted: Tensor, true: Tensor) -> Tensor:
        """Intersection over union."""
        return terms.soft_tversky(overlap, predicted, true, 1.0, 1.0, self.smooth)


@dataclass(frozen=True, kw_only=True)
class Dice(Overlap):
    """One minus soft Dice, per sample and class; the first of two terms in the sums below."""

    def index(self, overlap: Tensor, predicted: Tensor, true: Tensor) -> Tensor:
        """Soft Dice."""
        return terms.soft_dice(overlap, predicted, true, self.smooth)


@dataclass(frozen=True, kw_only=True)
class Lovasz(Loss):
    """Lovász hinge, per sample and class; label smoothing lowers its margin from 1 to 1 - label_smoothing.

    Attributes:
        class_floor: share of the image that the union of a class and its errors at least counts as.
    """

    class_floor: Share = 0.001

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_share("class_floor", self.class_floor)

    def of_logits(self, logits: Tensor, targets: Tensor, weight: Weight) -> Tensor:
        """Mean over classes of the hinge; a pixel that is covered in part counts as inside from one half on."""
        margin, targets = 1 - self.label_smoothing, (targets >= 0.5).float()
        hinge = terms.lovasz_hinge(logits, targets, weight, margin, self.class_floor)
        return terms.class_mean(hinge, Labels(targets, weight).existing)


@dataclass(frozen=True, kw_only=True)
class DiceFocal(Dice):
    """Weighted sum of soft Dice and focal loss.

    Attributes:
        gamma: focusing exponent; 0 gives cross entropy.
        alpha: weight of positive pixels, 1 - alpha of negative ones; None for no weighting.
        focal_floor: None averages the focal loss over all pixels; a share of the image divides it by the positive ones
            instead, which at least count as that share.
    """

    pair = ("dice_weight", "focal_weight")

    dice_weight: Amount = 1.0
    focal_weight: Amount = 4.0
    gamma: Amount = 2.0
    alpha: Inside | None = None
    focal_floor: Share | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_focal(self.gamma, self.alpha)
        if self.focal_floor is not None:
            _check_share("focal_floor", self.focal_floor)

    def of_labels(self, logits: Tensor, labels: Labels) -> Tensor:
        """Both terms of each sample."""
        term = FocalEntropy(self.gamma, self.alpha, self.label_smoothing)
        overlap, predicted, focal = pixel_sums(logits, labels, self.areas(labels), term)
        if self.focal_floor is None:  # keeps the terms in proportion, whatever the number of classes and their sizes
            second = terms.pixel_mean(focal, labels.existing)
        else:
            second = terms.positive_mean(focal, labels, self.focal_floor)
        return self.dice_weight * self.of_areas(overlap, predicted, labels) + self.focal_weight * second


@dataclass(frozen=True, kw_only=True)
class BCEDice(Dice):
    """Weighted sum of binary cross entropy and soft Dice."""

    pair = ("bce_weight", "dice_weight")

    bce_weight: Amount = 1.0
    dice_weight: Amount = 1.0

    def of_labels(self, logits: Tensor, labels: Labels) -> Tensor:
        """Both terms of each sample."""
        term = FocalEntropy(smoothing=self.label_smoothing)
        overlap, predicted, entropy = pixel_sums(logits, labels, self.areas(labels), term)
        second = terms.pixel_mean(entropy, labels.existing)
        return self.dice_weight * self.of_areas(overlap, predicted, labels) + self.bce_weight * second


@dataclass(frozen=True, kw_only=True)
class DiceTopK(Dice):
    """Weighted sum of soft Dice and the cross entropy of each sample's worst pixels.

    Attributes:
        k: share of the pixels that counts as the worst, above 0 and at most 1 (all pixels: plain cross entropy).
    """

    pair = ("dice_weight", "topk_weight")

    dice_weight: Amount = 1.0
    topk_weight: Amount = 1.0
    k: Portion = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.k <= 1:
            raise ValueError(
                f"k={self.k}: the share of pixels that the loss looks at must be above 0, or there is nothing to learn "
                "from, and at most 1, which is all of them; for example k=0.1"
            )

    def of_labels(self, logits: Tensor, labels: Labels) -> Tensor:
        """Both terms of each sample."""
        term = WorstEntropy.of(logits, labels, self.k, self.label_smoothing)
        overlap, predicted, entropy, chosen = pixel_sums(logits, labels, self.areas(labels), term)
        second = terms.pixel_mean(entropy, chosen)
        return self.dice_weight * self.of_areas(overlap, predicted, labels) + self.topk_weight * second


def _check_focal(gamma: float, alpha: float | None) -> None:
    if not gamma >= 0 or (alpha is not None and not 0 < alpha < 1):
        raise ValueError(f"gamma={gamma} must not be negative and alpha={alpha} must lie between 0 and 1")


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name}={value}: a share of the image, from 0 to 1")
