"""What X-rays lose on their way: line integrals of the attenuation coefficient (dimensionless) on the pixel grid.

Coefficients are those of water and cortical bone at about 46 keV, a hardened beam, from
NIST's tables (J. H. Hubbell and S. M. Seltzer, NISTIR 5632); spongy bone and marrow are mixtures
of bone, water and fat.
"""

import cv2
import numpy as np

from bonepipe.data.phantom.curves import Points
from bonepipe.data.phantom.grid import Image, blur, resize, root
from bonepipe.data.phantom.pose import FIELD, Bone

SOFT, CORTICAL, SPONGY, MARROW = 0.0240, 0.098, 0.046, 0.027  # per mm
DEPTH = 0.82  # bones and fingers are a little flatter than they are wide
# Small carpal bones are shallower than they are broad, and where two overlap they share the wrist's depth.
SHALLOW = {"Pisiform": 0.5, "Triquetrum": 0.8, "Trapezoid": 0.65, "Trapezium": 0.75, "hamate-hook": 0.6}
THICKEST = 7.5  # mm: half the depth of the widest bone ends, which are broader than deep


def bone_box(outline: Points, size: int) -> tuple[slice, slice]:
    """Rows and columns of the pixels around an `outline` given in pixels."""
    low = np.clip(np.floor(outline.min(axis=0)).astype(int) - 1, 0, size)
    high = np.clip(np.ceil(outline.max(axis=0)).astype(int) + 2, 0, size)
    return slice(low[1], high[1]), slice(low[0], high[0])


def add_bone(total: Image, bone: Bone, texture: Image, cortex: float) -> None:
    """Add `bone`, in place, to the line integrals `total` [S, S]; `texture` [S, S] has mean 0 and deviation 1."""
    size, mm = len(total), FIELD / len(total)
    outline = bone.outline / mm
    rows, columns = bone_box(outline, size)
    inside = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
    if not inside.size:
        return
    corner = np.array([columns.start, rows.start])
    cv2.fillPoly(inside, [np.round((outline - 0.5 - corner) * 16).astype(np.int32)], 1, cv2.LINE_8, 4)
    depth = np.maximum(cv2.distanceTransform(inside, cv2.DIST_L2, 3) - 0.5, 0) * np.float32(mm)
    radius = np.minimum(local_radius(depth, mm, 0.9), np.float32(THICKEST))
    shaft = shaft_weight(bone, inside.shape, corner, mm)
    wall = np.float32(cortex) * (0.5 + (1.8 if bone.tubular else 0.0) * shaft) * _wall_scale(bone)
    integral = _bone_integral(depth, radius, wall, shaft, texture[rows, columns])
    total[rows, columns] += integral * inside * np.float32(SHALLOW.get(bone.label, 1.0))


def _wall_scale(bone: Bone) -> np.float32:
    """Thin bones have thin walls: relative to a metacarpal of 60 mm."""
    length = float(np.hypot(*(bone.end - bone.start)))
    return np.float32(np.clip((length / 60) ** 0.5, 0.45, 1.0) if bone.tubular else 1.0)


def _bone_integral(depth: Image, radius: Image, wall: Image, shaft: Image, texture: Image) -> Image:
    """Line integral through an elliptic tube: `wall` mm of cortex around spongy bone, or marrow where `shaft` is 1."""
    across = np.maximum(radius - depth, 0)
    outer = root(radius * radius - across * across)
    hollow = np.maximum(radius - wall, 0)
    inner = root(hollow * hollow - across * across)
    filling = SPONGY - SOFT + (MARROW - SPONGY) * shaft
    grain = 1 + texture * (0.20 - 0.10 * shaft)
    return (2 * DEPTH * ((outer - inner) * (CORTICAL - SOFT) + inner * filling * grain)).astype(np.float32)


def shaft_weight(bone: Bone, shape: tuple[int, ...], corner: Points, mm: float) -> Image:
    """1 in the middle of a tubular bone, 0 at its ends and in carpal bones. [rows, columns] of the bone's box.

    Radius and ulna have an end at the wrist only: their axes start far outside the image.
    """
    length = float(np.hypot(*(bone.end - bone.start)))
    if not bone.tubular or length == 0:
        return np.zeros((shape[0], shape[1]), np.float32)
    axis = (bone.end - bone.start) / length**2 * mm
    begin = float((corner - bone.start / mm) @ axis)
    along = begin + np.arange(shape[1]) * axis[0] + (np.arange(shape[0]) * axis[1])[:, None]
    if bone.label in ("Radius", "Ulna"):
        weight = np.clip((0.92 - along) / 0.3, 0, 1)
    else:
        weight = np.clip(np.minimum(along - 0.13, 0.84 - along) / 0.27, 0, 1)
    return (weight * weight * (3 - 2 * weight)).astype(np.float32)


def local_radius(depth: Image, mm: float, reach: float) -> Image:
    """Half the local width (mm): the deepest point nearby, from a map `depth` of distances to the edge (mm)."""
    coarse = max(1, round(0.5 / mm))
    small = resize(depth, (-(-depth.shape[0] // coarse), -(-depth.shape[1] // coarse)), cv2.INTER_AREA)
    window = 2 * int(np.ceil(reach * float(small.max()) / (mm * coarse))) + 1
    deepest = cv2.blur(cv2.dilate(small, np.ones((window, window), np.uint8)), (window, window))
    return np.maximum(resize(np.asarray(deepest, np.float32), (depth.shape[0], depth.shape[1])), depth)


def trabeculae(size: int, rng: np.random.Generator) -> Image:
    """Texture [size, size] of spongy bone, mean 0, deviation 1: fine plates along the hand, uneven from place to place.

    Trabeculae follow the load, which in a hand laid with the fingers up runs about upwards.
    """
    grid = min(size, 1024)
    noise = rng.standard_normal((grid, grid), dtype=np.float32)
    plates = blur(noise, (0.75, 1.5)) - blur(noise, (2.2, 3.2))
    patches = blur(noise, 8.0)
    return resize(plates / plates.std() * np.float32(0.85) + patches / patches.std() * np.float32(0.5), (size, size))
