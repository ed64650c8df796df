"""HRNetV2: four parallel resolutions, joined at the finest (Wang et al., TPAMI 2020, arXiv 1908.07919)."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from bonepipe.models.factory import check_name, complete, timm_encoder
from bonepipe.models.weights import with_weights
from bonepipe.ranges import Inside

STREAMS = (1, 2, 3, 4)  # at strides 4, 8, 16 and 32; 0 would be the stem's


def hrnet(
    classes: int, /, *, variant: str = "hrnet_w18", encoder_weights: str | None = "imagenet", prior: Inside = 0.01
) -> nn.Module:
    """An HRNetV2 on timm's backbone for grey images of any size: `[N, 1, h, w]` to logits `[N, classes, h, w]`.

    Args:
        variant: timm's name of the backbone: hrnet_w18_small to hrnet_w64.
        encoder_weights: `imagenet` for timm's usual weights of the backbone, another of timm's tags, or None.
        prior: probability that the untrained model gives every pixel.

    Raises:
        ValueError: an unknown variant or tag.
        BonepipeError: the pretrained weights cannot be had; the message names the override and the cache.
    """
    import timm

    check_name("variant", variant, timm.list_models("hrnet_*"))
    name = timm_encoder(variant, encoder_weights)
    # feature_location "": the streams themselves, without what timm's classifier makes of them.
    settings: dict[str, Any] = {"in_chans": 1, "features_only": True, "feature_location": "", "out_indices": STREAMS}
    backbone = with_weights(
        variant, encoder_weights, lambda pretrained: timm.create_model(name, pretrained, **settings)
    )
    network = HRNetV2(classes, backbone)
    return complete(network, [network.head], prior)


class HRNetV2(nn.Module):
    """Timm's backbone of four streams, at strides 4, 8, 16 and 32, and the head of figure 4 (b). See `hrnet`."""

    def __init__(self, classes: int, backbone: Any) -> None:
        super().__init__()
        joined = sum(backbone.feature_info.channels())
        self.encoder = backbone
        self.head = nn.Sequential(
            nn.Conv2d(joined, joined, 1), nn.BatchNorm2d(joined), nn.ReLU(inplace=True), nn.Conv2d(joined, classes, 1)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits `[N, C, h, w]`."""
        finest, *coarser = self.encoder(images)
        enlarged = [functional.interpolate(maps, finest.shape[-2:], mode="bilinear") for maps in coarser]
        joined = torch.cat([finest, *enlarged], 1)
        return functional.interpolate(self.head(joined), images.shape[-2:], mode="bilinear")
