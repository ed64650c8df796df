"""A classifier that tells which classes an image shows, and where it looked: class activation maps."""

import torch
from torch import nn

from bonepipe.models.factory import dilated_encoder

STRIDES = (8, 16, 32)


class PresenceNet(nn.Module):
    """Encoder, 1 x 1 convolution to one map a class, mean over the map.

    The mean of a linear layer's maps equals the linear layer of the mean features, so the maps are the class activation
    maps (Zhou, Khosla, Lapedriza, Oliva and Torralba, "Learning deep features for discriminative localization", CVPR
    2016, equations 1 and 2), and the network classifies images of any size.

    Args:
        encoder: name of an encoder of segmentation_models_pytorch.
        encoder_weights: name of pretrained weights, or None to start from scratch.
        stride: image pixels a map's pixel; below 32 the last stages are dilated instead of strided.

    Raises:
        ValueError: an unknown encoder (the nearest name is suggested), other weights than it has, or another stride.
    """

    def __init__(self, classes: int, encoder: str, encoder_weights: str | None = None, stride: int = 8) -> None:
        super().__init__()
        if stride not in STRIDES:
            raise ValueError(f"stride={stride}: one of {', '.join(map(str, STRIDES))}")
        self.encoder = dilated_encoder(encoder, encoder_weights, stride, group="cam")
        self.classifier = nn.Conv2d(self.encoder.out_channels[-1], classes, 1)

    def maps(self, images: torch.Tensor) -> torch.Tensor:
        """Class activation maps `[N, C, h / stride, w / stride]` of images `[N, 1, h, w]`, sides rounded up."""
        height, width = images.shape[-2:]
        images = nn.functional.pad(images, (0, -width % 32, 0, -height % 32), mode="replicate")
        maps: torch.Tensor = self.classifier(self.encoder(images)[-1])
        stride = images.shape[-1] // maps.shape[-1]
        return maps[..., : -(-height // stride), : -(-width // stride)]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits `[N, C]` of the classes' presence."""
        return self.maps(images).mean((2, 3))
