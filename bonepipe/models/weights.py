"""Pretrained weights: files of other people, from a cache folder or the network, checked before they are used."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from bonepipe.errors import BonepipeError

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum

CACHE_HINT = "fill the cache folder (HF_HOME, by default ~/.cache/huggingface; TORCH_HOME for the older encoders)"

Network = TypeVar("Network", bound=nn.Module)


def no_weights(encoder: str, weights: str, reason: Exception | str, group: str = "model") -> BonepipeError:
    """The error to raise where pretrained weights cannot be had: which, why, and both ways out."""
    return BonepipeError(
        f"{group}.encoder_weights={weights}: the weights of {encoder} cannot be had ({_brief(reason)}). "
        f"Train from scratch with {group}.encoder_weights=null, or {CACHE_HINT} on a machine with network"
    )


def _brief(reason: Exception | str) -> str:
    """The first line of a reason, with the second where the first only announces it."""
    if isinstance(reason, KeyError):
        return f"the file has no {reason.args[0]}"
    lines = str(reason).strip().splitlines() or [type(reason).__name__]
    return shorten(" ".join(lines[: 2 if lines[0].endswith(":") else 1]), 300, placeholder=" ...")


def with_weights(encoder: str, weights: str | None, make: Callable[[bool], Network], group: str = "model") -> Network:
    """What a library makes with pretrained weights, which it may load in part or not at all without a word.

    The same without weights is made first: so what the settings have wrong shows before anything is fetched, whatever
    fails afterwards is the weights' fault, and a layer that is the same in both was not loaded.

    Args:
        encoder: its name, for messages.
        weights: their name, or None for none.
        make: the network, or an encoder alone, with or without the weights.
        group: of the setting, for messages.

    Raises:
        BonepipeError: the weights cannot be had, do not fit, or are not finite; other errors are the settings'.
    """
    state = torch.get_rng_state()
    untrained = make(False)
    if weights is None:
        return untrained
    torch.set_rng_state(state)
    try:
        network = make(True)
        check_finite(_encoder(network).state_dict())
    except Exception as error:  # of the network, the hub's client, two readers of files and two libraries of encoders
        raise no_weights(encoder, weights, error, group) from error
    parameters, before = (_encoder(each).named_parameters() for each in (network, untrained))
    missing = [name for (name, new), (_, old) in zip(parameters, before, strict=True) if _is_same_draw(new, old)]
    if missing:
        reason = f"the file fills no {missing[0]} and lacks {len(missing)} layers in all"
        raise no_weights(encoder, weights, reason, group)
    return network


def _encoder(network: nn.Module) -> nn.Module:
    encoder = getattr(network, "encoder", network)
    assert isinstance(encoder, nn.Module)
    return encoder


def _is_same_draw(new: torch.Tensor, old: torch.Tensor) -> bool:
    """Whether two tensors of weights are the same random numbers; vectors begin as constants, which says nothing."""
    return new.ndim > 1 and new.shape == old.shape and bool(old.min() < old.max()) and torch.equal(new, old)


def check_finite(state: dict[str, torch.Tensor]) -> None:
    """Raise ValueError naming the first tensor that holds NaN or infinity."""
    for name, value in state.items():
        if not value.isfinite().all():
            raise ValueError(f"{name} is not finite")


@contextmanager
def torchvision_file(encoder: str, source: "WeightsEnum") -> Iterator[dict[str, torch.Tensor]]:
    """The tensors of one of torchvision's files from torch's cache or the network, for the body to take its own from.

    They come under their usual names, whether or not a training script wrapped them (`state_dict`, `module.`). Old
    files lack BatchNorm's `num_batches_tracked`: `load_state_dict` bears that from a plain dictionary such as this.

    Raises:
        BonepipeError: the file, which it names, cannot be had or read, or the body finds no tensor of a name or shape.
    """
    from timm.models import clean_state_dict

    path = Path(torch.hub.get_dir(), "checkpoints", Path(source.url).name)
    try:
        content: Any = source.get_state_dict(progress=False, check_hash=True, weights_only=True, map_location="cpu")
        yield clean_state_dict(content.get("state_dict", content))
    except Exception as error:  # as in `with_weights`
        raise no_weights(encoder, "imagenet", f"{path}: {_brief(error)}") from error


def load(module: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Fill a module by name from finite tensors of its shapes.

    Raises:
        ValueError: a tensor holds NaN or infinity.
        RuntimeError: names or shapes differ.
    """
    check_finite(state)
    module.load_state_dict(state)
