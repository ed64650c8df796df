"""One factory for all models: segmentation_models_pytorch behind a signature that a config can fill."""

import inspect
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from bonepipe.errors import BonepipeError, suggestion
from bonepipe.models.outputs import Outputs

CACHE_HINT = "fill the cache folder (HF_HOME, by default ~/.cache/huggingface; TORCH_HOME for the older encoders)"
GIVEN = {"self", "encoder_name", "encoder_weights", "in_channels", "classes", "aux_params", "kwargs"}  # no settings


def smp_model(
    classes: int,
    /,
    *,
    architecture: str,
    encoder: str,
    encoder_weights: str | None = "imagenet",
    prior: float = 0.01,
    presence: bool = False,
    settings: dict[str, Any] | None = None,
) -> nn.Module:
    """A model of segmentation_models_pytorch for grey images: `[N, 1, h, w]` to logits `[N, classes, h, w]`.

    smp sums an RGB encoder's first filters for one channel, which equals feeding the grey image three times.

    Args:
        architecture: smp's name, for example `Unet` or `UnetPlusPlus`.
        encoder: smp's encoder name, or `tu-` and a timm name.
        encoder_weights: name of pretrained weights, or None to start from scratch.
        prior: probability that the untrained model gives every pixel; a small one spares it the steps that it would
            need to learn that most pixels are background (RetinaNet, section 4.1, "Initialization").
        presence: in training also tell which classes are in the image, from the encoder's deepest maps.
        settings: further arguments of the architecture.

    Raises:
        ValueError: an unknown architecture, encoder or setting.
        BonepipeError: the pretrained weights cannot be had; the message names the override and the cache.
    """
    import segmentation_models_pytorch as smp
    import timm

    kinds = {kind.__name__: kind for kind in smp.MODEL_ARCHITECTURES_MAPPING.values()}
    check_name("architecture", architecture, kinds)
    if encoder.startswith("tu-") and not timm.is_model(encoder.removeprefix("tu-")):
        check_name("encoder", encoder, (f"tu-{name}" for name in timm.list_models()))
    if not encoder.startswith("tu-"):
        check_name("encoder", encoder, smp.encoders.encoders)
        # smp hands settings that it does not know to the encoder, and only timm's encoders look at them.
        known = set(inspect.signature(kinds[architecture]).parameters) - GIVEN
        for setting in settings or {}:
            check_name(f"setting of {architecture}", setting, known)
    arguments = {"encoder_name": encoder, "in_channels": 1, "classes": classes, **(settings or {})}
    if presence:
        arguments["aux_params"] = {"classes": classes}
    try:
        with pretrained(encoder, encoder_weights):
            network = smp.create_model(architecture, encoder_weights=encoder_weights, **arguments)
    except KeyError as error:
        raise ValueError(f"encoder {encoder!r} has no weights {encoder_weights!r} ({error.args[0]})") from error
    except (TypeError, RuntimeError, AttributeError) as error:
        raise ValueError(f"architecture {architecture!r} with encoder {encoder!r}: {error}") from error
    if presence:
        network.register_forward_hook(_with_presence)  # a wrapper would rename every weight
    # PAN's attention pyramid halves the encoder's last maps three times.
    least = 8 * network.encoder.output_stride if architecture == "PAN" else 0
    return complete(network, [network.segmentation_head], prior, least=least)


def _with_presence(network: nn.Module, images: Any, answer: tuple[torch.Tensor, torch.Tensor]) -> Any:
    """In training both answers of an smp network with a classification head, else its logits alone."""
    logits, presence = answer
    return Outputs((logits,), presence) if network.training else logits


def complete(
    network: nn.Module, heads: Iterable[nn.Module], prior: float, stride: int = 32, least: int = 0
) -> nn.Module:
    """Make a network ready for use: its heads expect the prior, and it takes images of any size.

    Args:
        network: images `[N, 1, h, w]`, sizes divisible by `stride`, to logits or `Outputs`.
        heads: modules whose last convolution makes logits.
        prior: probability that the untrained model gives every pixel.
        stride: what the sizes must be divisible by.
        least: smallest height and width in pixels that the network can take, a multiple of `stride`.
    """
    if not 0 < prior < 1:
        raise ValueError(f"prior={prior} must lie between 0 and 1")
    for head in heads:
        last = [layer for layer in head.modules() if isinstance(layer, nn.Conv2d)][-1]
        if last.bias is not None:
            nn.init.constant_(last.bias, math.log(prior / (1 - prior)))
    return Divisible(network, stride, least)


def check_name(what: str, name: str, known: Iterable[str]) -> None:
    """Raise ValueError with the nearest known name where a name is unknown."""
    if name not in (names := sorted(known)):
        hint = suggestion(name, names, likeness=0.5) or f"; there are {', '.join(names)}"
        raise ValueError(f"unknown {what} {name!r}{hint}")


@contextmanager
def pretrained(encoder: str, weights: str | None) -> Iterator[None]:
    """Name the way out where the body cannot get the pretrained weights of an encoder.

    Raises:
        BonepipeError: the weights are neither in the cache nor to be fetched; other errors pass through.
    """
    try:
        yield
    except OSError as error:  # what the hub's client raises when it neither finds nor fetches a file
        raise no_weights(encoder, str(weights), error) from error
    except (TypeError, RuntimeError, AttributeError) as error:
        if weights is not None and _is_download(error):
            raise no_weights(encoder, weights, error) from error
        raise


def dilated_encoder(name: str, weights: str | None, stride: int) -> Any:
    """One of smp's encoders for grey images, whose strides beyond `stride` are dilations instead.

    Raises:
        ValueError: an unknown encoder, other weights than it has, or one that cannot be dilated.
        BonepipeError: the pretrained weights cannot be had; the message names the override and the cache.
    """
    import segmentation_models_pytorch as smp

    if not name.startswith("tu-"):
        check_name("encoder", name, smp.encoders.encoders)
    try:
        with pretrained(name, weights):
            return smp.encoders.get_encoder(name, in_channels=1, weights=weights, output_stride=stride)
    except KeyError as error:
        raise ValueError(f"encoder {name!r} has no weights {weights!r} ({error.args[0]})") from error
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"encoder {name!r}: {error}") from error


def _is_download(error: Exception) -> bool:
    signs = ("connect", "download", "offline", "client has been closed", "url")
    return any(sign in str(error).lower() for sign in signs)


def no_weights(encoder: str, weights: str, error: Exception) -> BonepipeError:
    """The error to raise where pretrained weights cannot be had: which, why, and both ways out."""
    reason = str(error).strip().splitlines()[0]
    return BonepipeError(
        f"model.encoder_weights={weights}: the weights of {encoder} cannot be had ({reason}). "
        f"Train from scratch with model.encoder_weights=null, or {CACHE_HINT} on a machine with network"
    )


class Divisible(nn.Module):
    """Takes images of any size: repeats their edges up to a multiple of the stride, and crops the logits back."""

    def __init__(self, network: nn.Module, stride: int = 32, least: int = 0) -> None:
        super().__init__()
        self.network, self.stride, self.least = network, stride, least

    def forward(self, images: torch.Tensor) -> torch.Tensor | Outputs:
        """Logits `[N, C, h, w]` of images `[N, 1, h, w]`; `Outputs` in training where the network has more to say."""
        height, width = images.shape[-2:]
        below = max(-height % self.stride, self.least - height)
        right = max(-width % self.stride, self.least - width)
        if below or right:
            images = nn.functional.pad(images, (0, right, 0, below), mode="replicate")
        answer = self.network(images)
        if isinstance(answer, Outputs):
            return answer._replace(maps=tuple(logits[..., :height, :width] for logits in answer.maps))
        return answer[..., :height, :width]
