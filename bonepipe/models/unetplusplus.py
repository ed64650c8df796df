"""U-Net++ with deep supervision and pruned inference (Zhou et al., DLMIA 2018, arXiv 1807.10165; TMI 2019)."""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from bonepipe.models import parts
from bonepipe.models.factory import complete
from bonepipe.models.outputs import Outputs
from bonepipe.ranges import Count, Inside

DEPTH = 4  # times that the image is halved


def unetplusplus(
    classes: int,
    /,
    *,
    width: Count = 32,
    deep_supervision: bool = True,
    prune: Count | None = None,
    block: Literal["plain", "dilated", "separable"] = "plain",
    encoder_weights: None = None,
    prior: Inside = 0.01,
) -> nn.Module:
    """A U-Net++ for grey images of any size: `[N, 1, h, w]` to logits `[N, classes, h, w]`; 9.0 M parameters.

    Args:
        width: channels of the first level; each further one has twice as many.
        deep_supervision: in training, answer from all four nested U-Nets (section 3.2).
        prune: depth, 1 to 4, of the nested U-Net that answers in evaluation (figure 3); the rest is not computed.
            The weights are the same for every depth. None for the whole.
        block: convolutions of the nodes: `parts.BLOCKS`.
        encoder_weights: there are none; taken so that a recipe may ask every model to start from scratch.
        prior: probability that the untrained model gives every pixel.

    Raises:
        ValueError: a width below 1, a depth that there is not or that was not supervised, a prior outside 0 to 1.
    """
    if width < 1:
        raise ValueError(f"width={width} must be 1 or more")
    if prune is not None and not 1 <= prune <= DEPTH:
        raise ValueError(f"prune={prune} must be a depth from 1 to {DEPTH}, or null for the whole network")
    if prune is not None and prune < DEPTH and not deep_supervision:
        raise ValueError(f"prune={prune} needs deep_supervision=true: only supervised depths can answer")
    network = UNetPlusPlus(classes, width, deep_supervision, prune or DEPTH, block)
    return complete(network, network.heads, prior, stride=2**DEPTH)


class UNetPlusPlus(nn.Module):
    """Node (i, j) is at level i, column j; column 0 is the encoder, row 0 answers. See `unetplusplus`."""

    def __init__(self, classes: int, width: int, deep_supervision: bool, prune: int, block: str) -> None:
        super().__init__()
        self.prune = prune
        channels = [width * 2**level for level in range(DEPTH + 1)]
        make = parts.BLOCKS[block]
        self.encoder = nn.ModuleList(make(*pair) for pair in zip([1, *channels[:-1]], channels, strict=True))
        self.decoder = nn.ModuleDict(
            {name(i, j): NestedNode(channels[i], channels[i + 1], j, block) for i, j in nodes(DEPTH)}
        )
        self.heads = nn.ModuleList(nn.Conv2d(width, classes, 1) for _ in range(DEPTH if deep_supervision else 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor | Outputs:
        """Logits `[N, C, h, w]`; in training `Outputs` of all depths, deepest first, with deep supervision."""
        depth = DEPTH if self.training else self.prune
        answers = self._first_row(images, depth)
        if not self.training or len(self.heads) == 1:
            return self.heads[depth - DEPTH - 1](answers[-1])  # counted from the end: without supervision it is alone
        maps = [head(answer) for head, answer in zip(self.heads, answers, strict=True)]
        return Outputs(tuple(reversed(maps)))

    def _first_row(self, images: torch.Tensor, depth: int) -> list[torch.Tensor]:
        """Nodes (0, 1) to (0, depth): those that answer, column by column; deeper nodes are not computed."""
        rows: list[list[torch.Tensor]] = []
        for level, block in enumerate(self.encoder[: depth + 1]):
            rows.append([block(functional.max_pool2d(rows[-1][0], 2) if level else images)])
        for level, column in nodes(depth):
            node = self.decoder[name(level, column)](rows[level], rows[level + 1][column - 1])
            rows[level].append(node)
        return rows[0][1:]


def nodes(depth: int) -> Iterator[tuple[int, int]]:
    """Level and column of the decoder's nodes in a nested U-Net of this depth, each after those that it needs."""
    return ((level, column) for column in range(1, depth + 1) for level in range(depth + 1 - column))


def name(level: int, column: int) -> str:
    """Key of a node; a module's name holds no dot."""
    return f"{level}_{column}"


class NestedNode(nn.Module):
    """All nodes before it in its row, and the enlarged one below, joined by a block (equation 1)."""

    def __init__(self, channels: int, below: int, column: int, block: str) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(below, channels, 2, stride=2)
        self.block = parts.BLOCKS[block]((column + 1) * channels, channels)

    def forward(self, row: list[torch.Tensor], below: torch.Tensor) -> torch.Tensor:
        """Maps `[N, channels, h, w]` of the row and `[N, below, h/2, w/2]` to `[N, channels, h, w]`."""
        return self.block(torch.cat([*row, self.up(below)], 1))
