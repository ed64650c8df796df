"""The terms that losses are made of: pure functions with one value a sample, so that a batch equals its parts.

Everywhere: logits and targets (0 to 1, the share of a pixel that is inside) are float32 `[N, C, h, w]`. `weight` is
None or float32 of the same shape, not negative: a pixel of weight w counts as w pixels of its class, in every sum, area
and mean. At 0 the pixel does not exist, and a class none of whose pixels exist is left out of the mean over classes.

Where a loss divides by an area, a `floor` says what share of the existing pixels the area at least counts as. Without
it an image or class with hardly any true pixels has hundreds of times its share of the gradient. Dice-like terms need
none: the slope smooth / (area + smooth) ** 2 of a class that does not occur leaves it less than its share.

The libraries' losses sum over the batch, which makes accumulated small batches differ from a large one, or take no
weights; where they can be asked the same question, the tests compare with them.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

Weight = Tensor | None
TINY = 1e-12  # keeps 0 / 0, of a sample whose pixels are all ignored, at 0


def soft_dice(probabilities: Tensor, targets: Tensor, smooth: float, weight: Weight = None) -> Tensor:
    """Soft Dice `[N, C]`, per sample and class (V-Net, section 3, with plain sums in the denominator)."""
    overlap, predicted, true = _areas(probabilities, targets, weight)
    return (2 * overlap + smooth) / (predicted + true + smooth)


def soft_tversky(
    probabilities: Tensor, targets: Tensor, alpha: float, beta: float, smooth: float, weight: Weight = None
) -> Tensor:
    """Tversky index `[N, C]` (Salehi 2017): false positives cost alpha, false negatives beta.

    At alpha = beta = 1 it is the Jaccard index, at 0.5 Dice.
    """
    overlap, predicted, true = _areas(probabilities, targets, weight)
    return (overlap + smooth) / (overlap + alpha * (predicted - overlap) + beta * (true - overlap) + smooth)


def _areas(probabilities: Tensor, targets: Tensor, weight: Weight) -> tuple[Tensor, Tensor, Tensor]:
    """Areas `[N, C]` of the overlap, the prediction and the truth.

    The overlap of a pixel is the smaller of the two (Wang 2023, "Dice semimetric losses", section 3): of a pixel that
    is inside or outside it is the product, and of one that is covered in part it is largest where the two are equal.
    The product would be largest where the prediction is 1.
    """
    overlap = torch.minimum(probabilities, targets)
    if weight is None:
        return overlap.sum((2, 3)), probabilities.sum((2, 3)), targets.sum((2, 3))
    return (overlap * weight).sum((2, 3)), (probabilities * weight).sum((2, 3)), (targets * weight).sum((2, 3))


def _pixels(targets: Tensor, weight: Weight) -> Tensor:
    """How many pixels exist, `[N, C]`."""
    return torch.full_like(targets[..., 0, 0], targets[0, 0].numel()) if weight is None else weight.sum((2, 3))


def entropy(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Binary cross entropy of every element, of any shape; smoothing moves the targets towards one half."""
    if smoothing:
        targets = targets * (1 - smoothing) + smoothing / 2
    return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")


def cross_entropy(logits: Tensor, targets: Tensor, weight: Weight = None, smoothing: float = 0.0) -> Tensor:
    """Binary cross entropy `[N]`, the mean over pixels and classes."""
    pixels = entropy(logits, targets, smoothing)
    if weight is None:
        return pixels.mean((1, 2, 3))
    return (pixels * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3)).clamp(min=TINY)


def focal(
    logits: Tensor,
    targets: Tensor,
    gamma: float,
    alpha: float | None,
    weight: Weight = None,
    smoothing: float = 0.0,
    floor: float | None = 0.0,
) -> Tensor:
    """Focal loss `[N]` of each sample over its number of positive pixels (RetinaNet, equations 4-5, section 4.1).

    The divisor is max(positive pixels, floor * existing pixels / C, 1). Section 4.1 counts anchors of images that all
    have objects; without a floor an image that has none would be divided by 1 and drown the rest of its batch. The
    floor is the sample's own, so that a batch still equals its parts.

    Where the floor is None the divisor is the number of existing pixels of all classes, as in `cross_entropy`. Beside
    another term that keeps the weights of the two in proportion, whatever the number of classes and their sizes.
    """
    pixels = entropy(logits, targets, smoothing)
    wrong = 1 - torch.exp(-pixels)  # exp(-entropy) is the probability given to the truth
    if gamma < 1:
        wrong = wrong.clamp(min=1e-8)  # at 0 the power's slope is infinite, and infinity times 0 is not a number
    loss = wrong**gamma * pixels
    if alpha is not None:
        loss = loss * (alpha * targets + (1 - alpha) * (1 - targets))
    if floor is None:
        existing = _pixels(targets, weight).sum(1).clamp(min=TINY)
        return (loss if weight is None else loss * weight).sum((1, 2, 3)) / existing
    least = (floor * _pixels(targets, weight).mean(1)).clamp(min=1)
    if weight is not None:
        loss, targets = loss * weight, targets * weight
    return loss.sum((1, 2, 3)) / torch.maximum(targets.sum((1, 2, 3)), least)


def top_k(logits: Tensor, targets: Tensor, share: float, weight: Weight = None, smoothing: float = 0.0) -> Tensor:
    """Mean cross entropy `[N]` of each sample's worst pixels, all classes together (Wu 2016, online bootstrapping).

    Args:
        share: of the existing pixels, above 0 and at most 1; at least one pixel is taken.
    """
    pixels = entropy(logits, targets, smoothing)
    if weight is None:
        worst = (sample.flatten().topk(_count(sample, share), sorted=False).values for sample in pixels)
        return torch.stack([values.mean() for values in worst])
    return torch.stack([_weighted_worst(*pair, share) for pair in zip(pixels, weight, strict=True)])


def _weighted_worst(pixels: Tensor, weight: Tensor, share: float) -> Tensor:
    exists = weight > 0
    values, weights = pixels[exists], weight[exists]
    worst = values.topk(_count(values, share), sorted=False)
    chosen = weights[worst.indices]
    return (worst.values * chosen).sum() / chosen.sum().clamp(min=TINY)


def _count(values: Tensor, share: float) -> int:
    return min(values.numel(), max(1, math.floor(share * values.numel() + 0.5)))


def lovasz_hinge(
    logits: Tensor, targets: Tensor, weight: Weight = None, margin: float = 1.0, floor: float = 0.0
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


def class_mean(losses: Tensor, weight: Weight = None) -> Tensor:
    """Mean `[N]` of `[N, C]` over the classes that have pixels."""
    if weight is None:
        return losses.mean(1)
    exists = (weight > 0).flatten(2).any(2)
    return (losses * exists).sum(1) / exists.sum(1).clamp(min=1)


def towards_share(targets: Tensor, weight: Weight, smoothing: float) -> Tensor:
    """Targets moved towards the class's share of the image, so that areas stay as they are.

    Moved towards one half as in cross entropy, a large image's background would outweigh a small class, whose best
    Dice would then be had by predicting it everywhere. Szegedy 2016, section 7, allows any prior in its place.
    """
    if not smoothing:
        return targets
    if weight is None:
        share = targets.mean((2, 3), keepdim=True)
    else:
        share = (targets * weight).sum((2, 3), keepdim=True) / weight.sum((2, 3), keepdim=True).clamp(min=TINY)
    return targets * (1 - smoothing) + smoothing * share


def presence(logits: Tensor, targets: Tensor, weight: Weight = None) -> Tensor:
    """Binary cross entropy `[N]` of logits `[N, C]` that tell which classes occur in the targets.

    A class that does not occur, but some of whose pixels are ignored, is unknown and left out.
    """
    if weight is None:
        return entropy(logits, (targets > 0).flatten(2).any(2).float()).mean(1)
    exists = weight > 0
    occurs = ((targets > 0) & exists).flatten(2).any(2).float()
    known = (occurs > 0) | exists.flatten(2).all(2)
    return (entropy(logits, occurs) * known).sum(1) / known.sum(1).clamp(min=1)
