"""U-Net at its original widths (Ronneberger, Fischer & Brox 2015)."""

import torch
from torch import nn

from bonepipe.models.factory import complete
from bonepipe.models.vgg import convolution
from bonepipe.ranges import Count, Inside, Rest

LEVELS = 5


def unet(
    classes: int,
    /,
    *,
    width: Count = 64,
    batch_norm: bool = False,
    dropout: Rest = 0.5,
    encoder_weights: None = None,
    prior: Inside = 0.01,
) -> nn.Module:
    """The original U-Net: `[N, 1, h, w]` to logits `[N, classes, h, w]`.

    Args:
        width: channels of the first level; each deeper one has twice as many. 64 in the paper.
        batch_norm: normalise after each 3 x 3 convolution; the paper does not.
        dropout: at the end of the contracting path (section 3.1).
        encoder_weights: there are none; taken so that a recipe may ask every model to start from scratch.
        prior: see `factory.complete`.
    """
    if width < 1:
        raise ValueError(f"width={width} must be at least 1")
    network = UNet(classes, width, batch_norm, dropout)
    return complete(network, [network.head], prior, stride=2 ** (LEVELS - 1))


class UNet(nn.Module):
    """Figure 1, but every convolution keeps the size, so that nothing is cropped from the skips."""

    def __init__(self, classes: int, width: int, batch_norm: bool, dropout: float) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(LEVELS)]
        self.encoder = nn.ModuleList(
            _twice(inputs, outputs, batch_norm) for inputs, outputs in zip([1, *widths], widths, strict=False)
        )
        self.pool, self.dropout = nn.MaxPool2d(2), nn.Dropout(dropout)
        steps = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(inputs, outputs, 2, 2) for inputs, outputs in steps)
        self.decoder = nn.ModuleList(_twice(inputs, outputs, batch_norm) for inputs, outputs in steps)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits `[N, C, h, w]` of images `[N, 1, h, w]`, sizes divisible by 16."""
        maps = [self.encoder[0](images)]
        for stage in self.encoder[1:]:
            maps.append(stage(self.pool(maps[-1])))
        features = self.dropout(maps.pop())
        for up, stage in zip(self.up, self.decoder, strict=True):
            features = stage(torch.cat([maps.pop(), up(features)], 1))
        return self.head(features)


def _twice(inputs: int, outputs: int, batch_norm: bool) -> nn.Sequential:
    """Two 3 x 3 convolutions with ReLU."""
    return nn.Sequential(
        *convolution(inputs, outputs, batch_norm=batch_norm), *convolution(outputs, outputs, batch_norm=batch_norm)
    )
