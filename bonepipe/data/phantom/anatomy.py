"""Outlines of the bones of an adult right hand in millimetres, seen from the back with the fingers up.

x runs from the thumb's (radial) side to the little finger's (ulnar) side, y towards the fingertips. A tubular bone has
the middle of its base at (0, 0); carpal bones, radius and ulna lie where they belong around the capitate's head.
Lengths follow the means of A. Buryanov and V. Kotiuk, "Proportions of hand segments" (Int. J. Morphol. 28(3), 2010);
widths and the carpal shapes were placed by hand after the usual postero-anterior view.
"""

from dataclasses import dataclass

import numpy as np

from bonepipe.data.phantom.classes import RAYS
from bonepipe.data.phantom.curves import Points, closed_spline


@dataclass(frozen=True)
class Tube:
    """Size of a tubular bone: length and the full widths of base, shaft and head, in mm."""

    length: float
    base: float
    shaft: float
    head: float


METACARPALS = (
    Tube(46, 14.8, 10.8, 14.5), Tube(68, 17.2, 8.8, 15), Tube(66, 15.8, 8.8, 15), Tube(58, 13.6, 7.6, 13),
    Tube(54, 14.6, 8.2, 12.5),
)  # fmt: skip
PROXIMAL = (
    Tube(32, 15.5, 9.8, 12.5), Tube(40.5, 15, 9.6, 11.6), Tube(45, 15.5, 10, 12.2), Tube(42, 14.5, 9.3, 11.5),
    Tube(33, 13.2, 8, 9.8),
)  # fmt: skip
MIDDLE = (Tube(24, 13, 8.4, 10.4), Tube(29, 13.6, 8.7, 10.8), Tube(27.5, 12.8, 8.2, 10.2), Tube(19, 11, 7, 8.8))
DISTAL = (
    Tube(23, 14.2, 7.6, 10.4), Tube(17, 11.4, 5.2, 8), Tube(18, 11.8, 5.4, 8.6), Tube(18, 11.4, 5.2, 8.2),
    Tube(16, 9.6, 4.4, 6.8),
)  # fmt: skip

CARPAL_CONTROLS: dict[str, list[tuple[float, float]]] = {
    "Capitate": [
        (0, 0.5), (-4.5, 2), (-6.3, 6), (-5.5, 10.5), (-6.5, 14.5), (-8, 18.5), (-7.5, 22.5), (-3, 25),
        (3, 25.3), (8, 24), (9, 20.5), (7.3, 15), (6.3, 10), (6.2, 5.5), (4.5, 2),
    ],
    "Hamate": [
        (8.3, 2.5), (7.6, 6.5), (8.2, 12), (9.6, 18), (10.3, 22.5), (15, 24), (20, 22.5), (24.5, 19.5),
        (25.2, 15.5), (21.5, 11.5), (16.5, 7), (12, 2.6), (10, 1.5),
    ],
    "Lunate": [
        (-3.5, -2.2), (0.5, -1.7), (4.5, -0.9), (7.5, 0.2), (10.5, -0.8), (12.6, -4.5), (12.4, -9), (9.5, -13.2),
        (4, -15.2), (-1.2, -13.8), (-4, -9.5), (-4.6, -5),
    ],
    "Scaphoid": [
        (-5.6, -3.5), (-5.9, -7), (-7, -11), (-11, -12.3), (-15.2, -9.5), (-18.3, -4.5), (-19.8, 1), (-22, 6),
        (-21.5, 10.5), (-17.5, 12.3), (-12.5, 11.8), (-9, 9), (-8.4, 5), (-7.6, 1),
    ],
    "Triquetrum": [
        (13.5, -0.5), (14.2, -5.5), (17, -9), (21.5, -8.8), (25.5, -4.5), (27.8, 1), (28, 6.5), (25.5, 9.5),
        (21.5, 8), (17.2, 3.6),
    ],
    "Pisiform": [
        (22.6, 3.6), (19.2, 2.6), (17.4, -1.2), (18.2, -5.2), (21.2, -7.4), (24.8, -6.6), (27.2, -2.8), (26.2, 1.6),
    ],
    "Trapezoid": [
        (-8.6, 13.2), (-8.2, 18), (-8.9, 22), (-10.9, 25.5), (-15.4, 26.0), (-19.2, 23.5), (-18.7, 18), (-15.9, 13.9),
        (-11.9, 12.8),
    ],
    "Trapezium": [
        (-14.6, 14.3), (-19, 13.2), (-24, 12.5), (-28.5, 14.5), (-31.5, 19), (-30.5, 23.5), (-26.5, 25.5),
        (-21, 26.5), (-16.2, 25), (-13.6, 20),
    ],
}  # fmt: skip

RADIUS_CONTROLS: list[tuple[float, float]] = [
    (-20.5, -4.5), (-18, -7.2), (-14.6, -9.9), (-9, -12), (-3, -13.4), (3, -14.6), (8.5, -15.1), (11.4, -16.6),
    (11.8, -20), (10.2, -27), (8, -33), (4.9, -43), (3, -62), (2.4, -100), (2.2, -150), (-5, -152), (-12.5, -150),
    (-12.6, -100), (-13, -62), (-14.8, -43), (-17, -32), (-20, -22), (-21.8, -14), (-22, -9),
]  # fmt: skip
ULNA_CONTROLS: list[tuple[float, float]] = [
    (10.8, -20.5), (12.6, -17.8), (16.8, -16.9), (21, -17.3), (23.4, -15.6), (25.2, -12.6), (26.6, -14.6),
    (26.6, -21), (25.2, -28), (23.2, -36), (22.2, -46), (21.8, -70), (22.3, -150), (17, -152), (11, -150),
    (11.3, -70), (11.6, -46), (11, -36), (10.5, -27),
]  # fmt: skip

# Where each metacarpal's base sits (mm) and where it points (degrees, positive towards the little finger).
METACARPAL_BASES = ((-28.5, 25.8), (-13.2, 26.2), (-0.2, 25.3), (12.4, 24.3), (22.2, 21.0))
METACARPAL_ANGLES = (-37.0, -9.0, -1.0, 6.0, 13.5)


def tube_sizes() -> dict[str, Tube]:
    """Size of every tubular bone by its label."""
    fingers = zip(RAYS[1:], METACARPALS[1:], PROXIMAL[1:], MIDDLE, DISTAL[1:], strict=True)
    sizes = dict(zip(RAYS[0], (METACARPALS[0], PROXIMAL[0], DISTAL[0]), strict=True))
    for labels, *tubes in fingers:
        sizes.update(zip(labels, tubes, strict=True))
    return sizes


def tube_outline(kind: str, tube: Tube, skew: float = 0.0) -> Points:
    """Outline [N, 2] of a tubular bone: `kind` is metacarpal, phalanx or distal; `skew` leans its ends (-1..1)."""
    half = {"metacarpal": _metacarpal_side, "phalanx": _phalanx_side, "distal": _distal_side}[kind](tube)
    ulnar = np.array(half)
    radial = ulnar[-2:0:-1] * (-1, 1)
    controls = np.vstack([ulnar, radial])
    controls[:, 1] += skew * controls[:, 0] * 0.12
    return closed_spline(controls[::-1])


def _metacarpal_side(tube: Tube) -> list[tuple[float, float]]:
    """Trace one side from the middle of the base to the domed head."""
    size, b, m, h = tube.length, tube.base / 2, tube.shaft / 2, tube.head / 2
    low, high = _shaft_ends(tube, 1.9, 2.5)
    base = [(0, 0.5), (0.55 * b, 0), (0.92 * b, 0.6), (b, 0.5 * b), (0.93 * b, 1.0 * b), (0.5 * (b + m), low)]
    shaft = [(1.03 * m, low + 0.36 * (high - low)), (1.02 * m, low + 0.68 * (high - low)), (0.5 * (m + h), high)]
    head = [(0.97 * h, size - 1.6 * h), (h, size - 0.95 * h), (0.89 * h, size - 0.42 * h)]
    return [*base, *shaft, *head, (0.52 * h, size - 0.1 * h), (0, size)]


def _phalanx_side(tube: Tube) -> list[tuple[float, float]]:
    """Trace one side from the cupped base to the two condyles of the head."""
    size, b, m, h = tube.length, tube.base / 2, tube.shaft / 2, tube.head / 2
    low, high = _shaft_ends(tube, 1.7, 1.6)
    base = [(0, 0.12 * b), (0.5 * b, 0.03 * b), (0.88 * b, 0.02 * b), (b, 0.35 * b), (0.92 * b, 0.8 * b)]
    shaft = [(0.45 * b + 0.5 * m, low), (m, 0.5 * (low + high)), (0.45 * m + 0.5 * h, high)]
    head = [(0.97 * h, size - 1.0 * h), (h, size - 0.6 * h), (0.86 * h, size - 0.16 * h), (0.5 * h, size)]
    return [*base, *shaft, *head, (0, size - 0.14 * h)]


def _distal_side(tube: Tube) -> list[tuple[float, float]]:
    """Trace one side from the base to the tuft at the fingertip."""
    size, b, m, h = tube.length, tube.base / 2, tube.shaft / 2, tube.head / 2
    low, high = _shaft_ends(tube, 1.4, 1.5)
    base = [(0, -0.02 * b), (0.5 * b, 0.08 * b), (0.86 * b, 0.1 * b), (b, 0.42 * b), (0.88 * b, 0.85 * b)]
    shaft = [(0.35 * b + 0.6 * m, low), (m, 0.5 * (low + high)), (0.5 * (m + h), high)]
    return [*base, *shaft, (0.96 * h, size - 1.05 * h), (h, size - 0.6 * h), (0.66 * h, size - 0.1 * h), (0, size)]


def _shaft_ends(tube: Tube, base: float, head: float) -> tuple[float, float]:
    """Where the flare of the base ends and that of the head begins, given in half widths but never past each other."""
    return min(base * tube.base / 2, 0.36 * tube.length), tube.length - min(head * tube.head / 2, 0.36 * tube.length)
