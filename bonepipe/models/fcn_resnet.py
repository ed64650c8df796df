"""Torchvision's FCN on a dilated ResNet-50, the organisers' baseline (after Long, Shelhamer & Darrell 2015)."""

import torch
from torch import nn
from torch.nn import functional

from bonepipe.models import weights
from bonepipe.models.factory import check_name, complete
from bonepipe.ranges import Inside

OUTPUT_STRIDE = 8


def fcn_resnet50(classes: int, /, *, encoder_weights: str | None = None, prior: Inside = 0.01) -> nn.Module:
    """FCN-ResNet50 without an auxiliary head: `[N, 1, h, w]` to logits `[N, classes, h, w]`.

    Args:
        encoder_weights: `imagenet` for torchvision's, or None to start from scratch. A grey image then counts as three
            equal colours.
        prior: see `factory.complete`.

    Raises:
        ValueError: other weights.
        BonepipeError: the weights cannot be had; the message names the override and the cache.
    """
    network = FCNResNet50(classes)
    if encoder_weights is not None:
        check_name("encoder_weights", encoder_weights, ["imagenet"])
        network.load()
    return complete(network, [network.head], prior, OUTPUT_STRIDE)


class FCNResNet50(nn.Module):
    """Torchvision's ResNet-50, which keeps 1/8 of the resolution, and head of a hidden layer, for one grey channel."""

    def __init__(self, classes: int) -> None:
        from torchvision.models.segmentation import fcn_resnet50 as torchvision_fcn

        super().__init__()
        network = torchvision_fcn(weights=None, weights_backbone=None, num_classes=classes)
        self.encoder, self.head = network.backbone, network.classifier
        self.encoder.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(self.encoder.conv1.weight, mode="fan_out", nonlinearity="relu")  # as torchvision does

    def load(self) -> None:
        """Fill the encoder with torchvision's weights. Raises BonepipeError where they cannot be had."""
        from torchvision.models import ResNet50_Weights

        with weights.torchvision_file("resnet50", ResNet50_Weights.IMAGENET1K_V1) as given:
            values = {key: value for key, value in given.items() if not key.startswith("fc.")}
            values["conv1.weight"] = given["conv1.weight"].sum(1, keepdim=True)
            weights.load(self.encoder, values)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits `[N, C, h, w]` of images `[N, 1, h, w]`."""
        scores = self.head(self.encoder(images)["out"])
        return functional.interpolate(scores, images.shape[-2:], mode="bilinear", align_corners=False)
