"""Bit-planes: the one form of labels between the annotation and the loss.

Planes are uint8 `[H, W, P]` with P = ceil(C / 8); class `c` is bit `c % 8` (value `1 << c % 8`) of plane `c // 8`.
Twenty-nine overlapping classes at 2048 x 2048 take 16 MB this way, and OpenCV warps four planes in one call.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from bonepipe.labels.counts import byte_counts

if TYPE_CHECKING:  # importing torch takes seconds, and half of the users of this module work on files only
    import torch

Planes = NDArray[np.uint8]
HALF = 0.5 - 1e-4  # of a pixel, less what sums of float32 may lack


def plane_count(classes: int) -> int:
    """Count the planes that hold `classes` bits a pixel."""
    return -(-classes // 8)


def pack(mask: NDArray[np.bool_]) -> Planes:
    """Pack a mask `[H, W, C]` into planes uint8 `[H, W, P]` (bool, or integers where non-zero means inside)."""
    return np.packbits(mask, axis=-1, bitorder="little")


def unpack(planes: Planes, classes: int) -> NDArray[np.bool_]:
    """Unpack planes uint8 `[H, W, P]` to a mask bool `[H, W, C]`; raises ValueError where P does not fit `classes`."""
    _check_planes(planes.shape[-1], classes)
    return np.unpackbits(planes, axis=-1, count=classes, bitorder="little").view(np.bool_)


def everywhere(planes: Planes) -> Planes:
    """The bits `[P]` that are set in all pixels of planes `[H, W, P]`."""
    if not planes.size or not planes[0, 0].any():
        return np.zeros(planes.shape[-1], np.uint8)
    return np.asarray(np.bitwise_and.reduce(planes, axis=(0, 1)))


def pack_torch(mask: torch.Tensor) -> torch.Tensor:
    """Pack a mask bool `[N, C, H, W]` into planes uint8 `[N, H, W, P]`, on the mask's device."""
    import torch

    shift = torch.arange(8, dtype=torch.uint8, device=mask.device).view(8, 1, 1)
    groups = (group.to(torch.uint8) << shift[: group.shape[1]] for group in mask.split(8, dim=1))
    return torch.stack([group.sum(1, dtype=torch.uint8) for group in groups], dim=-1)


def unpack_torch(planes: torch.Tensor, classes: int, dtype: torch.dtype | None = None) -> torch.Tensor:
    """Unpack planes uint8 `[N, H, W, P]` to a mask `[N, C, H, W]`, contiguous, on their device.

    The values are 0 and 1 of `dtype` (float32 unless told; bool works). Besides the result it needs one uint8 tensor of
    the same shape. Raises ValueError where P does not fit `classes`.
    """
    import torch

    _check_planes(planes.shape[-1], classes)
    index = torch.arange(classes, device=planes.device)
    shift = (index % 8).to(torch.uint8).view(-1, 1, 1)
    bits = planes.permute(0, 3, 1, 2).index_select(1, index // 8)
    return bits.bitwise_right_shift_(shift).bitwise_and_(1).to(dtype or torch.float32)


def to_subpixels(planes: Planes, scale: int) -> Planes:
    """Gather the planes of every `scale` x `scale` pixels in one: uint8 `[s * h, s * w, P]` to `[h, w, s * s * P]`."""
    height, width, count = planes.shape[0] // scale, planes.shape[1] // scale, planes.shape[-1]
    blocks = planes.reshape(height, scale, width, scale, count).swapaxes(1, 2)
    return blocks.reshape(height, width, scale * scale * count)


def counts_torch(planes: torch.Tensor, classes: int) -> tuple[torch.Tensor, int]:
    """How many of each pixel's sub-pixels a class covers, uint8 `[N, C, h, w]`, and of how many.

    The counts have the memory layout of a network's logits, `channels_last`. Raises ValueError where the planes are not
    those of so many classes.

    Args:
        planes: uint8 `[N, h, w, S * P]`, see `to_subpixels`; without sub-pixels S is 1.
    """
    import torch

    first, *others = planes.split(plane_count(classes), dim=-1)
    total = unpack_torch(first, classes, torch.uint8)
    for part in others:
        total += unpack_torch(part, classes, torch.uint8)
    return total.contiguous(memory_format=torch.channels_last), 1 + len(others)


def coverage_torch(planes: torch.Tensor, classes: int) -> torch.Tensor:
    """The share of each pixel that a class covers, float32 `[N, C, h, w]`, see `counts_torch`."""
    counts, parts = counts_torch(planes, classes)
    return counts.float().div_(parts)


def permute_classes(planes: Planes, order: Sequence[int]) -> Planes:
    """Make planes whose class `c` holds what class `order[c]` held; a class may be used more than once.

    Each pair of a source and a target plane costs one table look-up a pixel, and planes in which nothing moves are only
    copied. Raises ValueError where `order` names a class that does not exist.
    """
    classes = len(order)
    _check_planes(planes.shape[-1], classes)
    if any(not 0 <= source < classes for source in order):
        raise ValueError(f"order {list(order)} names a class outside 0..{classes - 1}")
    result = np.zeros_like(planes)
    for target in range(planes.shape[-1]):
        sources = order[8 * target : 8 * target + 8]
        if list(sources) == list(range(8 * target, 8 * target + len(sources))):
            result[..., target] = planes[..., target]
            continue
        for plane in {source // 8 for source in sources}:
            result[..., target] |= _move_table(sources, plane)[planes[..., plane]]
    return result


def first(planes: Planes, classes: int) -> Planes:
    """Planes `[H, W, ceil(classes / 8)]` of the first classes of some planes `[H, W, P]`."""
    kept = pack(np.ones(classes, np.bool_))
    return np.asarray(planes[..., : len(kept)] & kept)


def resize(planes: Planes, size: tuple[int, int]) -> Planes:
    """Resize to (height, width), pixel centres aligned, each axis by itself.

    Along an axis that shrinks a pixel has the labels of at least half of what it covers; along one that grows, those of
    the nearest source pixel. Taking the nearest where an axis shrinks would skip rows, and keep or lose thin structures
    by chance.
    """
    if size[0] >= planes.shape[0] and size[1] >= planes.shape[1]:
        # INTER_NEAREST would shift the labels by up to half a source pixel.
        large = cv2.resize(planes, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        return np.asarray(large, np.uint8).reshape(*size, planes.shape[-1])  # cv2 drops a single channel's axis
    rows, columns = _shares(planes.shape[0], size[0]), _shares(planes.shape[1], size[1])
    result = np.zeros((*size, planes.shape[-1]), np.uint8)
    for label, (down, across) in enumerate(_spans(planes)):  # a class fills little of the image
        (top, bottom), (left, right) = _reached(rows, down), _reached(columns, across)
        mask = (planes[down, across, label // 8] >> label % 8 & 1).astype(np.float32)
        covered = rows[top:bottom, down] @ mask @ columns[left:right, across].T
        result[top:bottom, left:right, label // 8] |= (covered >= HALF).astype(np.uint8) << label % 8
    return result


@lru_cache(maxsize=32)
def _shares(source: int, target: int) -> NDArray[np.float32]:
    """How much of each target pixel each source pixel covers, float32 `[target, source]`, the sum of a row 1."""
    step = source / target
    shares = np.zeros((target, source), np.float32)
    if step <= 1:
        shares[np.arange(target), ((np.arange(target) + 0.5) * step).astype(int)] = 1
        return shares
    starts, pixels = np.arange(target)[:, None] * step, np.arange(source)
    np.clip(np.minimum(starts + step, pixels + 1) - np.maximum(starts, pixels), 0, 1, out=shares, casting="same_kind")
    return shares / np.float32(step)


def _spans(planes: Planes) -> list[tuple[slice, slice]]:
    """The rows and the columns between which each bit of the planes is set somewhere; empty slices for none."""
    rows, columns = planes, np.bitwise_or.reduce(planes, axis=0)
    while (width := rows.shape[1]) > 1:  # NumPy would reduce the inner axis a pixel at a time, 20 times as slowly
        rows = rows[:, : (width + 1) // 2] | rows[:, width // 2 :]
    rows = rows[:, 0]
    return list(zip(*(map(_span, unpack(lines, 8 * lines.shape[-1]).T) for lines in (rows, columns)), strict=True))


def _span(flags: NDArray[np.bool_]) -> slice:
    there = np.flatnonzero(flags)
    return slice(int(there[0]), int(there[-1]) + 1) if there.size else slice(0, 0)


def _reached(shares: NDArray[np.float32], span: slice) -> tuple[int, int]:
    """The target pixels, half open, that draw on any source pixel of a span."""
    target = _span(np.asarray(shares[:, span].any(axis=1)))
    return target.start, target.stop


def areas(planes: Planes, classes: int) -> NDArray[np.int64]:
    """Count the pixels of each class, int64 `[C]`."""
    _check_planes(planes.shape[-1], classes)
    values = np.stack([byte_counts(planes, plane) for plane in range(planes.shape[-1])])
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
    return (values @ bits.astype(np.int64)).reshape(-1)[:classes]


def _check_planes(planes: int, classes: int) -> None:
    if planes != plane_count(classes):
        raise ValueError(f"{classes} classes need {plane_count(classes)} bit-planes, not {planes}")


def _move_table(sources: Sequence[int], plane: int) -> Planes:
    """Table uint8 [256]: the target byte that a byte of source plane `plane` gives rise to."""
    values = np.arange(256)
    table = np.zeros(256, np.uint8)
    for bit, source in enumerate(sources):
        if source // 8 == plane:
            table |= ((values >> source % 8 & 1) << bit).astype(np.uint8)
    return table
