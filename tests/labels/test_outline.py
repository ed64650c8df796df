import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bonepipe.labels import cutout, outline, rle, upsample
from bonepipe.labels.cutout import Box, Cutout
from tests.labels.test_upsample import examples

SHAPE = (24, 30)


def at_the_edge(rng, maps):
    """Maps of nothing but 0.5 and the number below it: what rounding could lift over the threshold, or push below."""
    return np.where(rng.random(maps.shape) < 0.5, np.float32(0.5), np.nextafter(np.float32(0.5), np.float32(0)))


@st.composite
def stacks(draw):
    """Maps of three classes, one of them often empty, a shape and a random generator."""
    probability, shape, rng = draw(examples())
    maps = np.stack([probability, probability[::-1] * draw(st.sampled_from([0, 0.6, 1])), rng.permuted(probability)])
    maps = maps.astype(np.float32)
    return (at_the_edge(rng, maps) if draw(st.booleans()) else maps), shape, rng


def full_frames(maps, thresholds, shape):
    """The masks, pixel by pixel."""
    pairs = zip(maps, thresholds, strict=True)
    return [upsample.upsample(map_, shape) >= np.float32(threshold) for map_, threshold in pairs]


@settings(max_examples=400, deadline=None)
@given(stacks(), st.lists(st.floats(0, 1), min_size=3, max_size=3), st.sampled_from([1, 4000, outline.PIXELS]))
def test_the_runs_are_those_of_the_full_frame(example, thresholds, pixels):
    """However the lines are cut into parts."""
    (maps, shape, _), before = example, outline.PIXELS
    outline.PIXELS = pixels
    try:
        runs = outline.runs(outline.segments(maps, thresholds, shape), 3, shape)
    finally:
        outline.PIXELS = before
    for of_class, mask in zip(runs, full_frames(maps, thresholds, shape), strict=True):
        np.testing.assert_array_equal(of_class, rle.mask_runs(mask))


@settings(max_examples=200, deadline=None)
@given(stacks())
def test_segments_are_in_order_and_draw_the_masks(example):
    maps, shape, _ = example
    masks = outline.segments(maps, [0.5] * 3, shape)
    drawn = np.zeros((3, *shape), int)
    for label, row, start, stop in zip(*masks, strict=True):
        assert 0 <= start < stop <= shape[1]
        drawn[label, row, start:stop] += 1
    np.testing.assert_array_equal(drawn, full_frames(maps, [0.5] * 3, shape))
    assert sorted(zip(*masks[:3], strict=True)) == list(zip(*masks[:3], strict=True))


@settings(max_examples=200, deadline=None)
@given(stacks(), st.sampled_from(["tight", "padded"]))
def test_dice_at_half_is_that_of_the_masks(example, boxes):
    maps, shape, rng = example
    truth = [cutout.from_mask(rng.random(shape) < 0.3), cutout.empty(), cutout.from_mask(rng.random(shape) < 1)]
    if boxes == "padded":  # those of polygons need not be tight
        truth = [Cutout(Box(0, 0, *shape), cutout.to_mask(mask, shape)) for mask in truth]
    masks = upsample.cutouts(maps, [0.5] * 3, shape)
    np.testing.assert_array_equal(outline.dice_at_half(maps, truth, shape), upsample.dice_scores(masks, truth))


def test_a_part_of_larger_maps_is_read_where_it_lies():
    """Frames are taken off by slicing, which leaves maps that are not contiguous."""
    whole = np.random.default_rng(0).random((2, 20, 16), np.float32)
    part = whole[:, 3:17, 2:11]
    runs = outline.runs(outline.segments(part, [0.4, 0.7], SHAPE), 2, SHAPE)
    for of_class, mask in zip(runs, full_frames(part, [0.4, 0.7], SHAPE), strict=True):
        np.testing.assert_array_equal(of_class, rle.mask_runs(mask))


def test_a_mask_that_fills_the_image_is_one_run():
    maps = np.ones((2, 4, 5), np.float32)
    runs = outline.runs(outline.segments(maps, [0.5, 1], SHAPE), 2, SHAPE)
    assert [of_class.tolist() for of_class in runs] == [[[1, 720]], [[1, 720]]]


def test_nothing_predicted_and_nothing_true_score_one():
    maps = np.full((2, 4, 5), 0.4, np.float32)
    truth = [cutout.empty(), cutout.from_mask(np.ones(SHAPE, bool))]
    assert outline.runs(outline.segments(maps, [0.5, 0.5], SHAPE), 2, SHAPE)[0].shape == (0, 2)
    one, none = outline.dice_at_half(maps, truth, SHAPE)
    assert one == 1
    assert none < 1e-6


def test_as_many_maps_as_true_masks():
    with pytest.raises(ValueError, match="2 maps, but 1 true masks"):
        outline.dice_at_half(np.zeros((2, 4, 5), np.float32), [cutout.empty()], SHAPE)
