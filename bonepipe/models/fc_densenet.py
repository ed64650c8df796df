"""FC-DenseNet, the "one hundred layers Tiramisu" (Jegou et al., CVPRW 2017, arXiv 1611.09326)."""

import torch
from torch import nn

from bonepipe.models.factory import complete
from bonepipe.ranges import Count, Inside, Rest


def fc_densenet(
    classes: int,
    /,
    *,
    layers: tuple[Count, ...] = (4, 5, 7, 10, 12, 15),
    growth: Count = 16,
    first: Count = 48,
    dropout: Rest = 0.2,
    encoder_weights: None = None,
    prior: Inside = 0.01,
) -> nn.Module:
    """An FC-DenseNet for grey images of any size: `[N, 1, h, w]` to logits `[N, classes, h, w]`.

    FC-DenseNet56 has six blocks of 4 layers and growth 12 (1.4 M parameters), 67 has six of 5 and growth 16 (3.5 M),
    103 is the default (9.3 M): section 4.1 and table 2.

    Args:
        layers: of each dense block on the way down and of the bottleneck; the way up mirrors the way down.
        growth: channels that a layer adds.
        first: channels of the first convolution.
        dropout: probability of dropping a value after each convolution.
        encoder_weights: there are none; taken so that a recipe may ask every model to start from scratch.
        prior: probability that the untrained model gives every pixel.

    Raises:
        ValueError: fewer than two blocks, a number below 1, a dropout or prior outside its range.
    """
    if len(layers) < 2 or min(*layers, growth, first) < 1:
        raise ValueError(f"layers={list(layers)} needs two or more blocks, and layers, growth and first are 1 or more")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout={dropout} must lie in [0, 1)")
    network = FCDenseNet(classes, layers, growth, first, dropout)
    return complete(network, [network.head], prior, stride=2 ** (len(layers) - 1))


class FCDenseNet(nn.Module):
    """Dense blocks down, a bottleneck, dense blocks up. See `fc_densenet`."""

    def __init__(self, classes: int, layers: tuple[int, ...], growth: int, first: int, dropout: float) -> None:
        super().__init__()
        *down, deepest = layers
        skips = [first + growth * sum(down[: level + 1]) for level in range(len(down))]  # channels after each block
        self.first = nn.Conv2d(1, first, 3, padding=1)
        self.encoder = nn.ModuleList(
            DenseBlock(inputs, count, growth, dropout) for inputs, count in zip([first, *skips[:-1]], down, strict=True)
        )
        self.downs = nn.ModuleList(  # a convolution of 1 x 1 and max pooling by two (table 1)
            nn.Sequential(convolution(channels, channels, kernel=1, dropout=dropout), nn.MaxPool2d(2))
            for channels in skips
        )
        self.bottleneck = DenseBlock(skips[-1], deepest, growth, dropout)
        self.ups, self.decoder = nn.ModuleList(), nn.ModuleList()
        for level in reversed(range(len(down))):
            new = growth * layers[level + 1]  # only what the block below added goes up (section 3.2)
            self.ups.append(nn.ConvTranspose2d(new, new, 3, stride=2, padding=1, output_padding=1))
            self.decoder.append(DenseBlock(new + skips[level], down[level], growth, dropout))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")  # He's (section 4.1)
        self.head = nn.Conv2d(growth * (layers[1] + down[0]) + skips[0], classes, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits `[N, C, h, w]`."""
        maps, skips = self.first(images), []
        for block, down in zip(self.encoder, self.downs, strict=True):
            maps = torch.cat([maps, block(maps)], 1)
            skips.append(maps)
            maps = down(maps)
        new = self.bottleneck(maps)
        for up, block in zip(self.ups, self.decoder, strict=True):
            maps = torch.cat([up(new), skips.pop()], 1)
            new = block(maps)
        return self.head(torch.cat([maps, new], 1))


class DenseBlock(nn.ModuleList):
    """Layers that each see the block's input and all layers before them (section 3.1)."""

    def __init__(self, inputs: int, layers: int, growth: int, dropout: float) -> None:
        super().__init__(
            convolution(inputs + growth * number, growth, kernel=3, dropout=dropout) for number in range(layers)
        )

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps `[N, inputs, h, w]` to those that the layers add, `[N, layers * growth, h, w]`."""
        new: list[torch.Tensor] = []
        for layer in self:
            new.append(layer(torch.cat([maps, *new], 1)))
        return torch.cat(new, 1)


def convolution(inputs: int, outputs: int, *, kernel: int, dropout: float) -> nn.Sequential:
    """Batch normalisation, ReLU, convolution, dropout (table 1)."""
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
    return nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(inplace=True), layer, nn.Dropout(dropout))
