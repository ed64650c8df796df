"""Whose images they are, and what that says of the size of their bones."""

from collections.abc import Callable, Sequence

import numpy as np

from bonepipe.data.survey import Survey, Surveyed
from bonepipe.report import charts
from bonepipe.report.page import Chart, Part, Section

FACTS = {"age": "age, years", "height": "height, cm", "weight": "weight, kg"}
FEWEST = 8  # images below which no correlation is told


def section(survey: Survey) -> Section:
    """Age, sex, height and weight, and their relation to bone size."""
    known = [row for row in survey.images if any(_fact(row, key) is not None for key in (*FACTS, "sex"))]
    if not known:
        says = "Nothing is known of the patients' age, sex, height and weight (data.metadata names no file that tells)."
        return Section("Patients", says, [])
    strongest, parts = _relations(survey)
    missing = len(survey.images) - len(known)
    rest = f" Of {missing} images nothing is known." if missing else ""
    return Section("Patients", f"{strongest}{rest}", [*_distributions(survey), *parts])


def _fact(row: Surveyed, key: str) -> float | str | None:
    value: float | str | None = getattr(row.image, key)
    return value


def _numbers(rows: Sequence[Surveyed], key: str) -> np.ndarray:
    return np.array([np.nan if _fact(row, key) is None else _fact(row, key) for row in rows], float)


def _distributions(survey: Survey) -> list[Part]:
    """Age in both parts, and the shares of the sexes."""
    parts: list[Part] = []
    train, test = survey.of("train"), survey.of("test")
    ages = {"train": _numbers(train, "age"), "test": _numbers(test, "age")}
    ages = {name: values for name, values in ages.items() if np.isfinite(values).any()}
    if ages:
        middle = ", ".join(f"{name} {np.nanmedian(values):.0f}" for name, values in ages.items())
        says = f"Median age in years: {middle}. Growing and aging bones look different."
        parts.append(Chart("Age", says, charts.histograms(ages, "age, years", bins=20)))
    sexes = [row.image.sex for row in survey.images if row.image.sex]
    if sexes:
        women = sexes.count("F")
        says = f"{women / len(sexes):.0%} of the images are of women. What is rare here is learned worse."
        chart = charts.bars(["women", "men"], [women, len(sexes) - women], "images", digits=0)
        parts.append(Chart("Sex", says, chart))
    return parts


def bone_size(rows: Sequence[Surveyed]) -> np.ndarray:
    """The side of a square as large as all bones of an image together, pixels, `[N]`."""
    return np.sqrt([0.0 if row.labels is None else float(row.labels.areas.sum()) for row in rows])


def _relations(survey: Survey) -> tuple[str, list[Part]]:
    """What goes with bone size most, and a chart a fact."""
    rows = survey.annotated
    parts: list[Part] = []
    told: list[tuple[float, float, str]] = []
    size = bone_size(rows)
    sexes = np.array([row.image.sex or "unknown" for row in rows])
    for key, title in FACTS.items():
        values = _numbers(rows, key)
        there = np.isfinite(values)
        if there.sum() < FEWEST or len(np.unique(values[there])) < 2:
            continue
        rho = _spearman(values[there], size[there])
        told.append((abs(rho), rho, key))
        groups = {
            {"F": "women", "M": "men"}.get(sex, sex): _cloud(rows, values, size, there & (sexes == sex))
            for sex in sorted(set(sexes[there]))
        }
        parts.append(Chart(f"Bone size and {key}", _in_words(key, rho), charts.points(
            groups, title, "bone size, pixels of the file", height=340)))  # fmt: skip
    by_sex = {{"F": "women", "M": "men"}[sex]: size[sexes == sex] for sex in ("F", "M") if (sexes == sex).any()}
    if len(by_sex) == 2:
        women, men = (float(np.median(values)) for values in by_sex.values())
        says = f"Men's bones are {men / women - 1:.0%} longer than women's (medians; below 0: shorter)."
        parts.append(Chart("Bone size and sex", says, charts.boxes(by_sex, "bone size, pixels of the file")))
    if not told:
        return "Too little is known to relate the patients to the size of their bones.", parts
    _, rho, key = max(told)
    return f"Of what is known of the patients {key} goes with bone size most ({_strength(rho)}).", parts


def _cloud(rows: Sequence[Surveyed], x: np.ndarray, y: np.ndarray, which: np.ndarray) -> tuple:
    names = [f"{row.image.patient} {row.image.name}" for row, here in zip(rows, which, strict=True) if here]
    return x[which], np.round(y[which]), names


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    from scipy.stats import spearmanr

    correlate: Callable = spearmanr
    return float(np.nan_to_num(correlate(a, b).statistic))


def _strength(rho: float) -> str:
    size = "strong" if abs(rho) > 0.6 else "moderate" if abs(rho) > 0.3 else "weak" if abs(rho) > 0.1 else "no"
    return f"{size} correlation, Spearman {rho:+.2f}"


def _in_words(key: str, rho: float) -> str:
    words = _strength(rho)
    return f"{words[0].upper()}{words[1:]}, of {key} with bone size. A point is an image; the cursor names it."
