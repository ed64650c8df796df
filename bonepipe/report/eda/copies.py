"""Images that show one picture twice."""

import cv2
import numpy as np

from bonepipe.data import thumbnails
from bonepipe.data.image import resize_grey
from bonepipe.data.survey import Survey, Surveyed
from bonepipe.report.page import Gallery, Picture, Section, picture

SHOWN, HEIGHT = 8, 260  # pairs; pixels
Pair = tuple[Surveyed, Surveyed]


def section(survey: Survey) -> Section:
    """Pairs of images that show the same picture, or nearly."""
    pairs = (
        [(survey.images[a], survey.images[b]) for a, b in thumbnails.copies(survey.thumbnails)] if survey.images else []
    )
    title = "Duplicates"
    if not pairs:
        return Section(
            title, "No two images show the same picture, compressed, resized or brightened ones included.", []
        )
    pairs.sort(key=lambda pair: not leaks(pair))
    bad = sum(map(leaks, pairs))
    harm = "lie across train and test, or belong to two patients: a fold then validates on what it trained on"
    what = f"{bad} of them {harm}." if bad else "each of one patient in one part, which leaks nothing."
    says = f"{len(pairs)} pairs show the same picture; {what}"
    gallery = Gallery("Pairs", "The later image of each pair and the one it repeats; those that leak come first.",
                      [_picture(pair) for pair in pairs[:SHOWN]], least=360)  # fmt: skip
    return Section(title, says, [gallery])


def leaks(pair: Pair) -> bool:
    """Whether a copy is in another part of the data, or of another patient."""
    a, b = (row.image for row in pair)
    return a.split != b.split or a.patient != b.patient


def _picture(pair: Pair) -> Picture:
    greys = [row.image.read() for row in pair]
    scaled = [resize_grey(grey, (HEIGHT, max(1, round(grey.shape[1] * HEIGHT / grey.shape[0])))) for grey in greys]
    gap = np.full((HEIGHT, 6), 128, np.uint8)
    names = [f"{row.image.name} ({row.image.patient}, {row.image.split})" for row in pair]
    return picture(cv2.hconcat([scaled[0], gap, scaled[1]]), " = ".join(names))
