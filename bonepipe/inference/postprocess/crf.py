"""Dense conditional random field on probabilities: mean field with Gaussian kernels cut off to a window.

Neighbours that lie near and look alike should agree (Kraehenbuehl & Koltun 2011, "Efficient Inference in Fully
Connected CRFs with Gaussian Edge Potentials", section 2). Beyond a few pixels the kernels hardly count, so each pixel
hears only those in a square window (Teichmann & Cipolla 2018, "Convolutional CRFs", section 3). Classes overlap in
radiographs, so each is a field of its own with two labels; all share the kernels, which depend on the image alone.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from bonepipe.ranges import Amount, Count, Positive

CERTAIN = 1e-6  # probabilities nearer to 0 or 1 count as if they were so far away: their logits stay finite
NARROWEST = 1e-6  # the square of a smaller deviation is 0 in single precision, and 0 / 0 not a number


@dataclass(frozen=True, kw_only=True)
class CrfSpec:
    """Kernels and iterations. Distances are pixels at model resolution.

    Attributes:
        radius: half the window's side; 3 means 7 x 7 pixels.
        appearance: weight of the kernel of position and grey value, in logits.
        spatial, contrast: its standard deviations, pixels and grey values from 0 to 1.
        smoothness: weight of the kernel of position alone, in logits.
        smooth_spatial: its standard deviation, pixels.
        iterations: of mean field.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - a misspelt key must not pass the config's check

    radius: Count = 3
    appearance: Amount = 3.0
    spatial: Positive = 3.0
    contrast: Positive = 0.05
    smoothness: Amount = 0.0
    smooth_spatial: Positive = 1.0
    iterations: Count = 5

    def __post_init__(self) -> None:
        if min(self.radius, self.iterations) < 1 or min(self.appearance, self.smoothness) < 0:
            raise ValueError("crf: radius and iterations must be at least 1, the weights not negative")
        if not min(self.spatial, self.contrast, self.smooth_spatial) >= NARROWEST:
            raise ValueError(f"crf: the standard deviations must be positive, {NARROWEST} or more")


@torch.inference_mode()
def apply_crf(probabilities: torch.Tensor, images: torch.Tensor, spec: CrfSpec) -> torch.Tensor:
    """Let neighbouring pixels agree.

    A pixel's logit becomes its own plus, for each kernel k, weight * sum_j k_j (2 q_j - 1) / sum_j g_j over the
    neighbours j inside the image, g being the kernel's position term: +weight at most, where all neighbours look alike
    and surely belong to the class. All pixels are updated at once, from the q of the iteration before.

    Args:
        probabilities: float `[N, C, h, w]`.
        images: grey bytes uint8 `[N, h, w]`, on any device.

    Returns:
        float32 `[N, C, h, w]` on the device of the probabilities.
    """
    height, width = probabilities.shape[-2:]
    grey = images.to(probabilities.device).float().div(255).unsqueeze(1)
    unary = probabilities.float().clamp(CERTAIN, 1 - CERTAIN).logit()
    belief = unary
    for _ in range(spec.iterations):
        message = functional.pad(belief.sigmoid().mul_(2).sub_(1), [spec.radius] * 4)
        belief = unary.clone()
        for (top, left), kernel in _kernels(grey, spec):
            belief.addcmul_(kernel, message[..., top : top + height, left : left + width])
    return belief.sigmoid_()


def _kernels(grey: torch.Tensor, spec: CrfSpec) -> Iterator[tuple[tuple[int, int], torch.Tensor]]:
    """For each neighbour: its row and column in padded maps, and the weight `[N, 1, h, w]` of what it says.

    Computed anew for each iteration: all together they are larger than the probabilities. Beyond the image the message
    is 0, whatever its weight.
    """
    height, width = grey.shape[-2:]
    padded = functional.pad(grey, [spec.radius] * 4)
    near, smooth = (_position(grey.shape, spec.radius, sd, grey.device) for sd in (spec.spatial, spec.smooth_spatial))
    for (top, left), square in _neighbours(spec.radius):
        unlike = (padded[..., top : top + height, left : left + width] - grey).square_()
        alike = unlike.div_(-2 * spec.contrast**2).exp_()
        appearance = spec.appearance * math.exp(-square / (2 * spec.spatial**2)) / near
        smoothness = spec.smoothness * math.exp(-square / (2 * spec.smooth_spatial**2)) / smooth
        yield (top, left), alike.mul_(appearance).add_(smoothness)


def _neighbours(radius: int) -> list[tuple[tuple[int, int], int]]:
    """Row and column in a map padded by `radius`, and the squared distance in pixels, of all but the pixel itself."""
    side = range(2 * radius + 1)
    squares = [((top, left), (top - radius) ** 2 + (left - radius) ** 2) for top in side for left in side]
    return [(place, square) for place, square in squares if square]


def _position(shape: Sequence[int], radius: int, deviation: float, device: torch.device) -> torch.Tensor:
    """The sum of a kernel's position term over the neighbours inside the image, `[1, 1, h, w]`."""
    height, width = shape[-2:]
    inside = functional.pad(torch.ones(1, 1, height, width, device=device), [radius] * 4)
    total = torch.zeros(1, 1, height, width, device=device)
    for (top, left), square in _neighbours(radius):
        share = math.exp(-square / (2 * deviation**2))
        total.add_(inside[..., top : top + height, left : left + width], alpha=share)
    return total.clamp_min_(1e-30)  # a tiny deviation leaves no neighbour any weight
