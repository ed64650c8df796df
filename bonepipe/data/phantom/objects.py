"""What lies on the detector beside the hand: rings, nail polish and the letter that tells the side."""

import cv2
import numpy as np
from numpy.typing import NDArray

from bonepipe.data.phantom.classes import RAYS
from bonepipe.data.phantom.curves import Points
from bonepipe.data.phantom.grid import Image
from bonepipe.data.phantom.pose import FIELD, Bone, Hand

METAL = 3.0  # line integral through a gold band, as good as opaque
POLISH = 0.05


def add_ring(total: Image, bone: Bone) -> None:
    """Add, in place, a metal ring around the phalanx `bone` to the line integrals [S, S]."""
    mm = FIELD / len(total)
    axis = bone.end - bone.start
    centre = (bone.start + axis * 0.42) / mm
    angle = float(np.degrees(np.arctan2(axis[1], axis[0]))) + 90
    band = np.zeros(total.shape, np.uint8)
    axes = (max(1, round(9.4 / mm)), max(1, round(1.6 / mm)))
    cv2.ellipse(band, _pixel(centre), axes, angle, 0, 360, 1, max(1, round(2.4 / mm)))
    total[band > 0] += METAL


def add_nail_polish(total: Image, hand: Hand) -> None:
    """Add, in place, a thin layer over each nail to the line integrals [S, S]."""
    mm = FIELD / len(total)
    for ray in RAYS:
        bone = hand.bones[ray[-1]]
        axis = bone.end - bone.start
        angle = float(np.degrees(np.arctan2(axis[1], axis[0])))
        nail = np.zeros(total.shape, np.uint8)
        cv2.ellipse(nail, _pixel((bone.end - axis * 0.12) / mm), (round(6.5 / mm), round(5 / mm)), angle, 0, 360, 1, -1)
        total[nail > 0] += POLISH


def draw_marker(grey: NDArray[np.uint8], hand: Hand, rng: np.random.Generator) -> None:
    """Write R or L, in place, near an upper or lower corner of the collimated field of `grey` [S, S]."""
    present, height = rng.random() < 0.9, rng.uniform(8, 12)
    across, down = rng.uniform(2, 7), rng.uniform(2, 14)
    thumb_side, upper = bool(rng.random() < 0.6), bool(rng.random() < 0.7)
    if not present:
        return
    scale = len(grey) / FIELD
    on_left = thumb_side != hand.left
    low, high = hand.box
    x = low[0] + across if on_left else high[0] - across - height * 0.8
    y = low[1] + down + height if upper else high[1] - down
    font_scale = height * scale / 22  # the font's capitals are 22 pixels high
    text = "L" if hand.left else "R"
    cv2.putText(grey, text, _pixel(np.array([x, y]) * scale), cv2.FONT_HERSHEY_SIMPLEX, font_scale, 228,
                max(1, round(1.5 * scale)), cv2.LINE_AA)  # fmt: skip


def _pixel(point: Points) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))
