"""Pictures of single images: truth, prediction and where they differ."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bonepipe.labels import cutout
from bonepipe.labels.cutout import Cutout
from bonepipe.report import overlay
from bonepipe.report.examples import around
from bonepipe.report.page import Picture, picture
from bonepipe.report.run.results import Case

WORST, BEST, BONES = 5, 2, 10  # images and single classes that are shown
SIDE, SMALL = 640, 300  # pixels of their longer sides
NAMED = 4  # classes whose Dice is told
WIDER = 0.35  # margin around a single class, as a share of its box


class Look(NamedTuple):
    """An image, its masks and their Dice `[C]`."""

    title: str
    grey: NDArray[np.uint8]
    truth: Sequence[Cutout]
    predicted: Sequence[Cutout]
    dice: NDArray[np.float64]


def cases(
    dice: NDArray[np.float64], look: Callable[[int], Look], classes: Sequence[str], colours: Sequence[overlay.Colour]
) -> list[Case]:
    """The worst images, then the best.

    Args:
        dice: of all images, `[N, C]`.
        look: from an image's position to itself.
    """
    order = np.argsort(dice.mean(1), kind="stable").tolist()
    worst = order[:WORST]
    best = [position for position in order[-BEST:][::-1] if position not in worst]
    return [
        *(_case(look(position), f"Worst {rank}", classes, colours) for rank, position in enumerate(worst, 1)),
        *(_case(look(position), f"Best {rank}", classes, colours) for rank, position in enumerate(best, 1)),
    ]


def _case(seen: Look, rank: str, classes: Sequence[str], colours: Sequence[overlay.Colour]) -> Case:
    box = around([*seen.truth, *seen.predicted], seen.grey.shape)
    grey = seen.grey[box.slices]
    truth, said = ([cutout.cropped(mask, box) for mask in masks] for masks in (seen.truth, seen.predicted))
    low = np.argsort(seen.dice, kind="stable")[:NAMED]
    told = ", ".join(f"{classes[index]} {seen.dice[index]:.3f}" for index in low)
    pictures = [
        picture(overlay.draw(grey, truth, colours), "truth", SIDE),
        picture(overlay.draw(grey, said, colours), "prediction, out of fold", SIDE),
        picture(overlay.errors(grey, truth, said), "where they differ", SIDE),
    ]
    return Case(f"{rank}: {seen.title}", f"Dice {seen.dice.mean():.3f}; lowest: {told}.", pictures)


def closeups(dice: NDArray[np.float64], look: Callable[[int], Look], classes: Sequence[str]) -> list[Picture]:
    """The classes that went worst, one an image, near by."""
    order = np.argsort(dice.min(1), kind="stable")[:BONES].tolist()
    return [_closeup(look(position), int(dice[position].argmin()), classes) for position in order]


def _closeup(seen: Look, label: int, classes: Sequence[str]) -> Picture:
    pair = [seen.truth[label], seen.predicted[label]]
    box = around(pair, seen.grey.shape, WIDER)
    true, said = (cutout.cropped(mask, box) for mask in pair)
    drawn = overlay.errors(seen.grey[box.slices], [true], [said])
    return picture(_enlarged(drawn), f"{classes[label]} {seen.dice[label]:.3f}: {seen.title}", SMALL)


def _enlarged(image: np.ndarray) -> np.ndarray:
    """Whole pixels as squares where a picture is small."""
    times = max(1, SMALL // max(image.shape[:2]))
    return image.repeat(times, 0).repeat(times, 1)
