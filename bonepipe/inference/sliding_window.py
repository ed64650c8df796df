"""Prediction in overlapping windows, stitched together by one weighted mean.

Whatever the blending, a window adds its probabilities times its weights to one sum and its weights to another; their
quotient is the answer. Uniform and Gaussian weights, kept centres and skipped background are nothing but weights and
values in those sums, and mirrored borders nothing but a larger image to slide over.
"""

from dataclasses import replace
from itertools import product
from typing import Literal, NamedTuple

import numpy as np
import torch

from bonepipe.data.spec import DataSpec
from bonepipe.inference.oof.predict import Predict
from bonepipe.ranges import Byte, Count, Pixels, Portion

Blending = Literal["uniform", "gaussian"]
Place = tuple[int, int, int]  # a window: the image, and the window's number along either axis
Side = Pixels | Portion  # pixels, or a share of something that is named where it is used

SIGMA = 0.125  # standard deviation of Gaussian weights, as a share of a window's side (nnU-Net, and MONAI after it)
LEAST = 1e-3  # least Gaussian weight: corners would lose their digits in the quotient


class Axis(NamedTuple):
    """Windows along one axis of an image.

    Attributes:
        source: for each pixel that windows slide over, the pixel of the image that it shows, int64 `[P]`.
        inside: where in `source` the image itself lies.
        window: a window's length, pixels.
        starts: first pixels of the windows in `source`.
        rims: for each window, the pixels at its start and at its end that do not count.
    """

    source: torch.Tensor
    inside: slice
    window: int
    starts: list[int]
    rims: list[tuple[int, int]]


def axis(length: int, window: int, stride: int, rim: int = 0, mirror: bool = False) -> Axis:
    """Lay windows along an axis: one every `stride` pixels, the last one flush with the end.

    Args:
        length: of the image, pixels.
        window, stride: pixels.
        rim: pixels at either end of a window that are context only (overlap-tile strategy: U-Net, section 2, figure 2).
            Where the image ends no other window could answer, so that rim counts, unless borders are mirrored.
        mirror: continue the image by its mirror image, by the rim, and as far as a window needs where it is larger.

    Raises:
        ValueError: the window is larger than the image, or kept centres leave gaps.
    """
    if stride > window - 2 * rim:
        raise ValueError(f"stride={stride} leaves gaps: a window of {window} pixels keeps {window - 2 * rim} of them")
    before, after = (rim, rim) if mirror else (0, 0)
    if mirror:
        after += max(0, window - (length + 2 * rim))
    total = length + before + after
    if window > total:
        raise ValueError(f"window={window}: larger than the image, {length} pixels; make it smaller, or mirror=true")
    starts = [min(start, total - window) for start in range(0, total - window + stride, stride)]
    rims = [(rim if mirror or start > 0 else 0, rim if mirror or start + window < total else 0) for start in starts]
    source = torch.from_numpy(np.pad(np.arange(length), (before, after), "reflect"))  # border pixels are not repeated
    return Axis(source, slice(before, before + length), window, starts, rims)


def blend(height: int, width: int, blending: Blending) -> torch.Tensor:
    """Weights of a window's pixels, float32 `[height, width]`, 1 at most."""
    if blending == "uniform":
        return torch.ones(height, width)
    column, row = (_gaussian(length) for length in (height, width))
    return (column[:, None] * row[None, :]).clamp_min(LEAST)


def _gaussian(length: int) -> torch.Tensor:
    distance = torch.arange(length) - (length - 1) / 2
    return torch.exp(-(distance**2) / (2 * (SIGMA * length) ** 2))


Sums = tuple[torch.Tensor, torch.Tensor]  # of weighted maps [N, C, h, w] and of weights [N, 1, h, w]


def slide(
    predict: Predict,
    images: torch.Tensor,
    rows: Axis,
    columns: Axis,
    classes: int,
    *,
    blending: Blending = "uniform",
    background: Byte | None = None,
    batch_size: Count = 8,
) -> torch.Tensor:
    """Predict images window by window.

    Args:
        predict: probabilities `[M, C, h, w]` of grey bytes `[M, h, w]`; on any device.
        images: grey bytes uint8 `[N, H, W]`.
        rows, columns: the windows along the height and the width.
        blending: how much the pixels of a window weigh where windows overlap.
        background: a window whose brightest pixel is at most this holds none of the classes and is not predicted.
        batch_size: windows a forward pass; they may come from several images.

    Returns:
        float32 `[N, C, H, W]` where `predict` puts its answers.
    """
    large = images[:, rows.source.to(images.device)][:, :, columns.source.to(images.device)]
    busy, idle = _sort_out(large, rows, columns, background)
    size = len(images), classes, len(rows.source), len(columns.source)
    weights, sums = blend(rows.window, columns.window, blending), None
    for first in range(0, len(busy), batch_size):
        batch = busy[first : first + batch_size]
        maps = predict(torch.stack([_cut(large, rows, columns, place) for place in batch])).float()
        if sums is None:
            weights, sums = weights.to(maps.device), _zeros(size, maps.device)
        for place, answer in zip(batch, maps, strict=True):
            _add(sums, rows, columns, place, weights, answer)
    sums = _zeros(size, weights.device) if sums is None else sums
    for place in idle:
        _add(sums, rows, columns, place, weights, None)
    total, shares = (part[..., rows.inside, columns.inside] for part in sums)
    return total.div_(shares)  # in the place of the sum, the largest tensor here


def _zeros(size: tuple[int, int, int, int], device: torch.device) -> Sums:
    return torch.zeros(size, device=device), torch.zeros((size[0], 1, *size[2:]), device=device)


def _sort_out(
    images: torch.Tensor, rows: Axis, columns: Axis, background: int | None
) -> tuple[list[Place], list[Place]]:
    """The windows to predict, and those that hold nothing but background."""
    places = list(product(range(len(images)), range(len(rows.starts)), range(len(columns.starts))))
    if background is None:
        return places, []
    busy = [place for place in places if int(_cut(images, rows, columns, place).max()) > background]
    return busy, sorted(set(places) - set(busy))


def _cut(images: torch.Tensor, rows: Axis, columns: Axis, place: Place) -> torch.Tensor:
    """The pixels `[h, w]` of a window."""
    image, row, column = place
    top, left = rows.starts[row], columns.starts[column]
    return images[image, top : top + rows.window, left : left + columns.window]


def _add(sums: Sums, rows: Axis, columns: Axis, place: Place, weights: torch.Tensor, maps: torch.Tensor | None) -> None:
    """Add what a window keeps of its answer `[C, h, w]`, times its weights `[h, w]`; None stands for 0."""
    image, row, column = place
    (above, below), (left, right) = rows.rims[row], columns.rims[column]
    kept = slice(above, rows.window - below), slice(left, columns.window - right)
    top, first = rows.starts[row], columns.starts[column]
    inside = slice(top + above, top + rows.window - below), slice(first + left, first + columns.window - right)
    sums[1][(image, slice(None), *inside)] += weights[kept]
    if maps is not None:
        sums[0][(image, slice(None), *inside)].addcmul_(maps[(slice(None), *kept)], weights[kept])


class Windows:
    """How an image is looked at: at which size, and whole or in windows.

    Args:
        size: height and width in pixels that images are brought to, as `data.fit` says; None for the size of training.
        window: a window's height and width; None for the whole image. A number with a decimal point is a share of the
            image's side, another one pixels.
        stride: from window to window; with a decimal point a share of the part of a window that is kept.
        blending: weights of a window's pixels, `uniform` or `gaussian`.
        centre: share of a window's side that is kept; the rim around it serves as context only.
        mirror: continue images by their mirror image, so that border pixels lie in kept centres too, and windows may be
            larger than the image.
        background: a window whose brightest grey value (0 to 255) is at most this is not predicted and gets
            probability 0; None to predict all.
        batch_size: windows a forward pass.

    Raises:
        ValueError: a window larger than the image, gaps between kept centres, or a value out of its range.
    """

    def __init__(
        self,
        data: DataSpec,
        /,
        *,
        size: Pixels | tuple[Pixels, Pixels] | None = None,
        window: Side | tuple[Side, Side] | None = None,
        stride: Side | tuple[Side, Side] = 0.5,
        blending: Blending = "uniform",
        centre: Portion = 1.0,
        mirror: bool = False,
        background: Byte | None = None,
        batch_size: Count = 8,
    ) -> None:
        if not 0 < centre <= 1:
            raise ValueError(f"windows.centre={centre}: a share of the window's side, above 0 and at most 1")
        if batch_size < 1:
            raise ValueError(f"windows.batch_size={batch_size}: at least 1")
        self.classes, self.blending, self.batch_size = len(data.classes), blending, batch_size
        self.background = background
        shape = data.shape if size is None else (size, size) if isinstance(size, int) else size
        self.frame = replace(data.frame, shape=shape)
        if min(shape) < 32:
            raise ValueError(f"windows.size={size}: at least 32 pixels a side")
        self._axes = None if window is None else self._lay(_pair(window), _pair(stride), centre, mirror)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels that images are brought to."""
        return self.frame.shape

    def _lay(self, window: tuple[Side, Side], stride: tuple[Side, Side], centre: float, mirror: bool) -> list[Axis]:
        axes = []
        for length, side, step in zip(self.shape, window, stride, strict=True):
            pixels = _pixels("window", side, length)
            rim = round(pixels * (1 - centre) / 2)
            try:
                axes.append(axis(length, pixels, _pixels("stride", step, pixels - 2 * rim), rim, mirror))
            except ValueError as error:
                raise ValueError(f"windows.{error}") from error
        return axes

    def over(self, predict: Predict) -> Predict:
        """Make a predictor of whole images, `[N, *shape]`, of one that sees windows; the same one without windows."""
        if self._axes is None:
            return predict
        rows, columns = self._axes
        return lambda images: slide(
            predict, images, rows, columns, self.classes,
            blending=self.blending, background=self.background, batch_size=self.batch_size,
        )  # fmt: skip

    def __len__(self) -> int:
        """Windows an image, background included."""
        return 1 if self._axes is None else len(self._axes[0].starts) * len(self._axes[1].starts)


def _pair(value: Side | tuple[Side, Side]) -> tuple[Side, Side]:
    return value if isinstance(value, tuple) else (value, value)


def _pixels(name: str, value: Side, full: int) -> int:
    """Pixels as they are; a share of `full` as pixels, one at least."""
    if isinstance(value, int):
        if value < 1:
            raise ValueError(f"windows.{name}={value}: at least 1 pixel")
        return value
    if not 0 < value <= 1:
        raise ValueError(f"windows.{name}={value}: a share lies above 0 and is at most 1; write pixels without a point")
    return max(1, round(value * full))
