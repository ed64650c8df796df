import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bonepipe.labels import cells, upsample
from tests.labels.test_upsample import KINDS


def interpolated(probability, shape):
    """The formula, pixel by pixel in float32: down each column first, then along the row."""
    places = []
    for low, high in zip(probability.shape, shape, strict=True):
        # (i + 0.5) * low / high - 0.5, in parts of 2 * high
        here, parts = np.divmod(((2 * np.arange(high) + 1) * low - high).clip(0, 2 * high * (low - 1)), 2 * high)
        places.append((here, np.minimum(here + 1, low - 1), (parts / (2 * high)).astype(np.float32)))
    (row, below, down), (column, beside, right) = places
    tall = probability[row] + down[:, None] * (probability[below] - probability[row])
    return tall[:, column] + right * (tall[:, beside] - tall[:, column])


@st.composite
def scaled(draw):
    """A map and a shape of any scale, often a whole one."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    low = (draw(st.integers(1, 24)), draw(st.integers(1, 24)))
    whole = tuple(side * draw(st.integers(1, 5)) for side in low)
    high = draw(st.sampled_from([whole, (draw(st.integers(1, 70)), draw(st.integers(1, 70)))]))
    return draw(st.sampled_from(KINDS))(rng, low), high


@settings(max_examples=200, deadline=None)
@given(scaled())
def test_the_upsampled_map_has_the_bits_of_the_formula(example):
    probability, shape = example
    np.testing.assert_array_equal(upsample.upsample(probability, shape), interpolated(probability, shape))


@settings(max_examples=300, deadline=None)
@given(scaled(), st.integers(1, 255), st.sampled_from([1, 7, 1 << 15]), st.sampled_from([0.0, 0.3, 1.0]))
def test_the_counts_are_those_of_the_full_frame(example, k, chunk, dense):
    """However the cells are cut into pieces."""
    (probability, shape), before = example, (cells.CHUNK, cells.DENSE)
    cells.CHUNK, cells.DENSE = chunk, dense
    try:
        counts = cells.level_counts(probability, k / 256, shape)
    finally:
        cells.CHUNK, cells.DENSE = before
    levels = (interpolated(probability, shape) * 256).clip(0, 255).astype(int)
    np.testing.assert_array_equal(counts[k:], np.bincount(levels.ravel(), minlength=256)[k:])


def test_glow_below_the_threshold_is_not_looked_at(monkeypatch):
    probability = np.full((64, 64), 0.04, np.float32)
    probability[20, 30] = 0.9
    looked_at = []
    count = cells._count
    monkeypatch.setattr(cells, "_count", lambda piece: looked_at.append(piece.corners[0].size) or count(piece))
    assert cells.level_counts(probability, 13 / 256, (256, 256))[13:].sum() > 0
    assert sum(looked_at) == 4


@pytest.mark.parametrize("shape", [(5, 5), (20, 20), (13, 9)])
def test_a_map_of_ones_is_all_in_the_last_bin(shape):
    assert cells.level_counts(np.ones((5, 5), np.float32), 13 / 256, shape)[255] == shape[0] * shape[1]
