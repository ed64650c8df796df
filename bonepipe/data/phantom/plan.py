"""Which patient is who: ids, split, rotated wrists, image names and the annotations to spoil."""

from dataclasses import dataclass

import numpy as np

from bonepipe.data.phantom import PLANTED_SHARE
from bonepipe.data.phantom.annotation import PLANTED_KINDS
from bonepipe.data.phantom.person import DATASET_STREAM, generator

ROTATED_TRAIN, ROTATED_TEST = 0.1175, 0.576  # share of the patients
PLANTED_FROM = 20  # train patients; no annotation is wrong in sets of fewer
FIRST_MOMENT, MOMENTS_A_PATIENT = 1661130828152, 10_870_000  # ms since 1970: images are named by the clock


@dataclass(frozen=True)
class Visit:
    """One patient's place in the dataset. `stems` are the names of the right and the left hand's image."""

    number: int
    test: bool
    rotated: bool
    usage: str
    stems: tuple[str, str]
    faults: tuple[str, str] = ("", "")

    @property
    def patient(self) -> str:
        """The folder's name, like `ID001`."""
        return f"ID{self.number:03d}"


@dataclass(frozen=True)
class Plan:
    """All patients with images in the order of their ids, and the ids that are in the metadata only."""

    visits: tuple[Visit, ...]
    absent: tuple[int, ...]


def make_plan(patients: int, test_patients: int, seed: int, planted: float = PLANTED_SHARE) -> Plan:
    """Deal ids to splits, bends to wrists and faults to images; patient 1 is always a train patient.

    Everything but the faults is the same whatever share of the train images has some.
    """
    rng = np.random.default_rng([seed, 0, DATASET_STREAM, patients, test_patients])
    total = patients + test_patients
    missing = round(total * 6 / 544)
    others = rng.permutation(np.arange(2, total + missing + 1))
    absent, test = sorted(others[:missing].tolist()), sorted(others[missing : missing + test_patients].tolist())
    train = sorted({1, *others[missing + test_patients :].tolist()})
    rotated = _pick_rotated(train, ROTATED_TRAIN, rng) | _pick_rotated(test, ROTATED_TEST, rng)
    public = set(rng.permutation(test)[: (len(test) + 1) // 2].tolist())
    faults = _deal_faults(train, planted, rng)
    visits = (
        Visit(
            number=number,
            test=number in test,
            rotated=number in rotated,
            usage="Public" if number in public else "Private",
            stems=image_stems(seed, number),
            faults=faults.get(number, ("", "")),
        )
        for number in sorted([*train, *test])
    )
    return Plan(tuple(visits), tuple(absent))


def _pick_rotated(numbers: list[int], share: float, rng: np.random.Generator) -> set[int]:
    """Pick as near to `share` of `numbers` as rounding permits, at least one of five or more."""
    count = max(round(share * len(numbers)), int(len(numbers) >= 5))
    return set(rng.permutation(numbers)[:count].tolist())


def _deal_faults(train: list[int], share: float, rng: np.random.Generator) -> dict[int, tuple[str, str]]:
    """Choose the kind of fault in the right and the left hand's annotation, by patient; one image a patient."""
    if len(train) < PLANTED_FROM or not share:
        return {}
    count = max(len(PLANTED_KINDS), round(2 * len(train) * share))
    dealt = {}
    for place, number in enumerate(rng.permutation(train[1:])[:count].tolist()):
        kind = PLANTED_KINDS[place % len(PLANTED_KINDS)]
        dealt[number] = (kind, "") if rng.random() < 0.5 else ("", kind)
    return dealt


def image_stems(seed: int, number: int) -> tuple[str, str]:
    """Name the images of the right and the left hand, which sort in this order; only patient 1's tell the side."""
    rng = generator(seed, number, DATASET_STREAM)
    right = FIRST_MOMENT + (number - 1) * MOMENTS_A_PATIENT + int(rng.integers(0, MOMENTS_A_PATIENT // 2))
    left = right + int(rng.integers(15_000, 90_000))
    suffixes = ("_R", "_L") if number == 1 else ("", "")
    return f"image{right}{suffixes[0]}", f"image{left}{suffixes[1]}"
