"""The formulas that losses are made of: pure functions with one value a sample, so that a batch equals its parts.

Most take sums over pixels `[N, C]`, see `pixel_sums`. A pixel of weight w counts as w pixels of its class in every sum,
area and mean. At 0 the pixel does not exist, and a class none of whose pixels exist is left out of the mean over
classes.

Where a loss divides by an area, a `floor` says what share of the existing pixels the area at least counts as. Without
it an image or class with hardly any true pixels has hundreds of times its share of the gradient. Dice-like terms need
none: the slope smooth / (area + smooth) ** 2 of a class that does not occur leaves it less than its share.

The libraries' losses sum over the batch, which makes accumulated small batches differ from a large one, or take no
weights; where they can be asked the same question, the tests compare with them.
"""

import torch
from torch import Tensor
from torch.nn import functional

from bonepipe.training.pixel_sums import TINY, Labels


def soft_dice(overlap: Tensor, predicted: Tensor, true: Tensor, smooth: float) -> Tensor:
    """Soft Dice `[N, C]` of areas `[N, C]` (V-Net, section 3, with plain sums in the denominator)."""
    return (2 * overlap + smooth) / (predicted + true + smooth)


def soft_tversky(overlap: Tensor, predicted: Tensor, true: Tensor, alpha: float, beta: float, smooth: float) -> Tensor:
    """Tversky index `[N, C]` of areas `[N, C]` (Salehi 2017): false positives cost alpha, false negatives beta.

    At alpha = beta = 1 it is the Jaccard index, at 0.5 Dice.
    """
    return (overlap + smooth) / (overlap + alpha * (predicted - overlap) + beta * (true - overlap) + smooth)


def pixel_mean(sums: Tensor, existing: Tensor) -> Tensor:
    """Mean `[N]` over the existing pixels of all classes, of sums and numbers of pixels `[N, C]`."""
    return sums.sum(1) / existing.sum(1).clamp(min=TINY)


def positive_mean(sums: Tensor, labels: Labels, floor: float) -> Tensor:
    """Sums `[N, C]` over a sample's number of positive pixels, `[N]` (RetinaNet, section 4.1).

    The divisor is max(positive pixels, floor * existing pixels / C, 1). Section 4.1 counts anchors of images that all
    have objects; without a floor an image that has none would be divided by 1 and drown the rest of its batch. The
    floor is the sample's own, so that a batch still equals its parts.
    """
    least = (floor * labels.existing.mean(1)).clamp(min=1)
    return sums.sum(1) / torch.maximum(labels.area.sum(1), least)


def lovasz_hinge(
    logits: Tensor, targets: Tensor, weight: Tensor | None = None, margin: float = 1.0, floor: float = 0.0
) -> Tensor:
    """Lovász hinge `[N, C]`, per sample and class: the convex surrogate of the Jaccard loss (Berman 2018, section 3.1).

    The loss of a set of wrong pixels is their number over max(union, floor), which is submodular as the paper's is.
    Without a floor, the worst pixel alone would have the whole gradient of a class that does not occur.

    Args:
        margin: logit at which a right pixel costs nothing; 1 in the paper.
    """
    wrong, order = (margin - logits * (2 * targets - 1)).flatten(2).sort(-1, descending=True)
    truth = targets.flatten(2).gather(-1, order)
    measure = torch.ones_like(truth) if weight is None else weight.flatten(2).gather(-1, order)
    positive, negative = measure * truth, measure * (1 - truth)
    left = positive.sum(-1, keepdim=True) - positive.cumsum(-1)  # overlap once the worst pixels so far are wrong
    union = positive.sum(-1, keepdim=True) + negative.cumsum(-1)
    least = (floor * measure.sum(-1, keepdim=True)).clamp(min=TINY)
    jaccard_loss = (union - left) / torch.maximum(union, least)
    steps = torch.diff(jaccard_loss, prepend=torch.zeros_like(jaccard_loss[..., :1]))
    return (functional.relu(wrong) * steps).sum(-1)


def class_mean(losses: Tensor, existing: Tensor) -> Tensor:
    """Mean `[N]` of `[N, C]` over the classes that have pixels."""
    exists = existing > 0
    return (losses * exists).sum(1) / exists.sum(1).clamp(min=1)


def presence(logits: Tensor, labels: Labels) -> Tensor:
    """Binary cross entropy `[N]` of logits `[N, C]` that tell which classes occur in the targets.

    A class that does not occur, but some of whose pixels are ignored, is unknown and left out. Pixels that count for no
    class at all, as those beside an image in its frame, hide none, unless there are no others. (Of a single class
    pixels that nobody is sure of look like these.)
    """
    occurs = labels.area > 0
    entropy = functional.binary_cross_entropy_with_logits(logits, occurs.float(), reduction="none")
    if labels.weight is None:
        return entropy.mean(1)
    counts = labels.weight > 0
    beside = ~counts.any(1, keepdim=True)
    known = occurs | ((counts | beside).flatten(2).all(2) & counts.flatten(2).any(2))
    return (entropy * known).sum(1) / known.sum(1).clamp(min=1)
