"""Worst, median and best out-of-fold images as a picture: input, truth, prediction, errors."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from bonepipe.data import submission
from bonepipe.data.spec import DataSpec
from bonepipe.labels import cutout
from bonepipe.labels.cutout import Box, Cutout
from bonepipe.report import overlay

MARGIN = 0.05  # around masks, as a share of the longer side of what holds them


def extremes(scores: np.ndarray) -> dict[str, int]:
    """Index of the worst, the median and the best of scores `[N]`."""
    order = np.argsort(scores, kind="stable")
    return {"worst": int(order[0]), "median": int(order[len(order) // 2]), "best": int(order[-1])}


def read_masks(path: Path, shapes: dict[str, tuple[int, int]]) -> dict[str, list[Cutout]]:
    """Masks of the images in `shapes` (name -> height, width) from a CSV of run-length strings, in its class order."""
    masks: dict[str, list[Cutout]] = {name: [] for name in shapes}
    for row in submission.stream(path):
        if row.image in masks:
            shape = shapes[row.image]
            masks[row.image].append(cutout.from_runs(submission.runs(path, row, shape), shape))
    return masks


def picture(
    rows: Sequence[tuple[str, np.ndarray, list[Cutout], list[Cutout]]], spec: DataSpec, height: int = 480
) -> np.ndarray:
    """Stack rows of (title, image `[H, W]`, true masks, predicted masks) above a legend, RGB uint8.

    A row shows the part of the image that holds masks: input | truth | prediction | where they differ; and the last
    three again, enlarged, of the classes that the spec names as its close-up.
    """
    colours = overlay.palette(len(spec.classes), spec.palette)
    strips = []
    for title, grey, truth, predicted in rows:
        box = around([*truth, *predicted], grey.shape)
        panels = [("input", cv2.cvtColor(grey[box.slices], cv2.COLOR_GRAY2RGB))]
        panels += _compared(grey, box, truth, predicted, colours)
        chosen = [truth[spec.classes.index(label)] for label in spec.closeup if label in spec.classes]
        if any(mask.mask.any() for mask in chosen):
            panels += _compared(grey, around(chosen, grey.shape), truth, predicted, colours)
        strips.append(overlay.headed(title, overlay.titled(panels, height)))
    sheet = overlay.stacked(strips)
    entries = [*overlay.ERRORS, *zip(spec.classes, colours, strict=True)]
    return np.vstack([sheet, overlay.legend(entries, sheet.shape[1])])


def around(masks: Sequence[Cutout], shape: tuple[int, ...], margin: float = MARGIN) -> Box:
    """The part of an image that holds masks, with a margin, a share of its side; all of it where there are none."""
    whole, held = Box(0, 0, shape[0], shape[1]), cutout.hull(mask.box for mask in masks)
    edge = round(margin * max(held.height, held.width))
    wider = Box(held.top - edge, held.left - edge, held.bottom + edge, held.right + edge)
    return (wider.overlap(whole) if held.height else None) or whole


def _compared(
    grey: np.ndarray, box: Box, truth: Sequence[Cutout], predicted: Sequence[Cutout], colours: Sequence[overlay.Colour]
) -> list[tuple[str, np.ndarray]]:
    """Panels of a part of an image: truth, prediction, errors."""
    part, true, said = (
        grey[box.slices],
        *([cutout.cropped(mask, box) for mask in masks] for masks in (truth, predicted)),
    )
    drawn = [("truth", overlay.draw(part, true, colours)), ("out of fold", overlay.draw(part, said, colours))]
    return [*drawn, ("where they differ", overlay.errors(part, true, said))]
