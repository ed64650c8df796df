"""Parts of VGG-16 (Simonyan & Zisserman 2015, table 1, column D) that FCN, DeconvNet, SegNet and others are made of."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from bonepipe.models import weights as files
from bonepipe.models.factory import check_name

WIDTH = 64  # channels of the first stage, in the paper and in the pretrained weights
DEPTHS = (2, 2, 3, 3, 3)  # convolutions a stage
CHANNELS = (1, 2, 4, 8, 8)  # of a stage, in widths
DECODER = ((8, 8, 8), (8, 8, 4), (4, 4, 2), (2, 1), (1, 1))  # the mirrored stages, deepest first, in widths
POOLS = ((2, 2),) * 5  # kernel and stride after each stage; (1, 1) changes nothing

Block = Callable[[int, int], list[nn.Module]]


def convolution(
    inputs: int, outputs: int, *, kernel: int = 3, dilation: int = 1, batch_norm: bool = False
) -> list[nn.Module]:
    """A convolution that keeps the size, batch normalisation if wanted, and ReLU.

    The weights are drawn as in He et al. 2015 (section 2.2): stacks this deep do not learn from smaller ones.
    """
    layer = nn.Conv2d(inputs, outputs, kernel, padding=dilation * (kernel // 2), dilation=dilation)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return [layer, *([nn.BatchNorm2d(outputs)] if batch_norm else []), nn.ReLU(inplace=True)]


def fully_connected(width: int, hidden: int, *, kernel: int, dilation: int = 1, dropout: float = 0.5) -> nn.Sequential:
    """VGG's two hidden fully connected layers as convolutions, fc6 with a kernel and fc7 without, each with dropout."""
    return nn.Sequential(
        *convolution(CHANNELS[-1] * width, hidden, kernel=kernel, dilation=dilation),
        nn.Dropout(dropout),
        *convolution(hidden, hidden, kernel=1),
        nn.Dropout(dropout),
    )


def stages(inputs: int, widths: Sequence[Sequence[int]], blocks: Sequence[Block]) -> nn.ModuleList:
    """Stages of convolutions with these output channels, their layers made by a block for each stage."""
    made = nn.ModuleList()
    for outputs, block in zip(widths, blocks, strict=True):
        pairs = pairwise([inputs, *outputs])
        made.append(nn.Sequential(*(layer for pair in pairs for layer in block(*pair))))
        inputs = outputs[-1]
    return made


class VGG16(nn.Module):
    """The thirteen convolutions for one grey channel.

    Args:
        width: channels of the first stage.
        batch_norm: normalise after each convolution.
        pools: kernel and stride of the pooling after each stage.
        dilations: of each stage's convolutions.
    """

    def __init__(
        self,
        width: int = WIDTH,
        *,
        batch_norm: bool = False,
        pools: Sequence[tuple[int, int]] = POOLS,
        dilations: Sequence[int] = (1,) * 5,
    ) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width={width} must be at least 1")
        self.width, self.batch_norm, self.pools = width, batch_norm, tuple(pools)
        widths = [[channels * width] * depth for depth, channels in zip(DEPTHS, CHANNELS, strict=True)]
        blocks = [partial(convolution, dilation=dilation, batch_norm=batch_norm) for dilation in dilations]
        self.stages = stages(1, widths, blocks)

    def forward(self, images: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """The five stages' pooled maps of images `[N, 1, h, w]`, and their switches.

        A switch, int64 of the map's shape, is the place of a maximum: row times width plus column before pooling.
        """
        maps, switches = [], []
        for stage, (kernel, stride) in zip(self.stages, self.pools, strict=True):
            images, switch = functional.max_pool2d(
                stage(images), kernel, stride, padding=(kernel - 1) // 2, return_indices=True
            )
            maps.append(images)
            switches.append(switch)
        return maps, switches

    def load(self, weights: str | None, fully: Iterable[nn.Conv2d] = ()) -> None:
        """Take torchvision's weights; a grey image then counts as three equal colours.

        Args:
            weights: `imagenet`, or None to change nothing.
            fully: fc6 and fc7 where the network has them. Smaller ones take evenly spaced filters and taps
                (DeepLab v1, section 2.3: "spatially subsampling").

        Raises:
            ValueError: no such weights, or none of this width.
            BonepipeError: the weights cannot be had; the message names the override and the cache.
        """
        if weights is None:
            return
        check_name("encoder_weights", weights, ["imagenet"])
        if self.width != WIDTH:
            raise ValueError(f"encoder_weights={weights} need width={WIDTH}, not {self.width}")
        from torchvision.models import VGG16_BN_Weights, VGG16_Weights

        encoder, source = ("vgg16_bn", VGG16_BN_Weights) if self.batch_norm else ("vgg16", VGG16_Weights)
        with files.torchvision_file(encoder, source.IMAGENET1K_V1) as given:
            values = {key: given[name] for key, name in self._names().items() if name in given}
            values["stages.0.0.weight"] = given["features.0.weight"].sum(1, keepdim=True)
            files.load(self, values)
            for layer, number in zip(fully, (0, 3), strict=False):
                hidden = {key: given[key] for key in (f"classifier.{number}.weight", f"classifier.{number}.bias")}
                files.check_finite(hidden)
                weight, bias = hidden.values()
                taps = 7 if number == 0 else 1
                _copy(layer, weight.reshape(4096, -1, taps, taps), bias)

    def _names(self) -> dict[str, str]:
        """What torchvision, which numbers all layers in one row, calls each of this network's tensors."""
        parts = [[*(name for name, _ in stage.named_children()), "pooling"] for stage in self.stages]
        layers = (f"stages.{number}.{name}" for number, names in enumerate(parts) for name in names)
        numbers = {layer: number for number, layer in enumerate(layers)}
        places = {key: key.rpartition(".") for key in self.state_dict()}
        return {key: f"features.{numbers[layer]}.{name}" for key, (layer, _, name) in places.items()}


def _copy(layer: nn.Conv2d, weight: torch.Tensor, bias: torch.Tensor) -> None:
    """Fill a convolution from one that is as large or larger."""
    with torch.no_grad():
        for axis, size in enumerate(layer.weight.shape):
            weight = weight.index_select(axis, _spaced(weight.shape[axis], size))
        layer.weight.copy_(weight)
        assert layer.bias is not None
        layer.bias.copy_(bias[_spaced(len(bias), len(layer.bias))])


def _spaced(given: int, wanted: int) -> torch.Tensor:
    """`wanted` evenly spaced indices, the first and the last of `given` among them. Raises ValueError for too few."""
    if given < wanted:
        raise ValueError(f"{wanted} channels cannot be taken from {given}")
    return torch.linspace(0, given - 1, wanted, dtype=torch.float64).round().long()


class UnpoolingDecoder(nn.Module):
    """VGG's stages in reverse: each pooling is undone by its switches, then come the mirrored convolutions.

    Args:
        shares: output channels of every convolution, a tuple a stage, deepest first, in widths.
        block: makes a convolution's layers from its input and output channels.
    """

    def __init__(self, width: int, shares: Sequence[Sequence[int]], block: Block) -> None:
        super().__init__()
        channels = [[share * width for share in stage] for stage in shares]
        self.stages = stages(CHANNELS[-1] * width, channels, [block] * len(channels))

    def forward(self, features: torch.Tensor, switches: Sequence[torch.Tensor]) -> torch.Tensor:
        """Deepest maps `[N, 8 width, h / 32, w / 32]` to `[N, channels, h, w]`."""
        for stage, switch in zip(self.stages, reversed(switches), strict=True):
            features = stage(functional.max_unpool2d(features, switch, [2, 2]))
        return features
