"""DeepLab v1 with a large field of view (Chen et al. 2015) and v2 with ASPP (Chen et al. 2018), without their CRF."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from bonepipe.models.factory import complete, dilated_encoder
from bonepipe.models.inspect import hidden_layers
from bonepipe.models.vgg import VGG16, fully_connected
from bonepipe.ranges import Count, Inside, Rest

OUTPUT_STRIDE = 8


def deeplab_v1(
    classes: int, /, *, width: Count = 64, dropout: Rest = 0.5, encoder_weights: str | None = None, prior: Inside = 0.01
) -> nn.Module:
    """DeepLab-LargeFOV on VGG-16: `[N, 1, h, w]` to logits `[N, classes, h, w]`.

    Args:
        width: channels of VGG's first stage; all others scale with it. 64 in the paper.
        dropout: after fc6 and fc7.
        encoder_weights: `imagenet`, with fc6 and fc7 subsampled from VGG's, or None to start from scratch.
        prior: see `factory.complete`.
    """
    network = DeepLabV1(classes, width, dropout)
    network.encoder.load(encoder_weights, hidden_layers(network))
    return complete(network, [network.score], prior, OUTPUT_STRIDE)


def deeplab_v2(
    classes: int,
    /,
    *,
    encoder: str = "resnet101",
    encoder_weights: str | None = None,
    rates: Sequence[Count] = (6, 12, 18, 24),
    prior: Inside = 0.01,
) -> nn.Module:
    """DeepLab v2, one scale: `[N, 1, h, w]` to logits `[N, classes, h, w]`.

    Args:
        encoder: one of smp's whose strides can be dilated; ResNet-101 in the paper.
        encoder_weights: name of pretrained weights, or None to start from scratch.
        rates: dilations of the parallel classifiers.
        prior: see `factory.complete`.

    Raises:
        ValueError: an unknown encoder, or one that cannot be dilated.
        BonepipeError: the pretrained weights cannot be had; the message names the override and the cache.
    """
    if not rates or min(rates) < 1:
        raise ValueError(f"rates={list(rates)} must be one or more dilations of at least 1")
    network = DeepLabV2(classes, dilated_encoder(encoder, encoder_weights, OUTPUT_STRIDE), rates)
    return complete(network, [network.pyramid[0]], prior, OUTPUT_STRIDE)


class DeepLabV1(nn.Module):
    """VGG-16 that keeps 1/8 of the resolution; fc6 has few taps far apart (section 4.2, "Field of View", table 2)."""

    def __init__(self, classes: int, width: int, dropout: float) -> None:
        super().__init__()
        self.encoder = VGG16(width, pools=((3, 2),) * 3 + ((3, 1),) * 2, dilations=(1, 1, 1, 1, 2))
        self.fully = fully_connected(width, 16 * width, kernel=3, dilation=12, dropout=dropout)
        self.score = nn.Conv2d(16 * width, classes, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits `[N, C, h, w]` of images `[N, 1, h, w]`, sizes divisible by 8."""
        maps, _ = self.encoder(images)
        return enlarge(self.score(self.fully(maps[-1])))


class DeepLabV2(nn.Module):
    """Atrous spatial pyramid pooling: the sum of classifiers that look at different distances (section 3.2, figure 4).

    Args:
        encoder: its last map is 1/8 of the image.
        rates: one classifier's dilation each.
    """

    def __init__(self, classes: int, encoder: nn.Module, rates: Sequence[int]) -> None:
        super().__init__()
        self.encoder = encoder
        channels = encoder.out_channels[-1]  # type: ignore[index]
        self.pyramid = nn.ModuleList(_classifier(channels, classes, rate) for rate in rates)  # type: ignore[arg-type]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits `[N, C, h, w]` of images `[N, 1, h, w]`, sizes divisible by 8."""
        features = self.encoder(images)[-1]
        scores = self.pyramid[0](features)
        for layer in self.pyramid[1:]:
            scores = scores + layer(features)
        return enlarge(scores)


def _classifier(inputs: int, classes: int, rate: int) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, classes, 3, padding=rate, dilation=rate)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def enlarge(scores: torch.Tensor) -> torch.Tensor:
    """Scores at 1/8 of the image's size, bilinearly at its size."""
    return functional.interpolate(scores, scale_factor=OUTPUT_STRIDE, mode="bilinear", align_corners=False)
