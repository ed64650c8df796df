"""SegNet (Badrinarayanan, Kendall & Cipolla 2017)."""

import functools

import torch
from torch import nn

from bonepipe.models.factory import complete
from bonepipe.models.vgg import DECODER, VGG16, WIDTH, UnpoolingDecoder, convolution
from bonepipe.ranges import Count, Inside


def segnet(
    classes: int, /, *, width: Count = WIDTH, encoder_weights: str | None = None, prior: Inside = 0.01
) -> nn.Module:
    """SegNet: `[N, 1, h, w]` to logits `[N, classes, h, w]`.

    Args:
        width: channels of VGG's first stage; all others scale with it. 64 in the paper.
        encoder_weights: `imagenet`, or None to start from scratch.
        prior: see `factory.complete`.
    """
    network = SegNet(classes, width)
    network.encoder.load(encoder_weights)
    return complete(network, [network.head], prior)


class SegNet(nn.Module):
    """VGG-16 without its classifier, and its mirror, which puts each value back where the maximum was (section 3)."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.encoder = VGG16(width, batch_norm=True)
        block = functools.partial(convolution, batch_norm=True)
        self.decoder = UnpoolingDecoder(width, (*DECODER[:-1], (1,)), block)
        self.head = nn.Conv2d(width, classes, 3, padding=1)  # in place of the last mirrored convolution

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits `[N, C, h, w]` of images `[N, 1, h, w]`, sizes divisible by 32."""
        maps, switches = self.encoder(images)
        return self.head(self.decoder(maps[-1], switches))
