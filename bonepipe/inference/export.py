"""All that predicts in one module that can be traced: normalisation, fold models, views, their mean, from bytes on."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from bonepipe.data.frame import Fit, Frame
from bonepipe.inference.tta import Call, Views
from bonepipe.training.module import normalise


class Averaged(nn.Module):
    """The mean probabilities of models and views, as `fold_model.mean_probabilities` has them.

    Args:
        models: in evaluation mode, float32 `[N, 1, h, w]` to logits `[N, C, h, w]`.
        views: applied to every model.
        mean, std: of the grey values, on the scale 0 to 1.
    """

    def __init__(self, models: Sequence[nn.Module], views: Views, mean: float, std: float) -> None:
        super().__init__()
        self.models, self.views, self.mean, self.std = nn.ModuleList(models), list(views), mean, std

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Probabilities float32 `[N, C, h, w]` of grey values `[N, 1, h, w]`, 0 to 255."""
        batch = normalise(images[:, 0], self.mean, self.std)
        maps = _sum([of_view for model in self.models for of_view in self._views(model, batch)])
        return maps / len(self.models)

    def _views(self, model: nn.Module, batch: torch.Tensor) -> list[torch.Tensor]:
        """The weighted maps of each view; those of one size are one pass, which halves the graph of a mirrored one."""
        sizes: dict[tuple[int, int], list[tuple[float, Call, torch.Tensor]]] = {}
        for weight, forth, back in self.views:
            shown = forth(batch)
            sizes.setdefault((shown.shape[2], shown.shape[3]), []).append((weight, back, shown))
        answers = []
        for views in sizes.values():
            parts = model(torch.cat([shown for _, _, shown in views])).sigmoid().unflatten(0, (len(views), -1))
            for number, (weight, back, _) in enumerate(views):
                maps = back(parts[number])
                if maps.shape[-2:] != batch.shape[-2:]:  # a scaled view; pixel centres stay where they are
                    maps = functional.interpolate(maps, batch.shape[-2:], mode="bilinear", align_corners=False)
                answers.append(maps * weight)
        return answers


class Mixed(nn.Module):
    """The arithmetic mean of an ensemble's members that all see the same frame.

    Args:
        members: grey values `[N, 1, h, w]` to probabilities `[N, C, h, w]`.
        weights: float32 `[M, C]`; those of a class add to 1.
    """

    weights: torch.Tensor

    def __init__(self, members: Sequence[nn.Module], weights: torch.Tensor) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.register_buffer("weights", weights[:, :, None, None])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Probabilities float32 `[N, C, h, w]`."""
        return _sum([member(images) * self.weights[number] for number, member in enumerate(self.members)])


def _sum(maps: Sequence[torch.Tensor]) -> torch.Tensor:
    total = maps[0]
    for more in maps[1:]:
        total = total + more
    return total


class AnySize(nn.Module):
    """Shows a network images of any size in its frame, and brings the probabilities back to the images' own size.

    This is `Frame.place` with `image.resize_grey`, and `labels.upsample`, in tensors alone, so that height and width
    are found whenever the graph runs. Where an image shrinks the bytes are those of OpenCV but for rounding; where it
    grows they may be a level off, as OpenCV weighs in steps of 1/2048.

    Args:
        network: grey values `[N, 1, h, w]` to probabilities `[N, C, h, w]`.
        frame: of the network.
    """

    def __init__(self, network: nn.Module, frame: Frame) -> None:
        super().__init__()
        self.network, self.shape, self.fit = network, frame.shape, frame.fit

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Probabilities float32 `[N, C, H, W]` of grey bytes uint8 `[N, 1, H, W]`."""
        rows, columns = _axes((images.shape[2], images.shape[3]), self.shape, self.fit)
        grey = _shrink(rows) @ images.float() @ _shrink(columns).T
        halves = (rows.step == 2) & (columns.step == 2)  # there OpenCV rounds them up, else to even numbers
        maps = self.network(torch.where(halves, (grey + 0.5).floor(), grey.round()))
        return _enlarge(_enlarge(maps, 2, rows), 3, columns)


class _Axis(NamedTuple):
    """One axis of an image and its frame, all in float64.

    Attributes:
        pixels: of the image, 0 to its side - 1.
        places: of the frame, 0 to its side - 1, counted from where the image begins in it.
        margin: where that is, in pixels of the frame.
        inside: how many pixels of the frame show the image.
        step: pixels of the image to one of the frame.
    """

    pixels: torch.Tensor
    places: torch.Tensor
    margin: torch.Tensor
    inside: torch.Tensor
    step: torch.Tensor


def _axes(image: tuple[int, int], frame: tuple[int, int], fit: Fit) -> list[_Axis]:
    """Both axes of an image, its height and width maybe symbols, in a frame as `Frame.box` places it."""
    pixels = [torch.arange(side, dtype=torch.float64) for side in image]
    sides = [axis[-1] + 1 for axis in pixels]  # as tensors: numbers would be fixed in the graph
    scale = torch.minimum(frame[0] / sides[0], frame[1] / sides[1])
    axes = []
    for axis, side, full in zip(pixels, sides, frame, strict=True):
        margin = ((full - side * scale) / 2).round().clamp(max=(full - 1) // 2) if fit == "pad" else side * 0
        inside = full - 2 * margin
        places = torch.arange(full, dtype=torch.float64) - margin
        axes.append(_Axis(axis, places, margin, inside, side / inside))
    return axes


def _shrink(axis: _Axis) -> torch.Tensor:
    """How much each pixel of the image counts in each of the frame, float32 `[h, H]`; nothing beside the image.

    Means over areas where the image shrinks, linear interpolation where it grows.
    """
    place, pixel, step = axis.places[:, None], axis.pixels[None], axis.step
    common = torch.minimum((place + 1) * step, pixel + 1) - torch.maximum(place * step, pixel)
    position = torch.minimum(((place + 0.5) * step - 0.5).clamp(min=0), pixel[:, -1:])
    near = (1 - (position - pixel).abs()) * ((place >= 0) & (place < axis.inside))
    return torch.where(step >= 1, common / step, near).clamp(min=0).float()


def _enlarge(maps: torch.Tensor, dimension: int, axis: _Axis) -> torch.Tensor:
    """Bring a dimension of maps of the frame to the image's side, bilinearly, pixel centres aligned."""
    last = axis.inside - 1
    position = torch.minimum(((axis.pixels + 0.5) / axis.step - 0.5).clamp(min=0), last)
    first = position.floor()
    here, there = (
        maps.index_select(dimension, (axis.margin + index).long()) for index in (first, torch.minimum(first + 1, last))
    )
    weight = (position - first).float()
    return here + (weight if dimension == 3 else weight[:, None]) * (there - here)
