"""From class activation maps to masks: weak labels made by a classifier that never saw a mask."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

from bonepipe.data.batches import ValidationImages
from bonepipe.data.loading import make_loader
from bonepipe.data.store import Store
from bonepipe.labels import cutout, rle, upsample
from bonepipe.models.presence import PresenceNet
from bonepipe.training.module import normalise


@dataclass(frozen=True)
class WeakMasks:
    """One image's masks.

    Attributes:
        texts: run-length code of each class at the image's original size.
        dice: float64 `[C]`, against the true masks.
    """

    name: str
    texts: list[str]
    dice: np.ndarray


def masks_of_maps(maps: np.ndarray, shape: tuple[int, int], threshold: float, smooth: float = 0.0) -> np.ndarray:
    """Turn class activation maps `[C, h, w]` into masks bool `[C, H, W]`.

    A map is enlarged, smoothed, and divided by its maximum, and what reaches the threshold is the mask, as in Zhou et
    al., section 3.2 (there 20% of the maximum, for one large object; neighbouring bones need more). A pixel that
    several classes claim goes to the one whose normalised map is highest. A class whose map is nowhere positive has an
    empty mask.
    """
    height, width = shape
    # The last row and column of cells may reach beyond the image, as strides are powers of two.
    cells = zip(shape, maps.shape[1:], strict=True)
    tall, wide = (count * 2 ** math.ceil(math.log2(side / count)) for side, count in cells)
    large = [cv2.resize(map_.astype(np.float32), (wide, tall), interpolation=cv2.INTER_LINEAR) for map_ in maps]
    large = [map_[:height, :width] for map_ in large]
    if smooth > 0:
        large = [cv2.GaussianBlur(map_, (0, 0), smooth) for map_ in large]
    stack = np.stack(large)
    peak = stack.max((1, 2), keepdims=True)
    normalised = np.where(peak > 0, stack / np.maximum(peak, 1e-12), 0)
    winner = normalised.argmax(0) == np.arange(len(maps))[:, None, None]
    return (normalised >= threshold) & winner & (peak > 0)


@torch.inference_mode()
def activation_maps(
    model: PresenceNet, images: torch.Tensor, mean: float, std: float, crop: tuple[int, int]
) -> torch.Tensor:
    """Maps `[N, C, h, w]` of grey bytes `[N, H, W]`: the classifier slid over the image.

    Sliding a window with stride of one map pixel and classifying each is what the convolution does at once, except at
    the border, where the classifier meets the end of the image. The mean activation over a crop-sized window is the
    window's logit; where no window that contains a pixel shows a class, the pixel's activation is set to 0.
    """
    device = next(model.parameters()).device
    batch = normalise(images.to(device), mean, std)
    maps = model.maps(batch).float()
    window = [max(1, round(c * m / f)) for c, m, f in zip(crop, maps.shape[-2:], images.shape[-2:], strict=True)]
    logits = functional.avg_pool2d(maps, window, stride=1)
    back = (window[0] - 1, window[1] - 1)
    seen = functional.max_pool2d(functional.pad(logits, (back[1],) * 2 + (back[0],) * 2, value=-torch.inf), window, 1)
    return torch.where(seen > 0, maps, torch.zeros_like(maps))


def weak_masks(
    model: PresenceNet,
    store: Store,
    indices: Sequence[int],
    *,
    mean: float,
    std: float,
    crop: tuple[int, int],
    threshold: float,
    smooth: float,
    batch_size: int = 8,
) -> Iterator[WeakMasks]:
    """Masks of images at their original size, scored against the truth.

    Args:
        store: training images; `indices` of those to predict.
        mean, std: of the grey values, on the scale 0 to 1.
        crop: height and width that the classifier was trained on, pixels.
        batch_size: images a forward pass.
    """
    loader = make_loader(ValidationImages(store, indices), batch_size)
    with tqdm(total=len(indices), desc="activation maps", unit="image") as bar:
        for batch in loader:
            maps = activation_maps(model, batch["image"], mean, std, crop).cpu().numpy()
            for of_image, index in zip(maps, batch["index"].tolist(), strict=True):
                shape, size = store.shape(index), tuple(batch["image"].shape[-2:])
                masks = store.frame.content(masks_of_maps(of_image, size, threshold, smooth), shape)
                large = upsample.cutouts(masks.astype(np.float32), [0.5] * len(masks), shape)
                scores = upsample.dice_scores(large, store.truth(index))
                yield WeakMasks(
                    store.names[index], [rle.format_runs(cutout.runs(mask, shape[1])) for mask in large], scores
                )
                bar.update()
