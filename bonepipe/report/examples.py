"""Worst, median and best out-of-fold images as a picture: input, truth, prediction."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from bonepipe.data import submission
from bonepipe.data.spec import DataSpec
from bonepipe.labels import cutout, rle
from bonepipe.labels.cutout import Cutout
from bonepipe.report import overlay


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
            masks[row.image].append(cutout.from_mask(rle.decode(submission.runs(path, row, shape), shape)))
    return masks


def picture(
    rows: Sequence[tuple[str, np.ndarray, list[Cutout], list[Cutout]]], spec: DataSpec, height: int = 560
) -> np.ndarray:
    """Stack rows of (title, image `[H, W]`, true masks, predicted masks): input | truth | prediction, RGB uint8."""
    colours = overlay.palette(len(spec.classes), spec.palette)
    strips = []
    for title, grey, truth, predicted in rows:
        panels = [
            (title, cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)),
            ("truth", overlay.draw(grey, truth, colours)),
            ("prediction, out of fold", overlay.draw(grey, predicted, colours)),
        ]
        strips.append(overlay.titled(panels, height))
    return overlay.stacked(strips)
