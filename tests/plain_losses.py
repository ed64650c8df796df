"""The losses as autograd does them, whole tensors at a time: what bonepipe's must equal, and be faster than.

Logits and targets (0 to 1) are float32 `[N, C, h, w]`, `weight` is of that shape or None; every loss is one a sample,
`[N]`.
"""

import torch
from torch.nn import functional

TINY = 1e-12


def entropies(logits, targets, smoothing=0.0):
    """Binary cross entropy of each pixel, targets moved towards one half."""
    if smoothing:
        targets = targets * (1 - smoothing) + smoothing / 2
    return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")


def mean(values, weight):
    """Over the pixels that exist."""
    if weight is None:
        return values.mean((1, 2, 3))
    return (values * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3)).clamp(min=TINY)


def bce(logits, targets, weight=None, smoothing=0.0):
    """Mean over all pixels."""
    return mean(entropies(logits, targets, smoothing), weight)


def focal(logits, targets, weight=None, smoothing=0.0, gamma=2.0, alpha=None, floor=None):
    """Mean over all pixels, or with a floor over the positive ones, at least that share of the image, at least one."""
    entropy = entropies(logits, targets, smoothing)
    wrong = 1 - torch.exp(-entropy)
    loss = (wrong.clamp(min=1e-8) if gamma < 1 else wrong) ** gamma * entropy
    if alpha is not None:
        loss = loss * (alpha * targets + (1 - alpha) * (1 - targets))
    if floor is None:
        return mean(loss, weight)
    pixels = torch.ones_like(targets) if weight is None else weight
    least = (floor * pixels.sum((2, 3)).mean(1)).clamp(min=1)
    return (loss * pixels).sum((1, 2, 3)) / torch.maximum((targets * pixels).sum((1, 2, 3)), least)


def tversky(logits, targets, weight=None, smoothing=0.0, alpha=0.5, beta=0.5, smooth=0.5):
    """One minus the index, mean over the classes that have pixels; as it stands it is Dice."""
    if smoothing:
        pixels = torch.ones_like(targets) if weight is None else weight
        share = (targets * pixels).sum((2, 3), keepdim=True) / pixels.sum((2, 3), keepdim=True).clamp(min=TINY)
        targets = targets * (1 - smoothing) + smoothing * share
    probabilities = logits.sigmoid()
    maps = (torch.minimum(probabilities, targets), probabilities, targets)
    overlap, predicted, true = ((m if weight is None else m * weight).sum((2, 3)) for m in maps)
    index = (overlap + smooth) / (overlap + alpha * (predicted - overlap) + beta * (true - overlap) + smooth)
    if weight is None:
        return (1 - index).mean(1)
    exists = (weight > 0).flatten(2).any(2)
    return ((1 - index) * exists).sum(1) / exists.sum(1).clamp(min=1)


def top_k(logits, targets, k, weight=None, smoothing=0.0):
    """Weighted mean of the worst of the pixels that exist."""
    means = []
    for index, entropy in enumerate(entropies(logits, targets, smoothing)):
        values = entropy.flatten() if weight is None else entropy[weight[index] > 0]
        worst = values.topk(min(len(values), max(1, int(k * len(values) + 0.5))), sorted=False)
        if weight is None:
            means.append(worst.values.mean())
            continue
        chosen = weight[index][weight[index] > 0][worst.indices]
        means.append((worst.values * chosen).sum() / chosen.sum().clamp(min=TINY))
    return torch.stack(means)
