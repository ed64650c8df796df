"""One factory for all models: segmentation_models_pytorch behind a signature that a config can fill."""

import difflib
from typing import Any

import torch
from torch import nn

from bonepipe.errors import BonepipeError

CACHE_HINT = "fill the cache folder (HF_HOME, by default ~/.cache/huggingface; TORCH_HOME for the older encoders)"


def smp_model(
    classes: int,
    /,
    *,
    architecture: str,
    encoder: str,
    encoder_weights: str | None = "imagenet",
    settings: dict[str, Any] | None = None,
) -> nn.Module:
    """A model of segmentation_models_pytorch for grey images: `[N, 1, h, w]` to logits `[N, classes, h, w]`.

    smp sums an RGB encoder's first filters for one channel, which equals feeding the grey image three times.

    Args:
        classes: number of classes, from the data config.
        architecture: smp's name, for example `Unet` or `UnetPlusPlus`.
        encoder: smp's encoder name, or `tu-` and a timm name.
        encoder_weights: name of pretrained weights, or None to start from scratch.
        settings: further arguments of the architecture.

    Raises:
        ValueError: an unknown architecture, encoder or setting.
        BonepipeError: the pretrained weights cannot be had; the message names the override and the cache.
    """
    import segmentation_models_pytorch as smp

    arguments = {"encoder_name": encoder, "in_channels": 1, "classes": classes, **(settings or {})}
    try:
        return Divisible(smp.create_model(architecture, encoder_weights=encoder_weights, **arguments))
    except KeyError as error:
        near = difflib.get_close_matches(encoder, smp.encoders.get_encoder_names(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        if encoder_weights is not None and encoder in smp.encoders.encoders:
            raise ValueError(f"encoder {encoder!r} has no weights {encoder_weights!r} ({error})") from error
        raise ValueError(f"unknown encoder {encoder!r}{hint}") from error
    except (TypeError, RuntimeError, AttributeError) as error:
        if encoder_weights is not None and _is_download(error):
            raise _no_weights(encoder, encoder_weights, error) from error
        raise ValueError(f"architecture {architecture!r} with encoder {encoder!r}: {error}") from error
    except OSError as error:  # what the hub's client raises when it neither finds nor fetches a file
        raise _no_weights(encoder, str(encoder_weights), error) from error


def _is_download(error: Exception) -> bool:
    return any(
        word in str(error).lower() for word in ("connect", "download", "offline", "client has been closed", "url")
    )


def _no_weights(encoder: str, weights: str, error: Exception) -> BonepipeError:
    reason = str(error).strip().splitlines()[0]
    return BonepipeError(
        f"model.encoder_weights={weights}: the weights of {encoder} cannot be had ({reason}). "
        f"Train from scratch with model.encoder_weights=null, or {CACHE_HINT} on a machine with network"
    )


class Divisible(nn.Module):
    """Pads images to a multiple of the network's stride by reflection and crops its logits back: any size will do."""

    def __init__(self, network: nn.Module, stride: int = 32) -> None:
        super().__init__()
        self.network, self.stride = network, stride

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits `[N, C, h, w]` of images `[N, 1, h, w]`."""
        height, width = images.shape[-2:]
        below, right = -height % self.stride, -width % self.stride
        if below or right:
            images = nn.functional.pad(images, (0, right, 0, below), mode="replicate")
        return self.network(images)[..., :height, :width]
