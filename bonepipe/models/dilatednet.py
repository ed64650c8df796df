"""DilatedNet (Yu & Koltun 2016): a VGG-16 front end that keeps 1/8 of the resolution, and a context module."""

from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from bonepipe.models.factory import complete
from bonepipe.models.inspect import hidden_layers
from bonepipe.models.vgg import POOLS, VGG16, WIDTH, fully_connected
from bonepipe.ranges import Count, Inside, Rest

DILATIONS = (1, 1, 2, 4, 8, 16, 1, 1)  # of the context module's layers; the last layer is 1 x 1 (table 1)
CONTEXTS = {"none": (), "basic": (1,) * 8, "large": (2, 2, 4, 8, 16, 32, 32, 1)}  # output channels, in classes
NOISE = 1e-3  # deviation of the large module's noise, as a part of the weight that it is added to
OPEN = 1.0  # see DilatedNet


def dilatednet(
    classes: int,
    /,
    *,
    context: Literal["none", "basic", "large"] = "basic",
    width: Count = WIDTH,
    dropout: Rest = 0.5,
    encoder_weights: str | None = None,
    prior: Inside = 0.01,
) -> nn.Module:
    """DilatedNet: `[N, 1, h, w]` to logits `[N, classes, h, w]`.

    Args:
        context: which context module follows the front end (table 1).
        width: channels of VGG's first stage; all others scale with it. 64 in the paper.
        dropout: after fc6 and fc7.
        encoder_weights: `imagenet`, also for fc6 and fc7, or None to start from scratch.
        prior: see `factory.complete`.
    """
    network = DilatedNet(classes, context, width, dropout)
    network.encoder.load(encoder_weights, hidden_layers(network))
    return complete(network, [network.context if context != "none" else network.score], prior, stride=8)


class DilatedNet(nn.Module):
    """The front end (section 4) lacks VGG's last two poolings; later layers are dilated by what they would have halved.

    The paper trains the front end first, so that scores are positive where a class is. Here everything starts together,
    at scores around zero, where the context module's ReLUs would silence many classes for good: `OPEN` lifts the
    scores above zero for the module's identity and is taken off again behind it.
    """

    def __init__(self, classes: int, context: str, width: int, dropout: float) -> None:
        super().__init__()
        self.encoder = VGG16(width, pools=(*POOLS[:3], (1, 1), (1, 1)), dilations=(1, 1, 1, 1, 2))
        self.fully = fully_connected(width, 64 * width, kernel=7, dilation=4, dropout=dropout)
        self.score = nn.Conv2d(64 * width, classes, 1)
        nn.init.normal_(self.score.weight, std=0.1 * (64 * width) ** -0.5)
        nn.init.zeros_(self.score.bias)  # type: ignore[arg-type]
        self.context = context_module(classes, CONTEXTS[context])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits `[N, C, h, w]` of images `[N, 1, h, w]`, sizes divisible by 8."""
        maps, _ = self.encoder(images)
        scores = self.score(self.fully(maps[-1]))
        scores = self.context(scores + OPEN) - OPEN
        return functional.interpolate(scores, scale_factor=8, mode="bilinear", align_corners=False)


def context_module(classes: int, widths: tuple[int, ...]) -> nn.Sequential:
    """Layers `[N, C, h, w]` to `[N, C, h, w]` that see ever more around a pixel and start as the identity (section 3).

    Args:
        widths: output channels of each layer, in classes; empty for no module.
    """
    layers: list[nn.Module] = []
    for number, (inputs, outputs) in enumerate(zip((1, *widths), widths, strict=False)):
        kernel = 1 if number == len(widths) - 1 else 3
        padding = DILATIONS[number] * (kernel // 2)
        layer = nn.Conv2d(inputs * classes, outputs * classes, kernel, padding=padding, dilation=DILATIONS[number])
        identity_(layer, classes, noise=NOISE if max(widths) > 1 else 0)
        layers += [layer, nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-1])


def identity_(layer: nn.Conv2d, classes: int, noise: float) -> None:
    """Let a layer hand on each class's channels, shared evenly among its outputs for that class (equations 4 and 5).

    Args:
        layer: input and output channels are multiples of `classes`.
        noise: deviation of what is added to every weight, as a part of the share.
    """
    outputs, inputs, kernel, _ = layer.weight.shape
    share = classes / outputs
    same = torch.arange(outputs)[:, None] * classes // outputs == torch.arange(inputs) * classes // inputs
    with torch.no_grad():
        layer.weight.normal_(0, 1).mul_(noise * share)
        layer.weight[:, :, kernel // 2, kernel // 2] += share * same
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
