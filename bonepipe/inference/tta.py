"""Test-time augmentation: ttach's transforms, applied to probabilities, with the dataset's class swaps."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import ttach

from bonepipe.data.spec import DataSpec
from bonepipe.errors import BonepipeError, suggestion
from bonepipe.ranges import Amount

# Weights files of earlier versions tell what the model saw by the names of augmentations alone.
TAUGHT_BY = {
    "HorizontalFlip": {"HorizontalFlip", "D4", "SquareSymmetry"},
    "VerticalFlip": {"VerticalFlip", "D4", "SquareSymmetry"},
    "Rotate90": {"RandomRotate90", "D4", "SquareSymmetry"},
    "Scale": {"Affine", "RandomScale", "ShiftScaleRotate"},
    "Add": {"RandomBrightnessContrast"},
    "Multiply": {"RandomBrightnessContrast"},
}
# A view helps only if the model saw its like in training: the kind of view that each asks for.
ASKS_FOR = {**{kind: kind for kind in TAUGHT_BY}, "Resize": "Scale"}
SCALING = ("Scale", "Resize")
AXES = {"HorizontalFlip": "horizontal", "VerticalFlip": "vertical"}

Call = Callable[[torch.Tensor], torch.Tensor]
Seen = Mapping[str, Sequence[float]]  # as `Augmentation.shows`; a kind without amounts was seen in any


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
        weights: Sequence[Amount] | None = None,
        force: bool = False,
    ) -> None:
        self.force = force
        built = [_build(node, data) for node in transforms]
        self._asked = [(str(node["name"]), _amounts(view)) for node, view in zip(transforms, built, strict=True)]
        self._compose = ttach.Compose(built)
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

    def check(self, seen: Seen, where: object) -> None:
        """Refuse views whose like a model has not seen in training. Raises BonepipeError."""
        for name, amounts in self._asked:
            span = seen.get(ASKS_FOR[name])
            beyond = [amount for amount in amounts if span and not span[0] <= amount <= span[1]]
            if not self.force and (span is None or beyond):
                saw = ", ".join(_phrase(*kind) for kind in seen.items()) or "images as they are"
                raise BonepipeError(
                    f"{where}: tta.transforms has {_phrase(name, beyond, ', ')}, which the model did not see in "
                    f"training (it saw {saw}); use tta=none, or tta.force=true to try all the same"
                )


def seen_in_training(facts: Mapping[str, Any]) -> Seen:
    """What a model saw, by what its weights file says of itself."""
    if "seen" in facts:
        return facts["seen"]
    names = set(facts.get("augmentations", ()))
    return {kind: [] for kind, teachers in TAUGHT_BY.items() if teachers & names}


def _phrase(kind: str, amounts: Sequence[float], link: str = " to ") -> str:
    return f"{kind} {link.join(f'{amount:g}' for amount in amounts)}".rstrip()


def _amounts(view: Any) -> list[float]:
    """What has to lie between the amounts that were seen: the scales. Sizes depend on the image."""
    return [scale for scale in view.params if scale != view.identity_param] if isinstance(view, ttach.Scale) else []


def _build(node: Mapping[str, Any], data: DataSpec) -> Any:
    arguments = dict(node)
    for angle in arguments.get("angles", ()):
        if angle % 90:
            raise ValueError(f"view {node.get('name')}: angle {angle} is no multiple of 90 degrees")
    for scale in arguments.get("scales", ()):
        if not 0 < scale < math.inf:
            raise ValueError(f"view {node.get('name')}: scale {scale} is not above 0")
    name = str(arguments.pop("name", None))
    if name not in ASKS_FOR:
        raise ValueError(f"no view {name!r}{suggestion(name, ASKS_FOR) or '; there are ' + ', '.join(ASKS_FOR)}")
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
