"""One factory for all models: segmentation_models_pytorch behind a signature that a config can fill."""

import inspect
import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from bonepipe.errors import suggestion
from bonepipe.models.full_resolution import see_full_resolution
from bonepipe.models.outputs import Outputs
from bonepipe.models.weights import with_weights
from bonepipe.ranges import Count, Inside

GIVEN = {"self", "encoder_name", "encoder_weights", "in_channels", "classes", "aux_params", "kwargs"}  # no settings


def smp_model(
    classes: int,
    /,
    *,
    architecture: str,
    encoder: str,
    encoder_weights: str | None = "imagenet",
    prior: Inside = 0.01,
    presence: bool = False,
    full_resolution: Count | None = None,
    settings: dict[str, Any] | None = None,
) -> nn.Module:
    """A model of segmentation_models_pytorch for grey images: `[N, 1, h, w]` to logits `[N, classes, h, w]`.

    smp sums an RGB encoder's first filters for one channel, which equals feeding the grey image three times.

    Args:
        architecture: smp's name, for example `Unet` or `UnetPlusPlus`.
        encoder: smp's encoder name, or `tu-` and a timm name.
        encoder_weights: name of pretrained weights, for timm's encoders `imagenet` (the usual ones) or a tag of timm's,
            or None to start from scratch.
        prior: probability that the untrained model gives every pixel; a small one spares it the steps that it would
            need to learn that most pixels are background (RetinaNet, section 4.1, "Initialization").
        presence: in training also tell which classes are in the image, from the encoder's deepest maps.
        full_resolution: channels of a last level that sees the image itself, see `models.full_resolution`, or None for
            smp's decoder as it is.
        settings: further arguments of the architecture.

    Raises:
        ValueError: an unknown architecture, encoder, weights or setting.
        BonepipeError: the pretrained weights cannot be had; the message names the override and the cache.
    """
    import segmentation_models_pytorch as smp

    kinds = {kind.__name__: kind for kind in smp.MODEL_ARCHITECTURES_MAPPING.values()}
    check_name("architecture", architecture, kinds)
    name, given = _smp_encoder(encoder, encoder_weights)
    _check_settings(kinds[architecture], encoder, settings or {})
    arguments = {"encoder_name": name, "in_channels": 1, "classes": classes, **(settings or {})}
    if presence:
        arguments["aux_params"] = {"classes": classes}

    def make(pretrained: bool) -> nn.Module:
        return smp.create_model(architecture, encoder_weights=given if pretrained else None, **arguments)

    try:
        network: Any = with_weights(encoder, encoder_weights, make)
    except (KeyError, TypeError, RuntimeError, AttributeError) as error:
        raise ValueError(f"architecture {architecture!r} with encoder {encoder!r}: {error}") from error
    if full_resolution:
        see_full_resolution(network, architecture, classes, full_resolution)
    if presence:
        network.register_forward_hook(_with_presence)  # a wrapper would rename every weight
    # PAN's attention pyramid halves the encoder's last maps three times.
    least = 8 * network.encoder.output_stride if architecture == "PAN" else 0
    return complete(network, [network.segmentation_head], prior, least=least)


def _check_settings(architecture: type, encoder: str, settings: Mapping[str, Any]) -> None:
    """Raise ValueError for settings that an architecture does not take.

    smp hands those that it does not know to the encoder, and only timm's encoders look at them. Which network that is,
    and from which file or address its weights come, is not theirs to say: a config may be a stranger's.
    """
    if encoder.startswith("tu-"):
        import timm

        if refused := sorted(settings.keys() & inspect.signature(timm.create_model).parameters.keys()):
            raise ValueError(f"settings.{refused[0]}: model.encoder and model.encoder_weights say which network it is")
        return
    known = set(inspect.signature(architecture).parameters) - GIVEN
    for setting in settings:
        check_name(f"setting of {architecture.__name__}", setting, known)


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


def _smp_encoder(encoder: str, weights: str | None) -> tuple[str, str | bool | None]:
    """An encoder and its weights as smp wants them: timm's choose by their tag. Raises ValueError for unknown names."""
    import segmentation_models_pytorch as smp

    if encoder.startswith("tu-"):
        return f"tu-{timm_encoder(encoder.removeprefix('tu-'), weights)}", weights is not None or None
    check_name("encoder", encoder, smp.encoders.encoders)
    known = smp.encoders.encoders[encoder]["pretrained_settings"]
    if weights is not None and weights not in known:
        raise ValueError(f"encoder {encoder!r} has no weights {weights!r}; there are {', '.join(known) or 'none'}")
    return encoder, weights


def timm_encoder(name: str, weights: str | None) -> str:
    """The name of a network in timm, with the tag that the weights name. Raises ValueError for unknown ones."""
    import timm

    if not timm.is_model(name):
        check_name("encoder", f"tu-{name}", (f"tu-{known}" for known in timm.list_models()))
    if weights in (None, "imagenet"):
        return name
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{name}.*")]
    if weights not in tags:
        raise ValueError(f"encoder {name!r} has no weights {weights!r}; there are {', '.join(['imagenet', *tags])}")
    return f"{name}.{weights}"


def dilated_encoder(name: str, weights: str | None, stride: int, group: str = "model") -> Any:
    """One of smp's encoders for grey images, whose strides beyond `stride` are dilations instead.

    Args:
        name, weights: see `smp_model`.
        stride: of the last maps.
        group: of the settings, for messages.

    Raises:
        ValueError: an unknown encoder, other weights than it has, or one that cannot be dilated.
        BonepipeError: the pretrained weights cannot be had; the message names the override and the cache.
    """
    import segmentation_models_pytorch as smp

    known, given = _smp_encoder(name, weights)

    def make(pretrained: bool) -> Any:
        chosen = given if pretrained else None
        return smp.encoders.get_encoder(known, in_channels=1, weights=chosen, output_stride=stride)

    try:
        return with_weights(name, weights, make, group)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"encoder {name!r}: {error}") from error


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
