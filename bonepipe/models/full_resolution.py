"""The level of a U-Net that sees the image at full resolution, for decoders that lack it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from bonepipe.models.parts import conv_block


class FullResolution(nn.Module):
    """A decoder whose maps meet features of the image itself.

    The first level of U-Net convolves the whole image, and the last joins what it found (Ronneberger et al. 2015,
    figure 1). Encoders made for classification halve the image at once, and a decoder on top of them draws the outlines
    of small bones from maps of half the size.

    Args:
        decoder: makes maps `[N, inputs, h, w]` of features, of which the image `[N, 1, h, w]` is the first.
        inputs: channels of these maps.
        width: channels of the answer `[N, width, h, w]`; half as many are made of the image.
    """

    def __init__(self, decoder: nn.Module, inputs: int, width: int) -> None:
        super().__init__()
        of_image = -(-width // 2)
        self.decoder, self.stem = decoder, conv_block(1, of_image)
        self.join = conv_block(inputs + of_image, width)

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Maps at the image's size."""
        maps: torch.Tensor = self.join(torch.cat([self.decoder(features), self.stem(features[0])], dim=1))
        return maps


def see_full_resolution(network: Any, architecture: str, classes: int, width: int) -> None:
    """Give an smp network such a decoder, and a head on it. Raises ValueError for a decoder whose maps are smaller."""
    import segmentation_models_pytorch as smp

    convolution, upsampling, _ = network.segmentation_head
    if not isinstance(upsampling, nn.Identity):
        raise ValueError(f"full_resolution={width}: the decoder of {architecture} ends at less; that of Unet does not")
    network.decoder = FullResolution(network.decoder, convolution.in_channels, width)
    network.segmentation_head = smp.base.SegmentationHead(width, classes, kernel_size=1)
