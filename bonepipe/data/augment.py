"""Augmentation: an albumentations recipe on a grey image and its bit-planes, the same for the same seed."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import albumentations as A
import cv2
import numpy as np

from bonepipe.data.spec import DataSpec
from bonepipe.labels import bitplane

FLIPS = {"HorizontalFlip": "horizontal", "VerticalFlip": "vertical"}
MIRRORING = {"Transpose", "D4", "SquareSymmetry"}  # mirror without saying along which axis
CHOICES = {"OneOf", "SomeOf", "Sequential"}


class Augmentation:
    """A recipe from conf/augment: a list of albumentations transforms, each `{name: ..., argument: value, ...}`.

    `OneOf`, `SomeOf` and `Sequential` take a nested list under `transforms`. Bit-planes are warped by nearest
    neighbour, whatever a transform's default, because interpolating bits would invent labels. Where the dataset swaps
    classes under a flip, the flip does so here.

    Raises:
        ValueError: an unknown transform (the nearest name is suggested) or an argument that it does not take; a
            mirroring transform whose class swap is not defined.
    """

    def __init__(self, data: DataSpec, /, *, transforms: Sequence[Mapping[str, Any]] = ()) -> None:
        self._recipe = data, tuple(transforms)
        self.names = sorted(set(_names(transforms)))
        self._pipeline = A.Compose([_build(node, data) for node in transforms])

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to loader processes as the recipe: the flips that swap classes are made here and cannot be pickled."""
        return _cook, self._recipe

    def __call__(self, image: np.ndarray, planes: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Augment uint8 `[h, w]` and `[h, w, P]`; the seed alone decides how, so that workers and resuming do not."""
        self._pipeline.set_random_seed(seed)
        result = self._pipeline(image=image, mask=planes)
        return result["image"], result["mask"]


def _cook(data: DataSpec, transforms: Sequence[Mapping[str, Any]]) -> Augmentation:
    return Augmentation(data, transforms=transforms)


def _names(nodes: Sequence[Mapping[str, Any]]) -> list[str]:
    return [name for node in nodes for name in [str(node.get("name")), *_names(node.get("transforms", ()))]]


def _build(node: Mapping[str, Any], data: DataSpec) -> Any:
    arguments = dict(node)
    name = str(arguments.pop("name", None))
    kind = getattr(A, name, None)
    if not (isinstance(kind, type) and issubclass(kind, A.BasicTransform | A.BaseCompose)):
        near = difflib.get_close_matches(name, dir(A), n=1)
        raise ValueError(f"albumentations has no {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    if name in MIRRORING and any(data.swaps.values()):
        raise ValueError(f"{name} mirrors along either axis, and {data.name} swaps mirrored classes; use the flips")
    if name in CHOICES:
        if not arguments.get("transforms"):
            raise ValueError(f"{name} needs a list of transforms to choose from, under `transforms`")
        arguments["transforms"] = [_build(inner, data) for inner in arguments["transforms"]]
    elif "mask_interpolation" in _arguments(kind):
        arguments["mask_interpolation"] = cv2.INTER_NEAREST
    unknown = set(arguments) - _arguments(kind)
    if unknown:
        raise ValueError(f"{name} takes no {sorted(unknown)[0]!r}; it takes {', '.join(sorted(_arguments(kind)))}")
    if name in FLIPS and data.swaps.get(FLIPS[name]):
        kind = _swapping(kind, data.mirrored_order(FLIPS[name]))
    try:
        return kind(**arguments)
    except TypeError as error:  # an argument without default is missing
        raise ValueError(f"{name}: {error}") from error


def _arguments(kind: type) -> set[str]:
    import inspect

    return set(inspect.signature(kind).parameters)


def _swapping(kind: type, order: tuple[int, ...]) -> type:
    """A flip that also lets the classes trade places, as the dataset says they do in a mirrored image."""

    class SwappingFlip(kind):
        def apply_to_mask(self, mask: np.ndarray, *args: Any, **params: Any) -> np.ndarray:
            flipped = super().apply_to_mask(mask, *args, **params)
            # Planes of labels may be followed by as many planes of pixels whose labels do not count.
            sets = np.split(flipped, flipped.shape[-1] // bitplane.plane_count(len(order)), axis=-1)
            return np.concatenate([bitplane.permute_classes(planes, order) for planes in sets], axis=-1)

    return SwappingFlip
