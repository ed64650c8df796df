"""What is asked of any network: its encoder, whether weights fit it, whether it can learn from a single image."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.func import functional_call

LONE_VALUE = "more than 1 "  # torch's "Expected more than 1 value per channel when training" and its relatives


def encoder_of(model: nn.Module) -> nn.Module | None:
    """The part that pretrained weights fill, or None: what smp calls `encoder`, and VGG's fc6 and fc7."""
    for owner in (model, getattr(model, "network", None)):
        encoder = getattr(owner, "encoder", None)
        if isinstance(encoder, nn.Module):
            hidden = hidden_layers(owner)
            return nn.ModuleList([encoder, *hidden]) if hidden else encoder
    return None


def hidden_layers(network: nn.Module | None) -> list[nn.Conv2d]:
    """The convolutions fc6 and fc7 in the part `fully` of a network on VGG-16; none in other networks."""
    return [layer for layer in getattr(network, "fully", ()) if isinstance(layer, nn.Conv2d)]


def mismatch(tensors: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> str | None:
    """The first difference in names and shapes between two state dicts, or None."""
    for key, tensor in expected.items():
        if key not in tensors:
            return f"{key} is missing"
        if tensors[key].shape != tensor.shape:
            return f"{key} has shape {list(tensors[key].shape)}, expected {list(tensor.shape)}"
    return next((f"{key} is unexpected" for key in tensors if key not in expected), None)


def is_lone_value(error: Exception) -> bool:
    """Whether torch refused to normalise one value per channel: one image whose feature map is 1 x 1."""
    return isinstance(error, ValueError) and LONE_VALUE in str(error)


def learns_from_one(model: nn.Module, shape: Sequence[int]) -> bool:
    """Whether a training step with a single image `[1, 1, *shape]` gives every normalisation layer enough values.

    Only shapes are computed (tensors on torch's meta device), so it costs no time and changes nothing. Networks that
    look at values on their way cannot be asked like that; they get the benefit of the doubt.
    """
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    blank = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    try:
        functional_call(model, blank, (torch.empty((1, 1, *shape), device="meta"),))
    except (ValueError, RuntimeError, NotImplementedError) as error:
        return not is_lone_value(error)
    return True
