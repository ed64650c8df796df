"""How images were compared at full size before: boxes wherever a probability can reach a bin, one box a class.

Glow makes such a box the whole frame. Kept to be measured against, and as the full calculation to compare with.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from bonepipe.data.store import Store
from bonepipe.inference.oof import byte_maps
from bonepipe.labels import cutout, rle
from bonepipe.labels import histogram as histograms
from bonepipe.labels.counts import byte_counts
from bonepipe.labels.cutout import Box, Cutout
from bonepipe.labels.polygon import cutout as filled
from bonepipe.labels.upsample import dice_scores, reach

Shape = tuple[int, int]


@lru_cache(maxsize=64)
def _axis(low: int, high: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    position = np.clip((np.arange(high) + 0.5) * (low / high) - 0.5, 0, low - 1)
    first = position.astype(np.intp)
    return first, np.minimum(first + 1, low - 1), (position - first).astype(np.float32)


def upsample(probability: np.ndarray, shape: Shape, box: Box | None = None) -> np.ndarray:
    """Bilinear interpolation of a map `[h, w]` to `shape`, or to the part of it inside a box."""
    top, left, bottom, right = box or Box(0, 0, *shape)
    row, next_row, row_weight = (part[top:bottom] for part in _axis(probability.shape[0], shape[0]))
    column, next_column, column_weight = (part[left:right] for part in _axis(probability.shape[1], shape[1]))
    start = column[0]
    crop = probability[:, start : next_column[-1] + 1]
    tall = _between(crop[row], crop[next_row], row_weight[:, None])
    return _between(tall[:, column - start], tall[:, next_column - start], column_weight)


def _between(here: np.ndarray, there: np.ndarray, weight: np.ndarray) -> np.ndarray:
    there -= here
    there *= weight
    here += there
    return here


def masks_of(maps: np.ndarray, shape: Shape) -> list[Cutout]:
    """Masks at threshold 0.5."""
    boxes = [reach(map_, histograms.HALF, shape) for map_ in maps]
    pairs = zip(maps, boxes, strict=True)
    return [cutout.empty() if box is None else Cutout(box, upsample(map_, shape, box) >= 0.5) for map_, box in pairs]


def histogram(probability: np.ndarray, truth: Cutout, shape: Shape) -> np.ndarray:
    """Counts int64 `[2, 256]` of all pixels, those below the lowest threshold told apart too."""
    result, box = np.zeros((2, histograms.BINS), np.int64), reach(probability, 1 / histograms.BINS, shape)
    pixels = true_pixels = 0
    if box is not None:
        true, bins = cutout.inside(truth, box), histograms.levels(upsample(probability, shape, box))
        foreground = byte_counts(bins, mask=true)
        result[:] = byte_counts(bins) - foreground, foreground
        pixels, true_pixels = true.size, int(true.sum())
    missing = cutout.area(truth) - true_pixels
    result[:, 0] += shape[0] * shape[1] - pixels - missing, missing
    return result


def validate(maps: np.ndarray, truth: Sequence[Cutout], shape: Shape) -> np.ndarray:
    """Dice `[C]` at threshold 0.5."""
    return dice_scores(masks_of(maps, shape), truth)


def digest(maps: np.ndarray, store: Store, index: int) -> tuple[list[str], np.ndarray, np.ndarray, byte_maps.Packed]:
    """Texts, Dice, histograms and bytes of an image predicted out of fold."""
    shape = store.shape(index)
    truth = [filled(points, shape) for points in store.outlines(index)]
    masks = masks_of(maps, shape)
    counts = np.stack([histogram(map_, true, shape) for map_, true in zip(maps, truth, strict=True)])
    texts = [rle.format_runs(cutout.runs(mask, shape[1])) for mask in masks]
    return texts, dice_scores(masks, truth), counts, byte_maps.pack(maps)
