"""Test-time augmentation: ttach's transforms, applied to probabilities, with the dataset's class swaps."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import torch
import ttach

from bonepipe.data.spec import DataSpec
from bonepipe.errors import BonepipeError, suggestion

# A view helps only if the model saw its like in training: which augmentations teach which view.
TAUGHT_BY = {
    "HorizontalFlip": {"HorizontalFlip", "D4", "SquareSymmetry"},
    "VerticalFlip": {"VerticalFlip", "D4", "SquareSymmetry"},
    "Rotate90": {"RandomRotate90", "D4", "SquareSymmetry"},
    "Scale": {"Affine", "RandomScale", "ShiftScaleRotate"},
    "Resize": {"Affine", "RandomScale", "ShiftScaleRotate"},
    "Add": {"RandomBrightnessContrast"},
    "Multiply": {"RandomBrightnessContrast"},
}
SCALING = ("Scale", "Resize")
AXES = {"HorizontalFlip": "horizontal", "VerticalFlip": "vertical"}

Call = Callable[[torch.Tensor], torch.Tensor]


class Views:
    """A composition of views; every combination of the transforms' parameters is one.

    Args:
        transforms: ttach transforms in order, each `{name: ..., argument: value, ...}`; none gives the plain image.
        weights: one a view, in ttach's order (the last transform's parameters change fastest); None for equal ones.
        force: allow views that a model did not see in training.

    Raises:
        ValueError: an unknown transform or argument, or another number of weights than views.
    """

    def __init__(
        self,
        data: DataSpec,
        /,
        *,
        transforms: Sequence[Mapping[str, Any]] = (),
        weights: Sequence[float] | None = None,
        force: bool = False,
    ) -> None:
        self.names = [str(node.get("name")) for node in transforms]
        self.force = force
        self._compose = ttach.Compose([_build(node, data) for node in transforms])
        shares = [1.0] * len(self._compose) if weights is None else list(weights)
        if len(shares) != len(self._compose) or sum(shares) <= 0 or min(shares) < 0:
            raise ValueError(f"weights={weights}: need {len(self._compose)} of them, none negative, not all zero")
        self.weights = [share / sum(shares) for share in shares]

    def __len__(self) -> int:
        return len(self._compose)

    def __iter__(self) -> Iterator[tuple[float, Call, Call]]:
        """Weight, image transform and inverse mask transform of each view.

        Maps of a scaled view come back at its size, for the caller to bring to the image's: see `_scaling`.
        """
        for weight, view in zip(self.weights, self._compose, strict=True):
            yield weight, view.augment_image, view.deaugment_mask

    def check(self, augmentations: Collection[str], where: object) -> None:
        """Refuse views that a model trained with these augmentations has not seen. Raises BonepipeError."""
        for name in self.names:
            if not self.force and not TAUGHT_BY[name] & set(augmentations):
                raise BonepipeError(
                    f"{where}: tta.transforms has {name}, which the model did not see in training (its augmentations: "
                    f"{', '.join(augmentations) or 'none'}); use tta=none, or tta.force=true to try all the same"
                )


def _build(node: Mapping[str, Any], data: DataSpec) -> Any:
    arguments = dict(node)
    name = str(arguments.pop("name", None))
    if name not in TAUGHT_BY:
        raise ValueError(f"no view {name!r}{suggestion(name, TAUGHT_BY) or '; there are ' + ', '.join(TAUGHT_BY)}")
    kind = getattr(ttach, name)
    if name in SCALING:  # ttach's own default, nearest neighbour, shifts the maps
        kind, arguments = _scaling(kind), {"interpolation": "bilinear", "align_corners": False, **arguments}
    try:
        if name in AXES and data.swaps.get(AXES[name]):
            return _swapping(kind, data.mirrored_order(AXES[name]))(**arguments)
        return kind(**arguments)
    except TypeError as error:
        raise ValueError(f"view {name}: {error}") from error


def _scaling(kind: Any) -> Any:
    """A change of size whose way back is left to whoever knows the image's size.

    ttach scales back by the inverse factor and rounds down, so that 160 x 1.1 comes back as 159: one more interpolation
    would then have to bring the maps to 160, and blur them once more.
    """

    class OneWay(kind):
        def apply_deaug_mask(self, mask: torch.Tensor, **parameters: Any) -> torch.Tensor:
            return mask

    return OneWay


def _swapping(kind: Any, order: Sequence[int]) -> Any:
    """A flip whose way back lets the classes trade places, as training did."""

    class SwappingFlip(kind):
        def apply_deaug_mask(self, mask: torch.Tensor, apply: bool = False, **parameters: Any) -> torch.Tensor:
            mask = super().apply_deaug_mask(mask, apply=apply, **parameters)
            return mask[:, list(order)] if apply else mask

    return SwappingFlip
