"""Left and right, and wrists that are bent sideways."""

import numpy as np

from bonepipe.data.shift import facing, facing_like
from bonepipe.data.spec import DataSpec
from bonepipe.data.strata import StrataSpec
from bonepipe.data.survey import Survey
from bonepipe.report import charts
from bonepipe.report.page import Chart, Part, Section, Text

BEND = StrataSpec().bend  # degrees from which a measured wrist counts as rotated


def section(survey: Survey, spec: DataSpec) -> Section | None:
    """Which way round the images lie, and how far wrists are bent where the data is about wrists."""
    parts = [part for part in (_sides(survey), _wrists(survey, spec)) if part]
    if not parts:
        return None
    title = "Left, right and wrists" if about_wrists(survey, spec) else "Left and right"
    return Section(title, "Test images that lie as few training images do are where a network is on its own.", parts)


def ways(survey: Survey) -> dict[str, np.ndarray]:
    """Which way round the images of each part lie, 1, -1 or 0 for unknown: from outlines, of others from thumbnails."""
    rows = survey.annotated
    signs = facing(survey.stacked("boxes"), survey.shapes[:, 1])
    known = np.array([row.little for row in rows], np.float32)
    train = {"train": signs} if len(rows) else {}
    test = survey.of("test")
    if not test or not len(rows):
        return train
    return {**train, "test": facing_like(np.array([row.little for row in test], np.float32), known, signs)}


def _sides(survey: Survey) -> Part | None:
    told = {split: [row.image.side for row in survey.of(split) if row.image.side] for split in ("train", "test")}
    if 2 * sum(map(len, told.values())) > len(survey.images):
        counts = {
            f"{split}, {side}": sides.count(side) for split, sides in told.items() for side in ("L", "R") if sides
        }
        says = "As file names or headers tell. Mirroring in training makes each hand stand for the other."
        return Chart("Left and right", says, charts.bars(list(counts), list(counts.values()), "images", digits=0))
    signs = ways(survey)
    names = {1: "as most lie", -1: "mirrored", 0: "unknown"}
    counts = {
        f"{split}, {word}": int((values == sign).sum())
        for split, values in signs.items()
        for sign, word in names.items()
        if (values == sign).any()
    }
    if not counts:
        return None
    mirrored = float((signs["train"] < 0).mean())
    if not mirrored:
        return Text("Which way round", "All annotated images lie the same way, told by the order of their classes: "
                    "mirroring in training gains nothing unless test images lie otherwise.")  # fmt: skip
    says = (
        "Few names tell left from right, so the order of the classes from left to right does (in test images the "
        f"picture itself): {mirrored:.0%} of the annotated images lie mirrored to the others. Mirroring in training "
        "(augment=flip and above) makes each side stand for the other."
    )
    return Chart("Which way round", says, charts.bars(list(counts), list(counts.values()), "images", digits=0))


def about_wrists(survey: Survey, spec: DataSpec) -> bool:
    """Whether the images show wrists: somebody has listed them, or strata ask for them."""
    return "wrist" in spec.strata or any(row.image.rotated is not None for row in survey.images)


def _wrists(survey: Survey, spec: DataSpec) -> Part | None:
    listed = [row.image.rotated for row in survey.images if row.image.rotated is not None]
    if not about_wrists(survey, spec):
        return None
    bends = {split: np.array([row.bend for row in survey.of(split)]) for split in ("train", "test")}
    bends = {split: values for split, values in bends.items() if np.isfinite(values).any()}
    if not bends:
        return None
    shown = {split: values[np.isfinite(values)] for split, values in bends.items()}
    shares = ", ".join(f"{np.mean(values >= BEND):.0%} of {split}" for split, values in shown.items())
    says = f"Of the wrists that the silhouettes show, {shares} are bent by {BEND:g} degrees or more: rotated wrists."
    if listed:
        says += f" rotated.csv names {sum(listed)} of {len(listed)} images."
    chart = charts.histograms(bends, "degrees between forearm and hand")
    chart.add_vline(x=BEND, line={"color": charts.FAINT, "dash": "dot"})
    return Chart("Rotated wrists", says, chart)
