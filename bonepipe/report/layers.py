"""Masks that overlap as label maps, in which a pixel has one label: a map for each group of classes that do not."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from bonepipe.labels import bitplane
from bonepipe.labels.cutout import Box, Cutout, inside

Groups = tuple[tuple[int, ...], ...]  # indices of classes
OFTEN = 0.05  # share of the images from which on two classes count as overlapping: the rest are slips of annotators


def overlaps(images: Iterable[bitplane.Planes], classes: int) -> NDArray[np.float64]:
    """In which share of the images two classes share a pixel, `[C, C]`; the diagonal is 0."""
    shares, count = np.zeros((classes, classes)), 0
    for planes in images:
        several = (planes & (planes - 1)).any(-1) | ((planes != 0).sum(-1) > 1)
        labels = bitplane.unpack(planes[several], classes).astype(np.float32)
        shares += labels.T @ labels > 0
        count += 1
    np.fill_diagonal(shares, 0)
    return shares / max(count, 1)


def grouped(shares: NDArray[np.float64]) -> Groups:
    """Groups of classes of which no two overlap often, by greedy colouring: each class joins the first that takes it.

    Args:
        shares: as `overlaps` gives them.
    """
    groups: list[list[int]] = []
    for label, row in enumerate(shares > OFTEN):
        group = next((group for group in groups if not row[group].any()), None)
        if group is None:
            groups.append([label])
        else:
            group.append(label)
    return tuple(map(tuple, groups))


def label_maps(masks: Sequence[Cutout], groups: Groups, box: Box, size: tuple[int, int]) -> list[NDArray[np.uint8]]:
    """Label maps uint8 `size` (0 background, 1 + class) of a part of an image, at least one a group.

    Where classes of a group overlap all the same, the earlier one is in the group's map, and the later one in a map
    beyond the groups, so that no pixel of a mask is ever hidden.

    Args:
        masks: one a class, at the image's size.
        groups: of the classes.
        box: the part of the image.
        size: height and width of the maps; each pixel has the labels at its centre.
    """
    rows, columns = (((np.arange(n) + 0.5) * full / n).astype(int) for n, full in zip(size, _sides(box), strict=True))
    maps = [np.zeros(size, np.uint8) for _ in groups]
    for first, group in enumerate(groups):
        for label in group:
            left, target = inside(masks[label], box)[np.ix_(rows, columns)], first
            while left.any():
                if target == len(maps):
                    maps.append(np.zeros(size, np.uint8))
                free = left & (maps[target] == 0)
                maps[target][free] = label + 1
                left, target = left & ~free, max(target + 1, len(groups))
    return maps


def _sides(box: Box) -> tuple[int, int]:
    return box.height, box.width


def titles(word: str, groups: Groups, maps: Sequence[NDArray[np.uint8]]) -> dict[str, NDArray[np.uint8]]:
    """Label maps under names that people can tell apart: `truth 1`, `truth 2`, and `truth, rest` for maps beyond."""
    count = len(groups)
    further = [f"{word}, rest" + (f" {number}" if number else "") for number in range(len(maps) - count)]
    return dict(zip([*(f"{word} {number}" for number in range(1, count + 1)), *further], maps, strict=True))
