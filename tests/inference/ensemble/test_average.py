"""Members of different sizes, weights and means."""

import numpy as np
import pytest
import torch
from scipy.special import expit, logit
from torch.nn import functional

from bonepipe.inference.ensemble.average import EDGE, average, common_shape
from bonepipe.labels import upsample

RNG = np.random.default_rng(0)
# Where one member is sure and the other is not, a rounding in the sure one's last digit moves the mean logit most.
CLOSE = {"arithmetic": 1e-6, "geometric": 2e-5}
WEIGHTS = np.array([[0.25, 1.0, 0.6], [0.75, 0.0, 0.4]])


def blobs(size):
    """Smooth maps `[3, size, size]` that are 0 in most places, from 0 to 1."""
    rows, columns = np.meshgrid(*[(np.arange(size) + 0.5) / size] * 2, indexing="ij")
    centres, slopes = RNG.uniform(0.3, 0.7, (3, 2)), RNG.uniform(20, 60, 3)
    distance = [np.hypot(rows - row, columns - column) for row, column in centres]
    maps = np.stack([expit(slope * (0.2 - d)) for slope, d in zip(slopes, distance, strict=True)])
    return np.where(maps >= 1 / 256, maps, 0).astype(np.float32)


@pytest.fixture(scope="module")
def pair():
    return blobs(64), blobs(96)


def at_96(maps):
    """The slow and obvious way: torch's bilinear interpolation of the whole frame."""
    tensor = torch.from_numpy(maps)[None].double()
    return functional.interpolate(tensor, (96, 96), mode="bilinear", align_corners=False)[0].numpy()


def expected(pair, mean):
    large = np.stack([at_96(maps) for maps in pair])
    shares = WEIGHTS[:, :, None, None]
    if mean == "arithmetic":
        return (shares * large).sum(0)
    return expit((shares * logit(large.clip(EDGE, 1 - EDGE))).sum(0))


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_sizes_64_and_96_meet_at_96(pair, mean):
    mixed, whole = average(pair, WEIGHTS, mean), expected(pair, mean)
    there = mixed > 0
    assert mixed.dtype == np.float32
    np.testing.assert_allclose(mixed[there], whole[there], rtol=0, atol=CLOSE[mean])
    assert whole[~there].max() < 1 / 256
    assert 0.01 < there.mean() < 0.8
    assert np.abs(mixed - at_96(pair[0])).max() > 0.05


def test_one_member_and_two_equal_ones_keep_every_bit(pair):
    for count in (1, 2):
        mixed = average([pair[0].copy() for _ in range(count)], np.full((count, 3), 1 / count))
        np.testing.assert_array_equal(mixed, pair[0])


def test_one_member_keeps_what_is_less_than_a_level():
    faint = RNG.uniform(0, 1, (3, 16, 16)).astype(np.float32) ** 8
    assert (faint < 1 / 256).mean() > 0.3
    np.testing.assert_array_equal(average([faint], np.ones((1, 3))), faint)


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_masks_are_those_of_the_full_frame_at_every_threshold(pair, mean):
    """What the box leaves out no threshold reaches, after the interpolation to the image's size either."""
    mixed, whole = average(pair, WEIGHTS, mean), expected(pair, mean).astype(np.float32)
    for here, full in zip(mixed, whole, strict=True):
        near, far = (upsample.upsample(map_, (250, 210)) for map_ in (here, full))
        for k in range(8, 256, 8):
            unlike = (near >= k / 256) != (far >= k / 256)
            assert (np.abs(far[unlike] - k / 256) < CLOSE[mean]).all()


def test_no_member_has_a_veto_in_a_geometric_mean():
    sure, silent = np.full((1, 2, 2), 0.99, np.float32), np.zeros((1, 2, 2), np.float32)
    mixed = average([sure, silent], np.array([[0.9], [0.1]]), "geometric")
    np.testing.assert_allclose(mixed, expit(0.9 * logit(0.99) + 0.1 * logit(1 / 512)), rtol=1e-5)
    assert mixed.min() > 0.9


def test_members_meet_at_the_largest_height_and_width():
    assert common_shape([(64, 128), (96, 32), (80, 80)]) == (96, 128)
