"""DeconvNet (Noh, Hong & Han 2015)."""

import torch
from torch import nn

from bonepipe.models.factory import complete
from bonepipe.models.inspect import hidden_layers
from bonepipe.models.vgg import CHANNELS, DECODER, VGG16, WIDTH, UnpoolingDecoder, convolution
from bonepipe.ranges import Count, Inside


def deconvnet(
    classes: int, /, *, width: Count = WIDTH, encoder_weights: str | None = None, prior: Inside = 0.01
) -> nn.Module:
    """DeconvNet: `[N, 1, h, w]` to logits `[N, classes, h, w]`.

    Args:
        width: channels of VGG's first stage; all others scale with it. 64 in the paper.
        encoder_weights: `imagenet`, also for fc6 and fc7, or None to start from scratch.
        prior: see `factory.complete`.
    """
    network = DeconvNet(classes, width)
    network.encoder.load(encoder_weights, hidden_layers(network))
    return complete(network, [network.head], prior)


class DeconvNet(nn.Module):
    """VGG-16 with its fully connected layers, and the mirror of all that in transposed convolutions (table 1).

    fc6 and its mirror keep the size, where the paper's reduce 7 x 7 to a point: so images of any size pass.
    """

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        deepest, hidden = CHANNELS[-1] * width, 64 * width
        self.encoder = VGG16(width, batch_norm=True)
        self.fully = nn.Sequential(
            *convolution(deepest, hidden, kernel=7, batch_norm=True),
            *convolution(hidden, hidden, kernel=1, batch_norm=True),
            *deconvolution(hidden, deepest, kernel=7),
        )
        self.decoder = UnpoolingDecoder(width, DECODER, deconvolution)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits `[N, C, h, w]` of images `[N, 1, h, w]`, sizes divisible by 32."""
        maps, switches = self.encoder(images)
        return self.head(self.decoder(self.fully(maps[-1]), switches))


def deconvolution(inputs: int, outputs: int, kernel: int = 3) -> list[nn.Module]:
    """A transposed convolution that keeps the size, batch normalisation and ReLU (section 3.2.2)."""
    layer = nn.ConvTranspose2d(inputs, outputs, kernel, padding=kernel // 2)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")  # of a transposed layer: its inputs
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return [layer, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
