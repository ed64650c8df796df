"""What an annotator would draw on a radiograph, as polygons and as the annotation file; and how it goes wrong."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bonepipe.data.annotation import document
from bonepipe.data.phantom.classes import CLASSES
from bonepipe.data.phantom.curves import clip_to_box, resample, wobble
from bonepipe.data.phantom.pose import FIELD, Hand

Polygon = NDArray[np.int32]

HAND_TREMOR = 0.11  # mm, deviation of a drawn outline from the bone's edge
DECLARED_SIDE = 3060  # pixels; what `metadata` claims whatever the image's size
PLANTED_KINDS = ("permuted", "missing", "ring")

# The label that each bone gets instead of its own in a permuted annotation: mirrored thumb, swapped rows.
PERMUTATION = {
    "finger-1": "finger-3", "finger-3": "finger-1", "Trapezium": "Hamate", "Hamate": "Trapezium",
    "Trapezoid": "Capitate", "Capitate": "Trapezoid", "Radius": "Ulna", "Ulna": "Radius",
    "Pisiform": "Scaphoid", "Scaphoid": "Triquetrum", "Triquetrum": "Lunate", "Lunate": "Pisiform",
}  # fmt: skip


def trace(hand: Hand, size: int, rng: np.random.Generator) -> dict[str, Polygon]:
    """Dense integer outline [N, 2] (x, y in 0..size-1) of every class inside the collimated field."""
    scale = size / FIELD
    spacing = float(np.clip(3 * size / 2048, 1, 3))
    polygons = {}
    for label in CLASSES:
        drawn = wobble(hand.bones[label].outline, HAND_TREMOR, (3, 16), rng)
        visible = clip_to_box(drawn, *hand.box)
        if len(visible) >= 3:
            pixels = np.round(resample(visible * scale, spacing) - 0.5).astype(np.int32)
            polygons[label] = without_repeats(np.clip(pixels, 0, size - 1))
    return polygons


def without_repeats(polygon: Polygon) -> Polygon:
    """Drop points equal to the one before."""
    return polygon[(polygon != np.roll(polygon, 1, axis=0)).any(axis=1)]


def fill(polygons: Sequence[Polygon], size: int) -> NDArray[np.bool_]:
    """Ground-truth mask [size, size] of one class: the union of its filled polygons, outlines included."""
    mask = np.zeros((size, size), np.uint8)
    for polygon in polygons:
        cv2.fillPoly(mask, [polygon], 1)
    return mask.astype(bool)


def plant(
    shapes: list[tuple[str, Polygon]], kind: str, rng: np.random.Generator
) -> tuple[list[tuple[str, Polygon]], tuple[str, ...]]:
    """Spoil the (label, polygon) pairs in one of `PLANTED_KINDS`, or not at all; also returns the classes now wrong."""
    if not kind:
        return shapes, ()
    if kind == "permuted":
        permuted = [(PERMUTATION.get(label, label), polygon) for label, polygon in shapes]
        return permuted, tuple(label for label in CLASSES if label in PERMUTATION)
    label, polygon = shapes[int(rng.integers(len(shapes) - 2))]  # not radius or ulna: they reach the border
    if kind == "missing":
        return [pair for pair in shapes if pair[0] != label], (label,)
    return [*shapes, (label, ring_inside(polygon))], (label,)


def ring_inside(polygon: Polygon) -> Polygon:
    """Draw a thin ring about the middle of `polygon`: outer and inner loop in one outline."""
    middle = polygon.mean(axis=0)
    outer = np.round(middle + (polygon - middle) * 0.40)
    inner = np.round(middle + (polygon - middle) * 0.25)
    return without_repeats(np.vstack([outer, outer[:1], inner[::-1], inner[-1:]]).astype(np.int32))


def annotation_file(
    shapes: Sequence[tuple[str, Polygon]], patient: str, stem: str, rng: np.random.Generator
) -> dict[str, Any]:
    """Compose the annotation of one image as the annotation tool exports it, its two wrong fields included."""
    worker = _identifier(rng)
    entries = [(_identifier(rng), label, polygon) for label, polygon in shapes]
    size = DECLARED_SIDE, DECLARED_SIDE
    return document(entries, f"{stem}.jpg", patient, size, file_id=_identifier(rng), worker=worker)


def _identifier(rng: np.random.Generator) -> str:
    """24 hexadecimal digits, the shape of a database key."""
    return rng.bytes(12).hex()
