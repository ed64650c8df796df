"""Full-size comparison where the maps are, as tensor operations: the numbers of `labels.upsample` to the bit.

Every pixel is computed by the same operations in the same order, each rounded by itself (`lerp` and `addcmul` may fuse
two of them). Classes go in chunks that bound the memory. What crosses the bus are true pixels inside boxes one way, and
counts, runs and bytes the other.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from bonepipe.labels import axis as axes
from bonepipe.labels import rle
from bonepipe.labels.cutout import Cutout, area
from bonepipe.labels.dice import dice
from bonepipe.labels.histogram import BINS, HALF, floored

Shape = tuple[int, int]
MEMORY = 1 << 30  # bytes that a chunk of classes may take
PIXEL = 28  # bytes that its interpolation and counting take at the most
CLASSES = 8  # in a chunk: their bins fit the fast memory in which CUDA counts


def upsample(maps: torch.Tensor, shape: Shape) -> torch.Tensor:
    """Bilinear interpolation of maps float32 `[C, h, w]` to `[C, H, W]`."""
    height, width = maps.shape[-2:]
    return _between(_between(maps, 1, height, shape[0]), 2, width, shape[1])


def _between(maps: torch.Tensor, dim: int, low: int, high: int) -> torch.Tensor:
    """Interpolation along an axis: here + weight * (there - here)."""
    here, there, weight = _axis(low, high, maps.device)
    values, beyond = maps.index_select(dim, here), maps.index_select(dim, there)
    beyond -= values
    beyond *= weight[:, None] if dim == 1 else weight
    values += beyond
    return values


@lru_cache(maxsize=64)
def _axis(low: int, high: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    here, there, weight = (torch.from_numpy(part).to(device) for part in axes.axis(low, high))
    return here, there, weight


def levels(maps: torch.Tensor) -> torch.Tensor:
    """The bin of each probability, uint8, see `histogram.levels`."""
    return (maps * BINS).clamp_(0, BINS - 1).to(torch.uint8)


def measure(
    maps: torch.Tensor, truth: Sequence[Cutout], shape: Shape
) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """Histograms int64 `[C, 2, 256]` of maps `[C, h, w]` at a shape, see `upsample.histogram`, and runs at 0.5."""
    counts, runs = [], []
    for part, true in _chunks(maps, truth, shape):
        large = upsample(part, shape)
        runs += mask_runs(large >= HALF)
        bins = large.mul_(BINS).clamp_(0, BINS - 1).int()
        bins += true.int().mul_(BINS)
        bins += torch.arange(0, 2 * BINS * len(part), 2 * BINS, device=maps.device, dtype=torch.int32)[:, None, None]
        counted = torch.bincount(bins.flatten(), minlength=2 * BINS * len(part))
        counts.append(counted.view(len(part), 2, BINS))
    return floored(torch.cat(counts).cpu().numpy()), runs


def dice_at_half(maps: torch.Tensor, truth: Sequence[Cutout], shape: Shape) -> NDArray[np.float64]:
    """Dice `[C]` of the masks of maps `[C, h, w]` at threshold 0.5."""
    sums = []
    for part, true in _chunks(maps, truth, shape):
        masks = upsample(part, shape) >= HALF
        predicted = masks.sum((1, 2))
        sums.append(torch.stack([masks.logical_and_(true).sum((1, 2)), predicted]))
    overlap, predicted = torch.cat(sums, 1).cpu().numpy()
    return np.asarray(dice(overlap, predicted, np.array([area(true) for true in truth])), np.float64)


def mask_runs(masks: torch.Tensor) -> list[NDArray[np.int64]]:
    """The runs int64 `[R, 2]` of each of some masks bool `[C, H, W]`, see `rle.mask_runs`."""
    lines = torch.nn.functional.pad(masks.flatten(1), (1, 1))
    changes = (lines[:, 1:] != lines[:, :-1]).nonzero().cpu().numpy()
    ends = np.searchsorted(changes[:, 0], np.arange(1, len(masks)))
    return [_as_runs(places) for places in np.split(changes[:, 1], ends)]


def _as_runs(changes: NDArray[np.int64]) -> rle.Runs:
    """Runs from the pixels, counted from 0, at which they start and end in turn."""
    starts, ends = changes.reshape(-1, 2).T
    return np.stack([starts + 1, ends - starts], 1)


def _chunks(maps: torch.Tensor, truth: Sequence[Cutout], shape: Shape) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Maps of some classes at a time, and their true masks bool `[c, H, W]`."""
    if len(maps) != len(truth):
        raise ValueError(f"{len(maps)} maps, but {len(truth)} true masks")
    count = min(CLASSES, max(1, MEMORY // (PIXEL * shape[0] * shape[1])))
    for start in range(0, len(truth), count):
        yield maps[start : start + count], _drawn(truth[start : start + count], shape, maps.device)


def _drawn(truth: Sequence[Cutout], shape: Shape, device: torch.device) -> torch.Tensor:
    """The whole masks, whose boxes travel together."""
    pixels = torch.from_numpy(np.concatenate([mask.mask.ravel() for mask in truth]))
    pixels = pixels.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else pixels.to(device)
    result = torch.zeros((len(truth), *shape), dtype=torch.bool, device=device)
    parts = pixels.split([mask.box.height * mask.box.width for mask in truth])
    for plane, part, (box, _) in zip(result, parts, truth, strict=True):
        plane[box.slices] = part.view(box.height, box.width)
    return result


def to_host(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in the host's memory, pinned where it comes from a CUDA device: thirty times as fast."""
    if tensor.device.type != "cuda":
        return tensor.cpu()
    return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor)
