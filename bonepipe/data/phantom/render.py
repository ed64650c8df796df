"""From bones in millimetres to the grey picture that the reading room sees."""

import cv2
import numpy as np
from numpy.typing import NDArray

from bonepipe.data.phantom import attenuation
from bonepipe.data.phantom.grid import Image, blur, resize, root, smooth
from bonepipe.data.phantom.objects import add_nail_polish, add_ring, draw_marker
from bonepipe.data.phantom.person import Person
from bonepipe.data.phantom.pose import FIELD, Hand
from bonepipe.data.phantom.soft_tissue import soft_tissue

SCATTER = 0.10  # of the primary beam, without a grid
SCATTER_SPREAD = 9.0  # mm
FLATTEN, FLATTEN_SPREAD = 0.30, 12.0  # the display takes out this share of what is smoother than so many mm
SUPERSAMPLED = 1024  # pixels a side, up to which bones are drawn twice as fine: their edges would be jagged
UNSHARPNESS = 0.11  # mm, detector and focal spot


def render(hand: Hand, person: Person, size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Take the radiograph [size, size] of one hand, dark air and bright bone."""
    fine = size * 2 if size <= SUPERSAMPLED else size
    total = line_integrals(hand, person, fine, rng)
    if fine > size:
        total = resize(total, (size, size), cv2.INTER_AREA)
    exposure = rng.uniform(0.8, 1.25)
    density = detect(total, exposure, rng)
    return display(density, hand, rng)


def line_integrals(hand: Hand, person: Person, size: int, rng: np.random.Generator) -> Image:
    """Sum the attenuation along each ray, [size, size]: soft tissue, bones and what the patient wears."""
    plumpness = float(np.clip((person.weight / (person.height / 100) ** 2 - 22) * 0.12, -0.6, 2.0))
    total = resize(soft_tissue(hand, plumpness, rng), (size, size))
    texture = attenuation.trabeculae(size, rng)
    for bone in hand.bones.values():
        attenuation.add_bone(total, bone, texture, person.cortex)
    if person.ring and person.ring_on_left == hand.left:
        add_ring(total, hand.bones[person.ring])
    if person.nail_polish:
        add_nail_polish(total, hand)
    return total


def detect(total: Image, exposure: float, rng: np.random.Generator) -> Image:
    """Find the density (minus the logarithm of the relative signal) that a detector sees, with scatter and noise."""
    size = len(total)
    primary = np.asarray(cv2.exp(-total), np.float32)
    signal = blur(primary, max(UNSHARPNESS * size / FIELD, 0.55))
    signal += smooth(signal, SCATTER_SPREAD / FIELD) * np.float32(SCATTER)
    noise = rng.standard_normal(total.shape, dtype=np.float32)
    # A coarser pixel gathers more quanta, but the noise that matters to the eye has a floor.
    noise *= np.float32(0.017 * (size / 2048) ** 0.7 / np.sqrt(exposure))
    noise *= root(signal)
    signal += noise
    np.maximum(signal, 1e-3, out=signal)
    return -np.asarray(cv2.log(signal), np.float32)


def display(density: Image, hand: Hand, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Turn density to grey levels [S, S]: flattened, windowed on the hand, curved, black outside the field."""
    size = len(density)
    white = rng.uniform(0.72, 0.86)
    black = float(-np.log1p(SCATTER)) + 0.02
    flat = density - smooth(density - np.float32(black), FLATTEN_SPREAD / FIELD) * np.float32(FLATTEN)
    grey = (flat - np.float32(black)) * np.float32(1 / white)
    np.clip(grey, 0, 1.2, out=grey)
    grey *= np.float32(0.75) + np.float32(0.25) * grey
    low, high = np.round(hand.box * size / FIELD).astype(int)
    framed = np.full((size, size), rng.integers(0, 4), np.uint8)
    field = np.clip(grey[low[1] : high[1], low[0] : high[0]] * 240 + 4, 0, 255)
    framed[low[1] : high[1], low[0] : high[0]] = field.astype(np.uint8)
    draw_marker(framed, hand, rng)
    return framed
