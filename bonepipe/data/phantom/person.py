"""A made-up patient: age, sex, body, and the shape that both hands share."""

from dataclasses import dataclass, replace

import numpy as np

from bonepipe.data.phantom import anatomy
from bonepipe.data.phantom.anatomy import Tube
from bonepipe.data.phantom.classes import RAYS
from bonepipe.data.phantom.curves import Points, closed_spline, wobble

BODY_STREAM, RIGHT_STREAM, LEFT_STREAM, DATASET_STREAM = range(4)


@dataclass(frozen=True)
class Person:
    """Age in years, height in cm, weight in kg; `cortex` and `scale` relative to the standard adult of anatomy.py.

    `shapes` are right-hand outlines [N, 2] in mm, `tubes` the sizes behind them, `ring` the label of a phalanx or "".
    """

    male: bool
    age: int
    height: int
    weight: int
    nail_polish: bool
    ring: str
    ring_on_left: bool
    cortex: float
    shapes: dict[str, Points]
    tubes: dict[str, Tube]
    scale: float


def generator(seed: int, number: int, stream: int) -> np.random.Generator:
    """Make the random generator of one patient's body or of one hand: nothing else draws from it."""
    return np.random.default_rng([seed, number, stream])


def draw_person(seed: int, number: int) -> Person:
    """Draw the patient with this number under this seed, whatever the size of the dataset."""
    rng = generator(seed, number, BODY_STREAM)
    male = bool(rng.random() < 0.5)
    age = int(np.clip(rng.normal(38, 14), 19, 69))
    height = int(np.clip(rng.normal(173, 5.8) if male else rng.normal(161, 5.2), 150, 187))
    weight = int(np.clip(rng.normal(24.3 if male else 22.6, 3) * (height / 100) ** 2, 42, 118))
    scale = (0.97 if male else 0.95) * height / 172 * rng.normal(1, 0.02)
    tubes = _draw_tubes(scale, 1.0 if male else 0.95, rng)
    return Person(
        male=male,
        age=age,
        height=height,
        weight=weight,
        nail_polish=bool(not male and rng.random() < 0.15),
        ring=_draw_ring(rng),
        ring_on_left=bool(rng.random() < 0.6),
        cortex=_cortex(male, age, rng),
        shapes=_draw_shapes(tubes, scale, rng),
        tubes=tubes,
        scale=scale,
    )


def _cortex(male: bool, age: int, rng: np.random.Generator) -> float:
    """Draw the thickness of the cortex relative to a young man's: it thins with age, in women sooner."""
    loss = max(age - (50 if male else 42), 0) * (0.004 if male else 0.010)
    return float((1 - loss) * rng.normal(1 if male else 0.93, 0.07))


def _draw_ring(rng: np.random.Generator) -> str:
    """Pick the proximal phalanx that wears a ring, or none (""): most patients took theirs off."""
    wears = bool(rng.random() < 0.06)
    finger = int(rng.choice([2, 3, 3, 3, 4]))
    return RAYS[finger][1] if wears else ""


def _draw_tubes(scale: float, slender: float, rng: np.random.Generator) -> dict[str, Tube]:
    """Draw the sizes of the tubular bones: whole hand, each ray and each bone vary."""
    ray_length = dict(zip(RAYS, rng.normal(1, 0.02, len(RAYS)), strict=True))
    width = scale * slender * rng.normal(1, 0.03)
    sizes = anatomy.tube_sizes()
    tubes = {}
    for ray, factor in ray_length.items():
        for label in ray:
            bone, jitter = sizes[label], rng.normal(1, [0.015, 0.02, 0.035, 0.02])
            wide = width * jitter[1:] * (bone.base, bone.shaft, bone.head)
            tubes[label] = replace(Tube(bone.length * scale * factor * jitter[0], *map(float, wide)))
    return tubes


def _draw_shapes(tubes: dict[str, Tube], scale: float, rng: np.random.Generator) -> dict[str, Points]:
    """Draw the outline of every bone: tubular ones with their base at the origin, others in their place."""
    shapes = {}
    for label, tube in tubes.items():
        outline = anatomy.tube_outline(_kind(label), tube, float(rng.normal(0, 0.18)))
        shapes[label] = wobble(outline, 0.2 * scale, (2, 9), rng)
    for label, controls in anatomy.CARPAL_CONTROLS.items():
        shapes[label] = _vary_carpal(closed_spline(np.array(controls) * scale), scale, rng)
    for label, controls in (("Radius", anatomy.RADIUS_CONTROLS), ("Ulna", anatomy.ULNA_CONTROLS)):
        shapes[label] = wobble(closed_spline(np.array(controls) * scale), 0.3 * scale, (5, 14), rng)
    return shapes


def _kind(label: str) -> str:
    """Tell which of the three outlines of a tubular bone `label` has."""
    position = next(ray.index(label) - len(ray) for ray in RAYS if label in ray)
    if position == -1:
        return "distal"
    return "metacarpal" if any(ray[0] == label for ray in RAYS) else "phalanx"


def _vary_carpal(outline: Points, scale: float, rng: np.random.Generator) -> Points:
    """Make a carpal bone a little larger, turned, moved and otherwise shaped than the next patient's."""
    middle = outline.mean(axis=0)
    turn = np.deg2rad(rng.normal(0, 3))
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    stretched = (outline - middle) * rng.normal(1.08, 0.03, 2) @ turned.T
    return wobble(stretched + middle + rng.normal(0, 0.3 * scale, 2), 0.28 * scale, (2, 8), rng)
