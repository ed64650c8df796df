"""Skin, muscle and fat around the bones, on a grid of their own: they are smooth."""

import cv2
import numpy as np
from numpy.typing import NDArray

from bonepipe.data.phantom.attenuation import SOFT, local_radius
from bonepipe.data.phantom.classes import CARPALS, RAYS
from bonepipe.data.phantom.curves import Points
from bonepipe.data.phantom.grid import Image, blur, resize, root
from bonepipe.data.phantom.pose import FIELD, Bone, Hand

GRID = 0.4  # mm per pixel
PALM_ROUNDING, FINGER_ROUNDING = 4.0, 1.4  # mm: smaller bumps and clefts vanish; fingers stay apart when close
PALM_DEPTH = 13.5  # mm: half the palm's thickness; fingers are about as deep as wide
DEPTH = 0.88  # depth of a finger relative to its width


def soft_tissue(hand: Hand, plumpness: float, rng: np.random.Generator) -> Image:
    """Line integrals of skin, muscle and fat on a coarse grid; `plumpness` is extra tissue beside the bones in mm."""
    grid = round(FIELD / GRID)
    mask = np.zeros((grid, grid), np.uint8)
    _draw_palm(mask, hand, plumpness)
    mask = _rounded(mask, PALM_ROUNDING)
    _draw_fingers(mask, hand, plumpness)
    skin = _rounded(mask, FINGER_ROUNDING)
    depth = np.asarray(cv2.distanceTransform(skin, cv2.DIST_L2, 5), np.float32) * np.float32(GRID)
    radius = np.minimum(local_radius(depth, GRID, 0.5), np.float32(PALM_DEPTH))
    across = np.maximum(radius - blur(depth, 1.0), 0)
    uneven = resize(rng.standard_normal((24, 24), dtype=np.float32), (grid, grid), cv2.INTER_CUBIC)
    half = root(radius * radius - across * across) * skin
    return blur(half * np.float32(2 * DEPTH * SOFT) * (1 + np.float32(0.04) * uneven), 0.8)


def _rounded(mask: NDArray[np.uint8], radius: float) -> NDArray[np.uint8]:
    """Take corners sharper than `radius` (mm) off a mask of 0 and 1."""
    return (blur(mask.astype(np.float32), radius / GRID) > 0.5).astype(np.uint8)


def _capsule(mask: NDArray[np.uint8], ends: tuple[Points, Points], radii: tuple[float, float], discs: int = 24) -> None:
    """Fill a tapered capsule by a row of discs; all in mm."""
    for share in np.linspace(0, 1, discs):
        x, y = np.round((ends[0] + (ends[1] - ends[0]) * share) / GRID * 16).astype(int).tolist()
        radius = (radii[0] + (radii[1] - radii[0]) * share) / GRID
        cv2.circle(mask, (x, y), round(radius * 16), 1, -1, cv2.LINE_8, 4)


def _half_widths(bone: Bone) -> tuple[float, float]:
    """Half width of a tubular bone near its start and end, in mm."""
    axis = (bone.end - bone.start) / np.hypot(*(bone.end - bone.start))
    along = (bone.outline - bone.start) @ axis
    across = np.abs((bone.outline - bone.start) @ np.array([-axis[1], axis[0]]))
    low = along < along.mean()
    return float(across[low].max()), float(across[~low].max())


def _draw_fingers(mask: NDArray[np.uint8], hand: Hand, plumpness: float) -> None:
    """Draw fingers around their phalanges; the tip reaches about 4 mm beyond the tuft."""
    for number, ray in enumerate(RAYS):
        for label in ray[1:]:
            bone = hand.bones[label]
            base, head = _half_widths(bone)
            extra = 2.6 + plumpness + (0.6 if number == 0 else 0.0)
            end = bone.end
            if label == ray[-1]:
                axis = (bone.end - bone.start) / np.hypot(*(bone.end - bone.start))
                end = bone.end - axis * (head + extra - 4.0)
            _capsule(mask, (bone.start, end), (base + extra, head + extra + 0.4))


def _draw_palm(mask: NDArray[np.uint8], hand: Hand, plumpness: float) -> None:
    """Draw palm, ball of the thumb, first web, wrist and forearm."""
    first, *others = (hand.bones[ray[0]] for ray in RAYS)
    for bone in others:
        _capsule(mask, (bone.start, bone.end), (12 + plumpness, 11 + plumpness))
    _capsule(mask, (first.start, first.end), (15 + plumpness, 10.5 + plumpness))
    little = others[-1]
    outward = (little.start - others[0].start) / np.hypot(*(little.start - others[0].start))
    _capsule(mask, (little.start + outward * 3, (little.start + little.end) / 2 + outward * 3), (13, 11))
    index = others[0]
    web = [first.start + (first.end - first.start) * 0.95, index.start + (index.end - index.start) * 0.72]
    _fill(mask, [first.start, *web, index.start])
    heads = [bone.end for bone in others]
    _fill(mask, [others[0].start, *heads, little.start])
    _draw_forearm(mask, hand, plumpness)


def _draw_forearm(mask: NDArray[np.uint8], hand: Hand, plumpness: float) -> None:
    """Draw a band around radius and ulna, joined to the carpal bones."""
    radius, ulna = hand.bones["Radius"], hand.bones["Ulna"]
    for bone, extra in ((radius, 5.0), (ulna, 5.0)):
        half = _half_widths(bone)[1]
        axis = (bone.start - bone.end) / np.hypot(*(bone.start - bone.end))
        wide = half * 0.8 + extra + plumpness
        _capsule(mask, (bone.end, bone.end + axis * 110), (wide, wide + 2))
    wrist = np.vstack([hand.bones[label].outline for label in CARPALS] + [[radius.end, ulna.end]])
    hull = cv2.convexHull(wrist.astype(np.float32))[:, 0]
    _fill(mask, list(hull))
    for start, end in zip(hull, np.roll(hull, 1, axis=0), strict=True):
        _capsule(mask, (start, end), (5.5 + plumpness, 5.5 + plumpness), 3)


def _fill(mask: NDArray[np.uint8], corners: list[Points]) -> None:
    cv2.fillPoly(mask, [np.round(np.array(corners) / GRID).astype(np.int32)], 1)
