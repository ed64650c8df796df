"""The resolution ceiling against a slow calculation of the whole image."""

import math

import cv2
import numpy as np
import pytest

from bonepipe.labels import upsample
from bonepipe.labels.ceiling import ceiling, coverage
from bonepipe.labels.cutout import empty, from_mask, to_mask
from bonepipe.labels.dice import dice


def blob(shape, seed=0):
    """A smooth shape somewhere in an image."""
    noise = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 9)
    mask = np.zeros(shape, bool)
    inner = slice(shape[0] // 5, -shape[0] // 6), slice(shape[1] // 4, -shape[1] // 5)
    mask[inner] = smooth[inner] > 0.02
    return mask


def slow_shares(mask, size):
    """The share of each pixel that is covered, with sub-pixels: each pixel of the image as size[0] x size[1] ones."""
    fine = mask.repeat(size[0], 0).repeat(size[1], 1).astype(float)
    return fine.reshape(size[0], mask.shape[0], size[1], mask.shape[1]).mean((1, 3))


@pytest.mark.parametrize("size", [(24, 20), (40, 33), (59, 97), (7, 5)])
def test_coverage_is_the_share_of_each_pixel(size):
    mask = blob((60, 100))
    box, shares = coverage(from_mask(mask), mask.shape, size)
    whole = np.zeros(size)
    whole[box.slices] = shares
    assert whole == pytest.approx(slow_shares(mask, size), abs=1e-5)


@pytest.mark.parametrize("size", [(24, 20), (30, 50), (50, 90)])
def test_the_ceiling_is_the_dice_of_the_upsampled_shares(size):
    mask = blob((60, 100))
    shares = slow_shares(mask, size).astype(np.float32)
    predicted = upsample.upsample(shares, mask.shape) >= 0.5
    expected = dice((predicted & mask).sum(), predicted.sum(), mask.sum())
    assert ceiling(from_mask(mask), mask.shape, size) == pytest.approx(expected, abs=2e-3)


def test_no_size_below_the_images_own_beats_it_and_larger_ones_lose_less():
    masks = [from_mask(blob((120, 120), seed)) for seed in range(4)]
    means = [np.mean([ceiling(mask, (120, 120), (size, size)) for mask in masks]) for size in (15, 30, 60, 120, 240)]
    assert means == sorted(means)
    assert means[3] == means[4] == 1
    assert means[0] < 0.97


def test_what_fills_the_image_or_is_nowhere():
    assert ceiling(from_mask(np.ones((30, 40), bool)), (30, 40), (7, 9)) == pytest.approx(1)
    assert math.isnan(ceiling(empty(), (30, 40), (7, 9)))
    speck = np.zeros((64, 64), bool)
    speck[40, 41] = True
    assert ceiling(from_mask(speck), (64, 64), (8, 8)) < 1e-3
    assert to_mask(from_mask(speck), (64, 64)).sum() == 1
