"""FCN-32s, FCN-16s and FCN-8s on VGG-16 (Long, Shelhamer & Darrell 2015)."""

from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from bonepipe.models.factory import complete
from bonepipe.models.inspect import hidden_layers
from bonepipe.models.vgg import CHANNELS, VGG16, WIDTH, fully_connected
from bonepipe.ranges import Count, Inside, Rest


def fcn(
    classes: int,
    /,
    *,
    stride: Literal[8, 16, 32] = 8,
    width: Count = WIDTH,
    dropout: Rest = 0.5,
    encoder_weights: str | None = None,
    prior: Inside = 0.01,
) -> nn.Module:
    """FCN with its finest prediction at 1 / `stride` of the image: `[N, 1, h, w]` to logits `[N, classes, h, w]`.

    Args:
        stride: 32 (FCN-32s), 16 (FCN-16s) or 8 (FCN-8s).
        width: channels of VGG's first stage; all others scale with it. 64 in the paper.
        dropout: after fc6 and fc7.
        encoder_weights: `imagenet`, also for fc6 and fc7, or None to start from scratch.
        prior: see `factory.complete`.
    """
    network = FCN(classes, stride, width, dropout)
    network.encoder.load(encoder_weights, hidden_layers(network))
    return complete(network, [network.score], prior)


class FCN(nn.Module):
    """VGG-16 whose classifier slides over the image; skips from shallower stages sharpen its scores (section 4).

    The paper pads the image by 100 pixels and crops at the end; here every convolution keeps the size.
    """

    def __init__(self, classes: int, stride: int, width: int, dropout: float) -> None:
        super().__init__()
        depth = {32: 0, 16: 1, 8: 2}[stride]
        self.encoder = VGG16(width)
        self.fully = fully_connected(width, 64 * width, kernel=7, dropout=dropout)
        self.score = nn.Conv2d(64 * width, classes, 1)
        self.skips = nn.ModuleList(_skip(CHANNELS[-2 - number] * width, classes) for number in range(depth))
        self.twice = nn.ModuleList(Upsampling(classes, 2) for _ in range(depth))
        self.last = Upsampling(classes, stride)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits `[N, C, h, w]` of images `[N, 1, h, w]`, sizes divisible by 32."""
        maps, _ = self.encoder(images)
        scores = self.score(self.fully(maps[-1]))
        for twice, skip, finer in zip(self.twice, self.skips, reversed(maps[:-1]), strict=False):
            scores = twice(scores) + skip(finer)
        return self.last(scores)


def _skip(inputs: int, classes: int) -> nn.Conv2d:
    """Scores of a shallower stage; at zero, so that training starts from the coarser network (section 4.2)."""
    layer = nn.Conv2d(inputs, classes, 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


class Upsampling(nn.Module):
    """A transposed convolution a class that starts as bilinear interpolation and learns (section 3.3).

    Edges are repeated first: the coarse map goes on beyond the image, as `functional.interpolate` has it.
    """

    def __init__(self, classes: int, factor: int) -> None:
        super().__init__()
        # One cell of `factor` pixels is added at each end and cut off again, besides the kernel's overhang.
        padding = factor // 2 + factor
        self.layer = nn.ConvTranspose2d(
            classes, classes, 2 * factor, factor, padding=padding, groups=classes, bias=False
        )
        with torch.no_grad():
            self.layer.weight.copy_(bilinear_kernel(factor).expand_as(self.layer.weight))

    def forward(self, scores: torch.Tensor) -> torch.Tensor:
        """`[N, C, h, w]` to `[N, C, factor * h, factor * w]`."""
        return self.layer(functional.pad(scores, (1, 1, 1, 1), mode="replicate"))


def bilinear_kernel(factor: int) -> torch.Tensor:
    """Weights `[2 factor, 2 factor]` of a transposed convolution that interpolates; `factor` is even."""
    distance = (torch.arange(2 * factor) - (2 * factor - 1) / 2).abs() / factor
    return torch.outer(1 - distance, 1 - distance)
