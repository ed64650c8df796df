import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from bonepipe.labels import cutout, rle
from bonepipe.labels.cutout import Box, Cutout

shapes = st.tuples(st.integers(1, 12), st.integers(1, 12))
masks = shapes.flatmap(lambda shape: npst.arrays(bool, shape))
pairs = shapes.flatmap(lambda shape: st.tuples(npst.arrays(bool, shape), npst.arrays(bool, shape)))


@settings(max_examples=150, deadline=None)
@given(masks)
def test_from_mask_is_tight_and_to_mask_brings_the_mask_back(mask):
    cut = cutout.from_mask(mask)
    np.testing.assert_array_equal(cutout.to_mask(cut, mask.shape), mask)
    assert cutout.area(cut) == mask.sum()
    assert cut.mask.shape == (cut.box.height, cut.box.width)
    if mask.any():
        edges = (cut.mask[0], cut.mask[-1], cut.mask[:, 0], cut.mask[:, -1])
        assert all(edge.any() for edge in edges)
    else:
        assert cut.mask.size == 0


@settings(max_examples=150, deadline=None)
@given(masks)
def test_runs_equal_those_of_the_whole_mask(mask):
    np.testing.assert_array_equal(cutout.runs(cutout.from_mask(mask), mask.shape[1]), rle.mask_runs(mask))


@settings(max_examples=100, deadline=None)
@given(masks, st.data())
def test_runs_of_any_box_equal_those_of_the_whole_mask(mask, data):
    top, left = data.draw(st.integers(0, mask.shape[0])), data.draw(st.integers(0, mask.shape[1]))
    bottom = data.draw(st.integers(top, mask.shape[0]))
    right = data.draw(st.integers(left, mask.shape[1]))
    box = Box(top, left, bottom, right)
    cut = Cutout(box, mask[box.slices])
    whole = np.zeros_like(mask)
    whole[box.slices] = mask[box.slices]
    np.testing.assert_array_equal(cutout.runs(cut, mask.shape[1]), rle.mask_runs(whole))


def test_a_run_goes_on_in_the_next_row_only_where_the_box_spans_the_image():
    full = Cutout(Box(1, 0, 3, 4), np.ones((2, 4), bool))
    assert cutout.runs(full, 4).tolist() == [[5, 8]]
    assert cutout.runs(full, 5).tolist() == [[6, 4], [11, 4]]


@settings(max_examples=150, deadline=None)
@given(pairs)
def test_intersection_area_counts_shared_pixels(pair):
    a, b = (cutout.from_mask(mask) for mask in pair)
    assert cutout.intersection_area(a, b) == (pair[0] & pair[1]).sum()


def test_a_box_outside_the_image_is_refused():
    cut = Cutout(Box(0, 2, 2, 6), np.ones((2, 4), bool))
    with pytest.raises(ValueError, match="does not lie inside"):
        cutout.to_mask(cut, (2, 5))
    with pytest.raises(ValueError, match="does not lie inside"):
        cutout.runs(cut, 5)


def test_from_mask_copies_its_pixels():
    mask = np.ones((3, 3), bool)
    cut = cutout.from_mask(mask)
    mask[:] = False
    assert cutout.area(cut) == 9


@settings(max_examples=150, deadline=None)
@given(masks)
def test_runs_are_drawn_inside_the_smallest_box(mask):
    drawn, expected = cutout.from_runs(rle.mask_runs(mask), mask.shape), cutout.from_mask(mask)
    assert drawn.box == expected.box
    np.testing.assert_array_equal(drawn.mask, expected.mask)


def test_runs_beyond_the_image_are_refused():
    with pytest.raises(ValueError, match="beyond the image"):
        cutout.from_runs(np.array([[8, 3]]), (3, 3))


def test_from_runs_takes_runs_that_touch():
    drawn = cutout.from_runs(np.array([[7, 2], [9, 1]]), (3, 5))
    assert drawn.box == Box(1, 1, 2, 4)
    assert drawn.mask.all()


@settings(max_examples=100, deadline=None)
@given(pairs)
def test_hull_and_inside_keep_every_pixel(pair):
    a, b = map(cutout.from_mask, pair)
    box = cutout.hull([a.box, Box(99, 99, 99, 99), b.box])
    both = cutout.from_mask(pair[0] | pair[1])
    assert box == both.box
    np.testing.assert_array_equal(cutout.inside(a, box), pair[0][box.slices])
    np.testing.assert_array_equal(cutout.inside(both, Box(0, 0, *pair[0].shape)), pair[0] | pair[1])
    assert cutout.hull([]) == Box(0, 0, 0, 0)
