"""How well a network learns four radiographs by heart: what is wrong in its forward or backward pass shows here."""

from pathlib import Path

import torch
import yaml
from torch import nn

from bonepipe.config import conf_dir
from bonepipe.data.catalog import train_images
from bonepipe.data.spec import DataSpec
from bonepipe.data.store import prepare
from bonepipe.labels import bitplane
from bonepipe.labels.dice import SMOOTH
from bonepipe.training.loss_terms import soft_dice
from bonepipe.training.losses import DiceFocal
from bonepipe.training.module import normalise

IMAGES = 4


def four_radiographs(root: Path, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images float `[4, 1, size, size]` of different patients, and their 29 masks `[4, 29, size, size]` of 0 and 1."""
    node = yaml.safe_load((conf_dir() / "data" / "hand.yaml").read_text())
    spec = DataSpec(name="four", root=str(root), size=size, classes=tuple(node["classes"]))
    both_hands = train_images(spec)
    grey, planes = zip(*(prepare(image, spec)[:2] for image in both_hands[: 2 * IMAGES : 2]), strict=True)
    images = normalise(torch.stack([torch.from_numpy(g) for g in grey]), spec.mean, spec.std)
    return images, bitplane.unpack_torch(torch.stack([torch.from_numpy(p) for p in planes]), len(spec.classes)).float()


def overfit(
    model: nn.Module, images: torch.Tensor, targets: torch.Tensor, *, steps: int, lr: float, gamma: float = 2.0
) -> float:
    """Train on all images at once with Adam, then the mean hard Dice over images and classes in evaluation mode.

    The rate falls along a straight line to zero, after it has risen over the first twentieth of the steps.
    """
    loss, optimizer = DiceFocal(gamma=gamma), torch.optim.Adam(model.parameters(), lr, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / (0.05 * steps), 1 - step / steps)
    )
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model(images), targets).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # the next pass sets the statistics to those of these images at the final weights
    with torch.inference_mode():
        model(images)
        predictions = (model.eval()(images) > 0).float()
    areas = ((predictions * targets).sum((2, 3)), predictions.sum((2, 3)), targets.sum((2, 3)))
    return float(soft_dice(*areas, SMOOTH).mean())
