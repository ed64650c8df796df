"""Strata: kinds of images whose share differs between training and test set, and means weighted to the test's mix."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bonepipe.data.catalog import Radiograph
from bonepipe.data.wrist import bend_angle
from bonepipe.parallel import cores
from bonepipe.ranges import Amount, Positive, Share

UNKNOWN = "unknown"
Trait = Literal["wrist", "sex", "age"]
Wrist = Literal["auto", "listed", "estimated"]
Mix = Mapping[str, float]  # stratum -> its share of the images; the shares sum to 1


@dataclass(frozen=True, kw_only=True)
class StrataSpec:
    """What tells the strata apart.

    Attributes:
        by: any of `wrist` (rotated or straight), `sex`, `age`; several are combined, none is one stratum of all.
        ages: where one age band ends and the next begins, years, ascending.
        wrist: `listed` believes rotated.csv, `estimated` measures every image; `auto` measures where rotated.csv is
            missing or names no patient of that part of the data.
        bend: degrees between hand and forearm from which a measured wrist counts as rotated.
        test_mix: the share of each stratum in the test set, where it is known better than the test images tell.
    """

    by: tuple[Trait, ...] = ()
    ages: tuple[Amount, ...] = (30, 45, 60)
    wrist: Wrist = "auto"
    bend: Positive = 11.5
    test_mix: dict[str, Share] | None = None

    def __post_init__(self) -> None:
        if len(set(self.by)) != len(self.by):
            raise ValueError(f"by={list(self.by)}: each at most once")
        if list(self.ages) != sorted(set(self.ages)):
            raise ValueError(f"ages={list(self.ages)}: the edges of the bands must ascend")
        if not 0 < self.bend < 90:
            raise ValueError(f"bend={self.bend}: degrees between 0 and 90")
        if self.test_mix is not None and (
            min(self.test_mix.values(), default=-1) < 0 or abs(sum(self.test_mix.values()) - 1) > 1e-3
        ):
            raise ValueError(f"test_mix={self.test_mix}: shares from 0 to 1 that sum to 1")


def stratify(images: Sequence[Radiograph], spec: StrataSpec) -> list[str]:
    """The stratum of every image, for example `rotated` or `F/30to45/straight`.

    Raises:
        BonepipeError: a wrist has to be measured and its image cannot be read.
    """
    tell: dict[str, Callable[[], list[str]]] = {
        "sex": lambda: [image.sex or UNKNOWN for image in images],
        "age": lambda: [age_band(image.age, spec.ages) for image in images],
        "wrist": lambda: _wrists(images, spec),
    }
    columns = [tell[trait]() for trait in spec.by]
    return ["/".join(row) for row in zip(*columns, strict=True)] if columns else ["all"] * len(images)


def age_band(age: float | None, edges: Sequence[float]) -> str:
    """The name of an age's band: `under30`, `30to45` (45 is in the next), `from60`, or `unknown`."""
    if age is None or not edges:
        return UNKNOWN
    place = int(np.searchsorted(edges, age, side="right"))
    if place == 0:
        return f"under{edges[0]:g}"
    return f"from{edges[-1]:g}" if place == len(edges) else f"{edges[place - 1]:g}to{edges[place]:g}"


def _wrists(images: Sequence[Radiograph], spec: StrataSpec) -> list[str]:
    bent: list[bool | None] = [image.rotated for image in images]
    if spec.wrist != "listed":
        # A list that names nobody of a part was made for the other part.
        named = {image.split for image in images if image.rotated and spec.wrist == "auto"}
        unsure = [i for i, image in enumerate(images) if image.rotated is None or image.split not in named]
        for index, value in zip(unsure, _measure([images[i] for i in unsure], spec.bend), strict=True):
            bent[index] = value
    return [UNKNOWN if value is None else "rotated" if value else "straight" for value in bent]


def _measure(images: Sequence[Radiograph], limit: float) -> list[bool | None]:
    """Whether each wrist is rotated, by the images alone; None where no hand is found."""
    with ThreadPoolExecutor(cores()) as pool:  # decoding releases the GIL
        angles = pool.map(lambda image: bend_angle(image.read()), images)
        return [None if np.isnan(angle) else bool(angle >= limit) for angle in angles]


def test_mix(images: Sequence[Radiograph], spec: StrataSpec) -> dict[str, float] | None:
    """The shares of the strata in the test set: as the spec states them, else counted; None without test images."""
    if spec.test_mix is not None:
        return spec.test_mix
    return shares(stratify(images, spec)) if images else None


def shares(labels: Sequence[str]) -> dict[str, float]:
    """The share of each stratum among the images, strata in alphabetical order."""
    return {stratum: count / len(labels) for stratum, count in sorted(Counter(labels).items())}


def uncovered(labels: Sequence[str], mix: Mix) -> list[str]:
    """The strata that the test set has and these images have not."""
    return sorted(stratum for stratum, share in mix.items() if share > 0 and stratum not in set(labels))


def weights(labels: Sequence[str], mix: Mix) -> np.ndarray:
    """Post-stratification weights: what each image counts in a mean that is to predict the test set's.

    An image of stratum s weighs p_test(s) / p_train(s), so that the weighted mean is the sum over s of p_test(s) times
    the mean of s (D. Holt and T. M. F. Smith, "Post Stratification", J. R. Stat. Soc. A 142, 1979, section 2). Strata
    that no image stands for are left out and the shares of the others scaled up; see `uncovered`.

    Args:
        mix: shares of the strata in the test set.

    Returns:
        float64 `[N]` with mean 1.

    Raises:
        ValueError: no image is of a stratum that the test set has.
    """
    here = shares(labels)
    covered = sum(mix.get(stratum, 0) for stratum in here)
    if covered <= 0:
        raise ValueError(f"no image is of the test set's strata ({', '.join(mix)}), but of {', '.join(here)}")
    return np.array([mix.get(label, 0) / covered / here[label] for label in labels])


def effective(weights: np.ndarray) -> float:
    """How many equally weighted images a weighted mean is worth (L. Kish, "Survey Sampling", 1965, section 11.7)."""
    return float(weights.sum() ** 2 / (weights**2).sum())


def table(labels: Sequence[str], scores: np.ndarray, mix: Mix) -> dict[str, dict[str, Any]]:
    """What is known of each stratum: images, their share, the test set's share, and the mean score.

    Args:
        scores: one an image, `[N]`.
        mix: shares of the strata in the test set.
    """
    here, at = shares(labels), np.array(labels)
    return {
        stratum: {
            "images": int((at == stratum).sum()),
            "share": here.get(stratum, 0.0),
            "test_share": float(mix.get(stratum, 0.0)),
            "dice": float(scores[at == stratum].mean()) if stratum in here else None,
        }
        for stratum in sorted({*here, *mix})
    }
