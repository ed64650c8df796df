"""What a network may answer while it is trained; in evaluation mode every network answers with one tensor of logits."""

from typing import NamedTuple

import torch


class Outputs(NamedTuple):
    """Logits with what auxiliary losses need.

    Attributes:
        maps: logits `[N, C, h, w]` at the images' size, the network's answer first, then those of deep supervision.
        presence: logits `[N, C]` of an auxiliary head that tells whether a class occurs in the image, or None.
    """

    maps: tuple[torch.Tensor, ...]
    presence: torch.Tensor | None = None
