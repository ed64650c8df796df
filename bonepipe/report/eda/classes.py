"""Which classes there are, how large they are, and which overlap."""

import numpy as np

from bonepipe.data.spec import DataSpec
from bonepipe.data.survey import Survey
from bonepipe.report import charts
from bonepipe.report.eda.resolution import told_size
from bonepipe.report.page import Chart, Part, Section, Text

PAIRS = 15  # that are named


def section(survey: Survey, spec: DataSpec) -> Section | None:
    """The classes; None where nothing is annotated."""
    areas = survey.stacked("areas")
    if not len(areas):
        return None
    share = pixel_shares(survey)
    covered = float(np.nansum(share))
    largest, smallest = int(np.nanargmax(share)), int(np.nanargmin(share))
    says = (
        f"{_background(covered)} The largest class, {spec.labels[largest]}, has "
        f"{share[largest] / max(share[smallest], 1e-9):,.0f} times the pixels of the smallest, "
        f"{spec.labels[smallest]}; in the score both count the same."
    )
    return Section(
        "Classes", says, [_presence(survey), _shares(survey, share), _sizes(survey, spec), *_overlaps(survey)]
    )


def _background(covered: float) -> str:
    if covered > 0.5:
        return "Most of an image is covered by some class."
    told = f"All classes together cover about {covered:.0%} of an image: the rest is background"
    return f"{told}, so a loss that counts every pixel alike mostly learns background."


def pixel_shares(survey: Survey) -> np.ndarray:
    """Median share of an image's pixels that each class covers where it is there, `[C]`; NaN where it nowhere is."""
    areas = survey.stacked("areas")
    share = np.where(areas > 0, areas / survey.shapes.prod(1)[:, None], np.nan)
    return _median(share)


def _median(values: np.ndarray) -> np.ndarray:
    """Median over the first axis, of what is known."""
    known = np.isfinite(values).any(0)
    result = np.full(values.shape[1:], np.nan)
    result[known] = np.nanmedian(values[:, known], axis=0)
    return result


def _presence(survey: Survey) -> Part:
    there = (survey.stacked("areas") > 0).mean(0)
    order, count = [index for index in np.argsort(there, kind="stable") if there[index] < 1], len(survey.annotated)
    title = "How often each class is there"
    if not order:
        return Text(title, f"All {len(there)} classes are outlined in each of the {count} annotated images.")
    names = [survey.classes[index] for index in order]
    rest = len(there) - len(order)
    says = (
        f"{names[0]} is outlined in {there[order[0]]:.0%} of {count} images; {rest} classes are in all and not shown. "
        "Where a class is missing, one predicted pixel costs the whole Dice of that class."
    )
    return Chart(title, says, charts.bars(names, 100 * there[order], "% of the annotated images", digits=1))


def _shares(survey: Survey, share: np.ndarray) -> Part:
    order = np.argsort(-np.nan_to_num(share), kind="stable")
    names = [survey.classes[index] for index in order]
    says = "Share of an image's pixels, median over the images. Small classes are where Dice is lost first."
    return Chart("Pixels of each class", says, charts.bars(names, 100 * share[order], "% of the image", digits=2))


def _sizes(survey: Survey, spec: DataSpec) -> Part:
    boxes = survey.stacked("boxes")
    height, width = boxes[:, :, 2] - boxes[:, :, 0], boxes[:, :, 3] - boxes[:, :, 1]
    shorter = np.where(height > 0, np.minimum(height, width), np.nan)
    middle = _median(shorter)
    order = np.argsort(-np.nan_to_num(middle), kind="stable")
    groups = {survey.classes[index]: shorter[:, index] for index in order}
    chart = charts.boxes(groups, "narrower side of the box, pixels of the file")
    return Chart("Box sizes", "The narrower side of the box around each class." + _narrowest(survey, spec), chart,
                 wide=True)  # fmt: skip


def _narrowest(survey: Survey, spec: DataSpec) -> str:
    """How wide the narrowest class is where training sees it, as a sentence; nothing where it sees none."""
    boxes, scale = survey.stacked("boxes")[:, : len(spec.classes)], survey.stacked("scale")
    sides = np.stack([boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]], -1) * scale[:, None]
    widths = _median(np.where(sides.min(-1) > 0, sides.min(-1), np.nan))
    if not np.isfinite(widths).any():
        return ""
    least = int(np.nanargmin(widths))
    return (
        f" At {told_size(spec)} {survey.classes[least]} is about {widths[least]:.0f} pixels wide, and "
        f"{widths[least] / 32:.1f} in the deepest layer of a network that halves its maps five times."
    )


def _overlaps(survey: Survey) -> list[Part]:
    shared, areas = survey.stacked("shared"), survey.stacked("areas")
    often = (shared > 0).mean(0)
    pairs = [(a, b) for a in range(len(often)) for b in range(a) if often[a, b] > 0]
    title = "Overlapping classes"
    if not pairs:
        return [Text(title, "No two classes share a pixel: one label a pixel would do as well as one mask a class.")]
    smaller = np.minimum(areas[:, :, None], areas[:, None, :])
    depth = np.divide(shared, smaller, out=np.zeros_like(shared), where=smaller > 0)
    pairs.sort(key=lambda pair: -often[pair])
    common = sum(often[pair] > 0.5 for pair in pairs)
    says = (
        f"{len(pairs)} pairs of classes share pixels somewhere, {common} of them in more than half of the images. "
        "Each class therefore has a mask of its own (a sigmoid, not a softmax)."
    )
    first = pairs[:PAIRS]
    names = [f"{survey.classes[b]} + {survey.classes[a]}" for a, b in first]
    deep = [100 * depth[:, a, b][shared[:, a, b] > 0].mean() for a, b in first]
    often_chart = charts.bars(names, [100 * often[pair] for pair in first], "% of the images", digits=0)
    deep_chart = charts.bars(names, deep, "% of the smaller class that both share", digits=1)
    deepest = names[int(np.argmax(deep))]
    return [
        Chart(title, says, often_chart),
        Chart(
            "How deep they overlap", f"Deepest where they do: {deepest}, {max(deep):.0f}% of the smaller.", deep_chart
        ),
    ]
