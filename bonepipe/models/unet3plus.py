"""U-Net 3+: every decoder level sees all scales (Huang et al., ICASSP 2020, arXiv 2004.08790)."""

from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from bonepipe.models import parts
from bonepipe.models.factory import complete
from bonepipe.models.outputs import Outputs
from bonepipe.ranges import Count, Inside

LEVELS = 5
ABSENT = -20.0  # logit of a class that the classification head rules out; half precision holds it


def unet3plus(
    classes: int,
    /,
    *,
    width: Count = 64,
    deep_supervision: bool = True,
    classification: bool = False,
    block: Literal["plain", "dilated", "separable"] = "plain",
    encoder_weights: None = None,
    prior: Inside = 0.01,
) -> nn.Module:
    """A U-Net 3+ for grey images of any size: `[N, 1, h, w]` to logits `[N, classes, h, w]`; 27.0 M parameters.

    Args:
        width: channels of the first encoder level and of each skip; a decoder node has five times as many.
        deep_supervision: in training, answer at every scale (section 2.2).
        classification: classification-guided module (section 2.3): in training also tell which classes are present;
            in evaluation a class judged absent is left out of the mask. Without a loss on presence it changes nothing.
        block: convolutions of the encoder: `parts.BLOCKS`.
        encoder_weights: there are none; taken so that a recipe may ask every model to start from scratch.
        prior: probability that the untrained model gives every pixel.

    Raises:
        ValueError: a width below 1, or a prior outside 0 to 1.
    """
    if width < 1:
        raise ValueError(f"width={width} must be 1 or more")
    network = UNet3Plus(classes, width, deep_supervision, classification, block)
    return complete(network, network.heads, prior, stride=2 ** (LEVELS - 1))


class UNet3Plus(nn.Module):
    """Encoder of five levels, four full-scale decoder nodes, a head for each answer. See `unet3plus`."""

    def __init__(self, classes: int, width: int, deep_supervision: bool, classification: bool, block: str) -> None:
        super().__init__()
        channels = [width * 2**level for level in range(LEVELS)]
        make = parts.BLOCKS[block]
        self.encoder = nn.ModuleList(make(*pair) for pair in zip([1, *channels[:-1]], channels, strict=True))
        self.decoder = nn.ModuleList(FullScaleNode(level, channels, width) for level in range(LEVELS - 1))
        answering = [*[LEVELS * width] * (LEVELS - 1), channels[-1]] if deep_supervision else [LEVELS * width]
        self.heads = nn.ModuleList(nn.Conv2d(inputs, classes, 3, padding=1) for inputs in answering)
        self.presence = PresenceHead(channels[-1], classes) if classification else None

    def forward(self, images: torch.Tensor) -> torch.Tensor | Outputs:
        """Logits `[N, C, h, w]`; in training `Outputs` with side outputs, finest first, where there are any."""
        nodes = self._nodes(images)
        presence = None if self.presence is None else self.presence(nodes[-1])
        if not self.training:
            logits = self.heads[0](nodes[0])
            return logits if presence is None else logits.masked_fill(presence[..., None, None] < 0, ABSENT)
        answering = zip(self.heads, nodes, strict=False)  # without deep supervision the finest alone
        maps = tuple(enlarge(head(node), level) for level, (head, node) in enumerate(answering))
        return maps[0] if len(maps) == 1 and presence is None else Outputs(maps, presence)

    def _nodes(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The decoder's nodes, finest first; the coarsest is the encoder's last map."""
        nodes: list[torch.Tensor] = []
        for level, block in enumerate(self.encoder):
            nodes.append(block(functional.max_pool2d(nodes[-1], 2) if level else images))
        for level in reversed(range(LEVELS - 1)):  # finer levels are still the encoder's, coarser ones the decoder's
            nodes[level] = self.decoder[level](nodes)
        return nodes


class FullScaleNode(nn.Module):
    """A decoder node: one skip from every scale, brought to this level's size, joined (section 2.1)."""

    def __init__(self, level: int, channels: list[int], width: int) -> None:
        super().__init__()
        self.level = level
        coarser = [LEVELS * width] * (LEVELS - 2 - level)  # decoder nodes between this one and the deepest map
        sources = [*channels[: level + 1], *coarser, channels[-1]]
        self.skips = nn.ModuleList(parts.conv_block(inputs, width) for inputs in sources)
        self.join = parts.conv_block(LEVELS * width, LEVELS * width)

    def forward(self, nodes: list[torch.Tensor]) -> torch.Tensor:
        """Maps of all levels, finest first, to this level's node `[N, 5 * width, h, w]`."""
        scaled = (enlarge(node, source - self.level) for source, node in enumerate(nodes))
        return self.join(torch.cat([skip(node) for skip, node in zip(self.skips, scaled, strict=True)], 1))


class PresenceHead(nn.Sequential):
    """Logits `[N, C]` of each class being in the image, from the deepest map; starts by calling all present."""

    def __init__(self, inputs: int, classes: int) -> None:
        last = nn.Conv2d(inputs, classes, 1)
        nn.init.zeros_(last.weight)
        nn.init.ones_(last.bias)  # type: ignore[arg-type]
        super().__init__(nn.Dropout(0.5), last, nn.AdaptiveMaxPool2d(1), nn.Flatten())


def enlarge(maps: torch.Tensor, octaves: int) -> torch.Tensor:
    """Maps 2 ** octaves times as large, bilinearly; smaller by max pooling where `octaves` is negative."""
    if octaves < 0:
        return functional.max_pool2d(maps, 2**-octaves)
    if octaves == 0:
        return maps
    return functional.interpolate(maps, scale_factor=2**octaves, mode="bilinear", align_corners=False)
