"""A dataset as a page: what there is, what training will find hard, and what is wrong."""

from collections.abc import Sequence

import numpy as np

from bonepipe.data.audit import Finding
from bonepipe.data.spec import DataSpec
from bonepipe.data.survey import Survey
from bonepipe.report.audit import verdict
from bonepipe.report.eda import classes, copies, findings, people, resolution, samples, shift, sides
from bonepipe.report.page import Page, Section


def page(survey: Survey, problems: Sequence[Finding], spec: DataSpec) -> Page:
    """The page of a dataset.

    Args:
        survey: of its images.
        problems: what the audit found.
        spec: its form.
    """
    sections: list[Section | None] = [
        samples.section(survey, spec),
        classes.section(survey, spec),
        resolution.section(survey, spec),
        people.section(survey),
        sides.section(survey, spec),
        shift.section(survey, wrists=sides.about_wrists(survey, spec)),
        copies.section(survey),
        findings.section(spec.root, problems),
    ]
    lead = f"{spec.root}: {verdict('', problems).removeprefix(': ')}. Every figure says what to take from it."
    return Page(f"The dataset {spec.name}", lead, [section for section in sections if section], facts(survey, spec))


def facts(survey: Survey, spec: DataSpec) -> list[tuple[str, str]]:
    """The first numbers that people ask for."""
    train, test = survey.of("train"), survey.of("test")
    patients = [len({row.image.patient for row in rows}) for rows in (train, test)]
    rows = [
        ("train images", f"{len(train):,}"),
        ("their patients", f"{patients[0]:,}"),
        ("test images", f"{len(test):,}"),
        ("classes", f"{len(spec.classes)}"),
        ("image size", usual_size(survey)),
    ]
    trained = resolution.class_means(survey.stacked("trained"))
    if np.isfinite(trained).any():
        rows.append((f"best Dice at {resolution.told_size(spec)}", f"{np.nanmean(trained):.4f}"))
    return rows


def usual_size(survey: Survey) -> str:
    """The size of the images in words: their median where they differ."""
    shapes = np.array([row.shape for row in survey.images]).reshape(-1, 2)
    if not len(shapes):
        return "–"
    height, width = np.median(shapes, axis=0).astype(int).tolist()
    return f"{'' if (shapes == shapes[0]).all() else '~ '}{width} × {height}"
