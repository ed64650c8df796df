import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonepipe.labels.axis import axis, cells


@given(st.integers(1, 40), st.integers(1, 200))
def test_cells_tell_of_each_position_what_the_axis_tells(low, high):
    here, there, weight = axis(low, high)
    result = cells(low, high)
    cell, place = np.divmod(result.slots, result.most)
    assert result.counts.sum() == high
    assert result.there.sum() == high
    assert result.there[place, cell].all()
    np.testing.assert_array_equal(result.weights[place, cell], weight)
    corners = np.stack([cell - 1, cell], 1).clip(0, low - 1)
    inner = (cell > 0) & (cell < low)
    np.testing.assert_array_equal(corners[inner], np.stack([here, there], 1)[inner])
    assert (weight[~inner] == 0).all() or low == 1  # on the border both corners are the same value
    assert (corners[~inner, 0] == here[~inner]).all()


@pytest.mark.parametrize(("low", "high", "alike"), [(512, 2048, True), (512, 1997, False), (7, 7, True), (9, 4, False)])
def test_inner_cells_are_alike_at_whole_scales(low, high, alike):
    assert cells(low, high).alike == (slice(1, low) if alike else slice(0, 0))


def test_a_part_of_the_cells_keeps_those_alike():
    whole = cells(8, 32)
    for start, stop in [(0, 9), (0, 1), (2, 5), (3, 9)]:
        part = whole.part(start, stop)
        np.testing.assert_array_equal(part.counts, whole.counts[start:stop])
        assert list(range(start, stop))[part.alike] == [cell for cell in range(1, 8) if start <= cell < stop]


@given(st.floats(0, 1, width=32), st.floats(0, 1, width=32), st.integers(1, 3000), st.integers(1, 6000))
def test_rounding_never_leaves_what_lies_between_two_values(a, b, low, high):
    """Which lets whole cells be told from their corners; neighbours of the smaller value and of a half most of all."""
    weights = np.unique(axis(low, high).weight)
    pairs = (a, b), (b, a), (np.nextafter(a, np.float32(2)), a), (0.5, np.nextafter(np.float32(0.5), np.float32(a)))
    for here, there in np.array(pairs, np.float32):
        between = here + weights * (there - here)
        assert between.dtype == np.float32
        assert between.min() >= min(here, there)
        assert between.max() <= max(here, there)


def test_weights_are_fractions_of_whole_numbers():
    """Where a position falls on a pixel of the map it takes that pixel's value, whatever 1 / 3 is in binary."""
    here, _, weight = axis(100, 300)
    np.testing.assert_array_equal(weight[1::3], 0)
    np.testing.assert_array_equal(here[1::3], np.arange(100))
    assert max(axis(low, 3 * low).weight.max() for low in range(1, 800)) < 0.7
