"""Closed curves in the plane: splines through control points, smooth variation, resampling and clipping."""

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


def closed_spline(controls: Points, samples: int = 12) -> Points:
    """Draw a closed Catmull-Rom spline through `controls` [K, 2], as [K * samples, 2] points.

    Source: E. Catmull and R. Rom, "A class of local interpolating splines" (1974).
    """
    p = np.asarray(controls, dtype=np.float64)
    before, after, beyond = np.roll(p, 1, 0), np.roll(p, -1, 0), np.roll(p, -2, 0)
    u = (np.arange(samples) / samples)[None, :, None]
    b, p, a, z = (points[:, None, :] for points in (before, p, after, beyond))
    curve = 2 * p + (a - b) * u + (2 * b - 5 * p + 4 * a - z) * u**2 + (3 * p - b - 3 * a + z) * u**3
    return (curve / 2).reshape(-1, 2)


def resample(outline: Points, spacing: float) -> Points:
    """Redraw the closed `outline` [N, 2] with points `spacing` apart along its length (same unit as the points)."""
    closed = np.vstack([outline, outline[:1]])
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    count = max(8, round(along[-1] / spacing))
    at = np.linspace(0.0, along[-1], count, endpoint=False)
    return np.stack([np.interp(at, along, closed[:, 0]), np.interp(at, along, closed[:, 1])], axis=1)


def normals(outline: Points) -> Points:
    """Find the unit normals [N, 2] of a closed outline [N, 2]; outward where the outline runs clockwise with y up."""
    tangent = np.roll(outline, -1, 0) - np.roll(outline, 1, 0)
    tangent /= np.maximum(np.hypot(tangent[:, 0], tangent[:, 1]), 1e-9)[:, None]
    return np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)


def wobble(outline: Points, amplitude: float, harmonics: tuple[int, int], rng: np.random.Generator) -> Points:
    """Shift `outline` [N, 2] along its normals by a random smooth function with standard deviation `amplitude`."""
    order = np.arange(*harmonics)
    weight = 1 / order
    weight /= np.sqrt((weight**2).sum())
    angle = 2 * np.pi * np.arange(len(outline)) / len(outline)
    waves = np.cos(order[:, None] * angle + rng.uniform(0, 2 * np.pi, len(order))[:, None])
    shift = amplitude * (rng.normal(size=len(order)) * weight) @ waves * np.sqrt(2)
    return outline + normals(outline) * shift[:, None]


def clip_to_box(outline: Points, low: Points, high: Points) -> Points:
    """Cut a polygon [N, 2] to the box `low`..`high`; what is left may be empty.

    Source: I. Sutherland and G. Hodgman, "Reentrant polygon clipping" (1974).
    """
    for axis in (0, 1):
        outline = _clip_half_plane(outline, axis, float(low[axis]), 1.0)
        outline = _clip_half_plane(outline, axis, float(high[axis]), -1.0)
    return outline


def _clip_half_plane(outline: Points, axis: int, bound: float, sign: float) -> Points:
    """Keep where `sign * (coordinate - bound) >= 0`."""
    if not len(outline):
        return outline
    depth = sign * (outline[:, axis] - bound)
    if (depth >= 0).all():
        return outline
    following, next_depth = np.roll(outline, -1, 0), np.roll(depth, -1)
    crosses = (depth >= 0) != (next_depth >= 0)
    share = np.where(crosses, depth / np.where(crosses, depth - next_depth, 1.0), 0.0)
    crossing = outline + share[:, None] * (following - outline)
    both = np.stack([outline, crossing], axis=1).reshape(-1, 2)
    return both[np.stack([depth >= 0, crosses], axis=1).ravel()]
