"""Augmentation: an albumentations recipe on a grey image and its bit-planes, the same for the same seed."""

import inspect
import random
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import albumentations as A
import cv2
import numpy as np
from pydantic import ValidationError

from bonepipe import plain_yaml
from bonepipe.data.spec import DataSpec
from bonepipe.errors import BonepipeError, quoted, reason, suggestion
from bonepipe.labels import bitplane
from bonepipe.ranges import Count

Nodes = Sequence[Mapping[str, Any]]

FLIPS = {"HorizontalFlip": "horizontal", "VerticalFlip": "vertical"}
MIRRORING = {"Transpose", "D4", "SquareSymmetry"}  # mirror without saying along which axis
TURNING = MIRRORING | {"RandomRotate90"}  # exchange height and width
CHOICES = {"OneOf", "SomeOf", "Sequential"}
# Resampling that knows a nearest neighbour with aligned centres; the other one would shift labels by half a pixel.
RESAMPLING = {
    "Resize", "RandomScale", "LongestMaxSize", "SmallestMaxSize", "RandomSizedCrop", "RandomResizedCrop",
}  # fmt: skip
# Arguments in pixels of an image's height and width.
PIXELS = {
    "height", "width", "size", "min_max_height", "max_size", "max_size_hw", "min_height", "min_width", "padding", "px",
    "translate_px", "x_min", "y_min", "x_max", "y_max", "hole_height_range", "hole_width_range", "unit_size_range",
}  # fmt: skip
WITHOUT_SIZE = {"Resize": ("height", "width"), "RandomSizedCrop": ("size",), "RandomResizedCrop": ("size",)}
# Arguments that write, read or blend the labels' bytes as if they were numbers, and the values that do no harm.
ON_LABELS: dict[str, tuple[Any, ...]] = {
    "fill_mask": (None, 0), "mask_drop_value": (None, 0), "ignore_values": (None,), "ignore_channels": (None,),
    "area_for_downscale": (None, "image"),
}  # fmt: skip
# The kinds of view that a transform shows a model whatever its arguments; SquareSymmetry is a D4.
SHOWN_BY = {
    A.HorizontalFlip: ["HorizontalFlip"],
    A.VerticalFlip: ["VerticalFlip"],
    A.RandomRotate90: ["Rotate90"],
    A.D4: ["HorizontalFlip", "VerticalFlip", "Rotate90"],
}
PROBES = 8  # seeds tried when a recipe is built that may change an image's size


class Augmentation:
    """A recipe from conf/augment: a list of albumentations transforms, each `{name: ..., argument: value, ...}`.

    `OneOf`, `SomeOf` and `Sequential` take a nested list under `transforms`. Bit-planes are warped by nearest
    neighbour, whatever a transform's default, because interpolating bits would invent labels. Dropouts hide the image
    and keep its labels, unless `fill_mask: 0` takes these away as well. Where the dataset swaps classes under a flip,
    the flip does so here. Sides of a crop may be shares of the image (0.75 of its height), and `Resize` without a size
    goes back to the size that the model sees, which is the size that every recipe must end with.

    Attributes:
        names: of its transforms, sorted.
        shows: the kinds of test-time view that it shows a model, each with the least and the greatest amount, or with
            none where the kind has no amounts: `{"HorizontalFlip": [], "Scale": [0.85, 1.15]}`.

    Args:
        data: the dataset; its size is that of the images.
        file: a YAML file with more `transforms`, applied after them; `bonepipe autoaugment` writes such files.

    Raises:
        ValueError: an unknown transform (the nearest name is suggested), an argument that it does not take or that
            would change labels, a mirroring transform whose class swap is not defined, a crop larger than the image, a
            recipe that changes the image's size, or a file that is missing or holds no recipe.
    """

    def __init__(self, data: DataSpec, /, *, transforms: Nodes = (), file: str | None = None) -> None:
        nodes = (*transforms, *(read_policy(Path(file)) if file is not None else ()))
        self._recipe = data, nodes
        self.names = sorted(set(_names(nodes)))
        self._pipeline = A.Compose([_build(node, data) for node in nodes])
        self.shows = _shows(list(_leaves(self._pipeline)))
        if any(word in name for name in self.names for word in ("Crop", "Resize", "Size", "Scale", "Pad")):
            self._probe(data)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to loader processes as the recipe: the flips that swap classes are made here and cannot be pickled."""
        data, nodes = self._recipe
        return partial(Augmentation, transforms=nodes), (data,)

    def __call__(self, image: np.ndarray, planes: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Augment uint8 `[h, w]` and `[h, w, P]`; the seed alone decides how, so that workers and resuming do not.

        Raises:
            BonepipeError: the recipe changed the image's size or type.
        """
        # One stream of numbers for all transforms: set_random_seed would give each the same one, and then a flip and a
        # change of brightness with the same p would happen together or not at all.
        self._pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
        result = self._pipeline(image=image, mask=planes)
        for before, after in ((image, result["image"]), (planes, result["mask"])):
            if before.shape != after.shape or before.dtype != after.dtype:
                raise BonepipeError(f"augment: the recipe ({', '.join(self.names)}) {_change(before, after)}")
        return result["image"], result["mask"]

    def _probe(self, data: DataSpec) -> None:
        """Refuse a recipe that changes sizes now and not in the middle of training."""
        image = np.zeros(data.drawn_shape, np.uint8)
        planes = np.zeros((*data.drawn_shape, bitplane.plane_count(len(data.classes))), np.uint8)
        try:
            for seed in range(PROBES):
                self(image, planes, seed)
        except BonepipeError as error:
            raise ValueError(str(error).removeprefix("augment: ")) from error


def by_passes(data: DataSpec, /, *, short: Nodes, long: Nodes, passes: Count, enough: Count = 150) -> Augmentation:
    """The recipe that suits a training's length: `long` from `enough` passes over the images on, before it `short`.

    Both are made, so that a mistake in either is told at once.

    Raises:
        ValueError: as of `Augmentation`, for either recipe.
    """
    recipes = [Augmentation(data, transforms=nodes) for nodes in (short, long)]
    return recipes[passes >= enough]


def _change(before: np.ndarray, after: np.ndarray) -> str:
    if before.dtype != after.dtype:
        return f"turns {before.dtype} into {after.dtype}; training takes bytes, and normalises them itself"
    old, new = (" x ".join(map(str, array.shape[:2])) for array in (before, after))
    return f"turns an image of {old} pixels into {new}; end what changes the size with {{name: Resize}}"


def read_policy(path: Path) -> list[dict[str, Any]]:
    """The recipe under `transforms` in a YAML file. Raises ValueError where there is none."""
    try:
        content = plain_yaml.load(path)
    except FileNotFoundError as error:
        raise ValueError(
            f"file={path}: there is no such policy; `bonepipe autoaugment fold=0 ...` writes one to "
            "runs/NAME/policy.yaml from a trained fold (augment.file=PATH names another file)"
        ) from error
    except (OSError, ValueError) as error:
        raise ValueError(f"file={path}: cannot be read ({reason(error)})") from error
    nodes = content.get("transforms") if isinstance(content, dict) else None
    if not isinstance(nodes, list) or not all(isinstance(node, dict) for node in nodes):
        raise ValueError(f"file={path}: holds no list of {{name: ..., ...}} under `transforms`")
    return nodes


def _names(nodes: Nodes) -> list[str]:
    return [name for node in nodes for name in [str(node.get("name")), *_names(node.get("transforms", ()))]]


def _leaves(transform: Any) -> Iterator[Any]:
    """The transforms of a recipe that ever happen: with a p above 0, in choices and sequences that have one."""
    if transform.p > 0 and isinstance(transform, A.BaseCompose):
        for inner in transform.transforms:
            yield from _leaves(inner)
    elif transform.p > 0:
        yield transform


def _shows(transforms: Sequence[Any]) -> dict[str, list[float]]:
    """Kinds of view -> the least and the greatest amount by any of the transforms."""
    resized = any(type(transform).__name__ in RESAMPLING - {"RandomScale"} for transform in transforms)
    amounts_of: dict[str, list[float]] = {}
    for transform in transforms:
        undone = resized and isinstance(transform, A.RandomScale)  # at the end all images have one size again
        scales = [] if undone else _scales(transform)
        for kind in ["Scale"] if scales else _kinds(transform):
            amounts_of.setdefault(kind, []).extend(scales)
    return {kind: [min(amounts), max(amounts)] if amounts else [] for kind, amounts in sorted(amounts_of.items())}


def _kinds(transform: Any) -> list[str]:
    """The kinds of view that a transform shows, scales apart."""
    if isinstance(transform, A.RandomBrightnessContrast) and any(transform.brightness_limit):
        # Multiply stretches about the mean of the greys: contrast, which stretches about black, and some brightness.
        return ["Add", "Multiply"] if any(transform.contrast_limit) else ["Add"]
    return [kind for cause, kinds in SHOWN_BY.items() if isinstance(transform, cause) for kind in kinds]


def _scales(transform: Any) -> list[float]:
    """The least and the greatest factor by which a transform enlarges what there is to see; none if it does not."""
    if isinstance(transform, A.RandomScale):
        low, high = (1 + limit for limit in transform.scale_limit)
    elif isinstance(transform, A.Affine) and not transform.fit_output:  # ShiftScaleRotate is one
        low, high = max(span[0] for span in transform.scale.values()), min(span[1] for span in transform.scale.values())
    else:
        return []
    span = [round(low, 6), round(high, 6)]
    return span if low <= high and span != [1, 1] else []


def _build(node: Mapping[str, Any], data: DataSpec) -> Any:
    arguments = dict(node)
    name = str(arguments.pop("name", None))
    kind = _kind(name, data)
    unknown = set(arguments) - _arguments(kind)
    if unknown:
        wrong, known = min(unknown), sorted(_arguments(kind))
        raise ValueError(f"{name} takes no {wrong!r}{suggestion(wrong, known)} (it takes {', '.join(known)})")
    if name in CHOICES:
        if not arguments.get("transforms"):
            raise ValueError(f"{name} needs a list of transforms to choose from, under `transforms`")
        arguments["transforms"] = [_build(inner, data) for inner in arguments["transforms"]]
    else:
        _guard_labels(name, kind, arguments)
        _set_size(name, arguments, data.shape, data.supersample)
    if name == "CropNonEmptyMaskIfExists":  # neither pixels that do not count nor those beside an image, see `batches`
        count = bitplane.plane_count(len(data.classes))
        arguments["ignore_channels"] = list(range(count, 4 * count))
    if name in FLIPS and data.swaps.get(FLIPS[name]):
        kind = _swapping(kind, data.mirrored_order(FLIPS[name]))
    try:
        return kind(**arguments)
    except ValueError as error:
        if not isinstance(error.__cause__, ValidationError):
            raise
        first = error.__cause__.errors()[0]  # pydantic's own text has a line a field, and addresses
        where = ".".join(str(part) for part in (name, *first["loc"]))
        raise ValueError(f"{where}: {first['msg'][0].lower()}{first['msg'][1:]}") from error
    except ZeroDivisionError as error:
        raise ValueError(f"{name}: there is nothing to choose from, every p in it is 0") from error
    except TypeError as error:  # an argument without default is missing
        raise ValueError(f"{name}: {error}") from error


def _kind(name: str, data: DataSpec) -> type:
    """The class of a transform, if the dataset allows it."""
    kind = getattr(A, name, None)
    if not (isinstance(kind, type) and issubclass(kind, A.BasicTransform | A.BaseCompose)):
        kinds = [known for known, value in vars(A).items() if isinstance(value, type)]
        raise ValueError(f"albumentations has no {quoted(name)}{suggestion(name, kinds)}")
    if name == "Lambda":
        raise ValueError("Lambda takes functions of Python, which a config cannot name; write a transform of your own")
    if name in MIRRORING and any(data.swaps.values()):
        raise ValueError(f"{name} mirrors along either axis, and {data.name} swaps mirrored classes; use the flips")
    if name in TURNING and data.shape[0] != data.shape[1]:
        height, width = data.shape
        raise ValueError(f"{name} exchanges height and width, and images of {height} x {width} pixels are not square")
    if name == "Morphological":
        raise ValueError(f"{name} grows and shrinks labels as if their bits were one number")
    return kind


def _guard_labels(name: str, kind: type, arguments: dict[str, Any]) -> None:
    """Let nothing interpolate or overwrite the bits of labels; changes `arguments`."""
    for key, harmless in ON_LABELS.items():
        if arguments.get(key) not in harmless:
            raise ValueError(
                f"{name}.{key}={arguments[key]!r}: labels are bit-planes, and their bytes are no numbers; "
                f"it may be {' or '.join('null' if value is None else str(value) for value in harmless)}"
            )
    if "mask_interpolation" in _arguments(kind):
        arguments["mask_interpolation"] = cv2.INTER_NEAREST_EXACT if name in RESAMPLING else cv2.INTER_NEAREST


def _set_size(name: str, arguments: dict[str, Any], shape: tuple[int, int], scale: int) -> None:
    """Turn sizes and shares of the image into pixels, and fill in its size where none is given; changes `arguments`.

    Sizes are those of the image as the model sees it, `shape`; the transforms work at `scale` times that size.
    """
    if name in WITHOUT_SIZE and not any(key in arguments for key in WITHOUT_SIZE[name]):
        arguments |= {"height": shape[0], "width": shape[1]} if name == "Resize" else {"size": shape}
    for side, full in zip(("height", "width"), shape, strict=True):
        value = arguments.get(side)
        if isinstance(value, float):
            if not 0 < value <= 1:
                raise ValueError(f"{name}.{side}={value}: a share of the image lies between 0 and 1")
            value = arguments[side] = max(1, round(value * full))
        if "Crop" in name and isinstance(value, int) and value > full and not arguments.get("pad_if_needed"):
            raise ValueError(
                f"{name}.{side}={value}: the crop is larger than the image, {shape[0]} x {shape[1]} pixels (data.size);"
                " make it smaller, or give a share such as 0.75"
            )
    arguments |= {key: _scaled(arguments[key], scale) for key in PIXELS & arguments.keys()}


def _scaled(value: Any, scale: int) -> Any:
    """Whole numbers, alone or in lists and mappings, at `scale` times the size; other numbers are shares, and stay."""
    if isinstance(value, Mapping):
        return {key: _scaled(inner, scale) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_scaled(inner, scale) for inner in value)
    return scale * value if isinstance(value, int) else value


def _arguments(kind: type) -> set[str]:
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
