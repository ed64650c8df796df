"""Outlines against the masks that they stand for, rasterised here by crossing numbers."""

import re

import numpy as np
import pytest

from bonepipe.labels.cutout import Box, Cutout, empty, from_mask, to_mask
from bonepipe.report.view import outlines

SHAPE = (13, 17)


def filled(path):
    """The pixels inside a path of horizontal and vertical lines, by the even-odd rule: count crossings to the left."""
    mask = np.zeros(SHAPE, bool)
    for ring in re.findall(r"M([^z]*)z", path):
        x, y, *_ = map(int, re.findall(r"-?\d+", ring))
        start = x, y
        for axis, step in re.findall(r"([hv])(-?\d+)", ring):
            if axis == "h":
                x += int(step)
            else:
                mask[min(y, y + int(step)) : max(y, y + int(step)), x:] ^= True
                y += int(step)
        assert x == start[0] or y == start[1]  # `z` closes along a row or a column
        mask[min(y, start[1]) : max(y, start[1]), x:] ^= True
    return mask


@pytest.mark.parametrize("density", [0.15, 0.5, 0.85])
def test_an_outline_filled_is_the_mask_again_whatever_its_holes_and_corners(density):
    rng = np.random.default_rng(0)
    for _ in range(60):
        mask = rng.random(SHAPE) < density
        assert (filled(outlines.path(from_mask(mask))) == mask).all()


def test_an_outline_runs_along_the_edges_of_pixels():
    mask = np.zeros(SHAPE, bool)
    mask[2:5, 3:7] = True
    assert outlines.path(from_mask(mask)) == "M3 2v3h4v-3z"
    assert outlines.path(empty()) == ""
    assert outlines.path(Cutout(Box(0, 0, 2, 2), np.zeros((2, 2), bool))) == ""


def test_the_difference_is_what_one_mask_has_and_the_other_lacks():
    rng = np.random.default_rng(1)
    truth, predicted = (rng.random(SHAPE) < 0.4 for _ in range(2))
    truth[:, :5] = predicted[:4] = False  # boxes that differ
    missed, excess = (to_mask(part, SHAPE) for part in outlines.difference(from_mask(truth), from_mask(predicted)))
    assert (missed == (truth & ~predicted)).all()
    assert (excess == (predicted & ~truth)).all()
    assert not any(part.mask.any() for part in outlines.difference(empty(), empty()))
