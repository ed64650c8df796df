"""Images with their outlines, chosen so that the range of the dataset is seen."""

from collections.abc import Callable, Sequence

import numpy as np

from bonepipe.data.spec import DataSpec
from bonepipe.data.survey import Survey, Surveyed, read_masks
from bonepipe.report import overlay
from bonepipe.report.eda.people import bone_size
from bonepipe.report.eda.sides import about_wrists
from bonepipe.report.page import Gallery, Picture, Section, picture

SIDE = 760  # pixels of the longer side


def section(survey: Survey, spec: DataSpec) -> Section | None:
    """Train images with outlines, and test images."""
    palette, wrists = overlay.palette(len(spec.labels), spec.palette), about_wrists(survey, spec)
    train = [_drawn(row, why, spec, palette) for why, row in choose(survey.annotated, wrists=wrists).items()]
    test = [_drawn(row, why, spec, palette) for why, row in choose(survey.of("test"), wrists=wrists).items()]
    parts = []
    if train:
        legend = [(name, overlay.css(colour)) for name, colour in zip(spec.labels, palette, strict=True)]
        says = "The extremes and a typical one. Outlines that do not follow what is seen stand out here."
        parts.append(Gallery("Train images with their outlines", says, train, least=205, legend=legend))
    if test:
        says = "Compare exposure, collimation and posture with those above: what looks new here was never trained on."
        parts.append(Gallery("Test images", says, test, least=205))
    if not parts:
        return None
    return Section("Samples", "What a network is shown, at both ends of the range. A click enlarges a picture.", parts)


def choose(rows: Sequence[Surveyed], *, wrists: bool) -> dict[str, Surveyed]:
    """Why -> an image, each at most once: the typical one first."""
    if not rows:
        return {}
    size, grey = bone_size(rows), np.array([row.traits["mean grey"] for row in rows])
    bend = np.array([row.bend for row in rows])
    first: Callable[[np.ndarray], int] = lambda values: int(np.argmin(values))  # noqa: E731
    wishes = {"typical exposure": first(abs(grey - np.median(grey)))}
    if size.max() > 0:
        wishes |= {"smallest outlines": first(size), "largest outlines": first(-size)}
    wishes |= {"darkest": first(grey), "brightest": first(-grey)}
    if wrists and np.isfinite(bend).any():
        wishes["most bent"] = int(np.nanargmax(bend))
    chosen: dict[str, Surveyed] = {}
    for why, index in wishes.items():
        if all(rows[index] is not row for row in chosen.values()):
            chosen[why] = rows[index]
    return chosen


def _drawn(row: Surveyed, why: str, spec: DataSpec, palette: Sequence[overlay.Colour]) -> Picture:
    image, caption = row.image, f"{why}: {row.image.patient} {row.image.name}"
    grey = image.read()
    masks = read_masks(image, row.shape, spec.labels)
    return picture(grey if masks is None else overlay.draw(grey, masks, palette, opacity=0.25), caption, SIDE)
