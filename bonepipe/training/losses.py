"""Losses on logits and binary targets `[N, C, h, w]`: means over samples, so that a batch equals its parts."""

import torch
from torch import nn
from torch.nn import functional


def soft_dice(probabilities: torch.Tensor, targets: torch.Tensor, smooth: float) -> torch.Tensor:
    """Soft Dice `[N, C]`, per sample and class (V-Net, section 3, with plain sums in the denominator)."""
    overlap = (probabilities * targets).sum((2, 3))
    return (2 * overlap + smooth) / (probabilities.sum((2, 3)) + targets.sum((2, 3)) + smooth)


def focal(logits: torch.Tensor, targets: torch.Tensor, gamma: float, alpha: float | None) -> torch.Tensor:
    """Focal loss `[N]` of each sample over its number of positive pixels (RetinaNet, equations 4-5, section 4.1).

    The many easy pixels of the background would otherwise set the scale: from scratch, dividing by all pixels stalls.
    """
    entropy = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    wrong = 1 - torch.exp(-entropy)  # exp(-entropy) is the probability given to the truth
    if gamma < 1:
        wrong = wrong.clamp(min=1e-8)  # at 0 the power's slope is infinite, and infinity times 0 is not a number
    loss = wrong**gamma * entropy
    if alpha is not None:
        loss = loss * (alpha * targets + (1 - alpha) * (1 - targets))
    return loss.sum((1, 2, 3)) / targets.sum((1, 2, 3)).clamp(min=1)


class DiceFocal(nn.Module):
    """Weighted sum of soft Dice and focal loss.

    Args:
        dice_weight, focal_weight: of the two terms.
        gamma: focusing exponent; 0 gives cross entropy.
        alpha: weight of positive pixels, 1 - alpha of negative ones; None for no weighting.
        smooth: added to numerator and denominator of Dice, in pixels.
    """

    def __init__(
        self,
        *,
        dice_weight: float = 1.0,
        focal_weight: float = 1.0,
        gamma: float = 2.0,
        alpha: float | None = None,
        smooth: float = 1.0,
    ) -> None:
        super().__init__()
        if gamma < 0 or (alpha is not None and not 0 < alpha < 1):
            raise ValueError(f"gamma={gamma} must not be negative and alpha={alpha} must lie between 0 and 1")
        self.dice_weight, self.focal_weight = dice_weight, focal_weight
        self.gamma, self.alpha, self.smooth = gamma, alpha, smooth

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Scalar loss in float32, whatever the precision of the logits."""
        logits, targets = logits.float(), targets.float()
        dice = 1 - soft_dice(logits.sigmoid(), targets, self.smooth).mean(1)
        return (self.dice_weight * dice + self.focal_weight * focal(logits, targets, self.gamma, self.alpha)).mean()


class BinaryCrossEntropy(nn.Module):
    """Cross entropy of one sigmoid a class, averaged over all pixels and classes."""

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Scalar loss in float32."""
        return functional.binary_cross_entropy_with_logits(logits.float(), targets.float())
