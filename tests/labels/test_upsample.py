import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bonepipe.labels import cutout, histogram, upsample
from bonepipe.labels.cutout import Box

SHAPES = [((16, 16), (64, 64)), ((17, 23), (101, 64)), ((64, 48), (31, 20)), ((9, 40), (33, 12)), ((1, 5), (7, 1))]


def reference(probability, shape):
    """Torch's bilinear interpolation in double precision."""
    maps = torch.from_numpy(probability).double()[None, None]
    return torch.nn.functional.interpolate(maps, shape, mode="bilinear", align_corners=False)[0, 0].numpy()


def noise(rng, shape):
    return rng.random(shape, dtype=np.float32)


def blobs(rng, shape):
    """A few smooth hills, some of them on the border."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    result = np.zeros(shape)
    for _ in range(rng.integers(1, 4)):
        centre, width = rng.uniform(-1, 1 + np.array(shape)), rng.uniform(0.5, 0.5 + max(shape) / 3)
        result += rng.uniform(0.2, 1) * np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / width**2)
    return np.clip(result, 0, 1).astype(np.float32)


def rectangles(rng, shape):
    """Nothing but 0 and 1, as of a network that is sure of itself; often touches the border."""
    result = np.zeros(shape, np.float32)
    for _ in range(rng.integers(1, 4)):
        top, left = rng.integers(shape[0]), rng.integers(shape[1])
        result[top : top + rng.integers(1, shape[0] + 1), left : left + rng.integers(1, shape[1] + 1)] = 1
    return result


def specks(rng, shape):
    """Single pixels, some of them exactly at a threshold."""
    return np.where(rng.random(shape) < 0.02, rng.integers(0, 257, shape) / 256, 0).astype(np.float32)


KINDS = [noise, blobs, rectangles, specks]


@st.composite
def examples(draw):
    """A map, the shape to bring it to, and a random generator."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    low = (draw(st.integers(1, 24)), draw(st.integers(1, 24)))
    high = (draw(st.integers(1, 70)), draw(st.integers(1, 70)))
    return draw(st.sampled_from(KINDS))(rng, low), high, rng


@pytest.mark.parametrize(("low", "high"), SHAPES)
def test_the_full_frame_equals_torch(low, high):
    probability = noise(np.random.default_rng(0), low)
    result = upsample.upsample(probability, high)
    assert result.shape == high
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, reference(probability, high), rtol=0, atol=1e-6)


def test_a_realistic_size_equals_torch():
    probability = noise(np.random.default_rng(1), (96, 80))
    np.testing.assert_allclose(
        upsample.upsample(probability, (700, 641)), reference(probability, (700, 641)), rtol=0, atol=1e-6
    )


@settings(max_examples=100, deadline=None)
@given(examples(), st.data())
def test_a_box_holds_the_very_bits_of_the_full_frame(example, data):
    probability, shape, _ = example
    top, left = data.draw(st.integers(0, shape[0])), data.draw(st.integers(0, shape[1]))
    box = Box(top, left, data.draw(st.integers(top, shape[0])), data.draw(st.integers(left, shape[1])))
    part = upsample.upsample(probability, shape, box)
    np.testing.assert_array_equal(part, upsample.upsample(probability, shape)[box.slices])


@settings(max_examples=300, deadline=None)
@given(examples(), st.one_of(st.integers(1, 256).map(lambda k: k / 256), st.floats(0.001, 1)))
def test_a_cutout_is_the_thresholded_full_frame_bit_for_bit(example, threshold):
    probability, shape, _ = example
    mask = cutout.to_mask(upsample.cutout(probability, threshold, shape), shape)
    np.testing.assert_array_equal(mask, upsample.upsample(probability, shape) >= np.float32(threshold))


def test_a_cutout_looks_at_little_more_than_the_object():
    probability = np.zeros((64, 64), np.float32)
    probability[20:24, 30:36] = 1
    box = upsample.cutout(probability, 0.5, (512, 512)).box
    assert box.top >= 19 * 8
    assert box.bottom <= 25 * 8
    assert box.left >= 29 * 8
    assert box.right <= 37 * 8


def test_a_value_at_the_threshold_is_inside():
    maps = np.full((6, 7), 77 / 256, np.float32)
    assert cutout.area(upsample.cutout(maps, 77 / 256, (20, 30))) == 600
    assert cutout.area(upsample.cutout(maps, 78 / 256, (20, 30))) == 0


def test_a_class_that_never_reaches_its_threshold_is_empty():
    maps = np.stack([np.full((8, 8), 0.4, np.float32), np.full((8, 8), 0.6, np.float32)])
    never, always = upsample.cutouts(maps, [0.5, 0.5], (20, 30))
    assert cutout.area(never) == 0
    assert upsample.reach(maps[0], 0.5, (20, 30)) is None
    assert cutout.area(always) == 600


def test_every_class_has_its_own_threshold():
    rng = np.random.default_rng(3)
    maps = noise(rng, (3, 20, 20))
    thresholds = [0.2, 0.5, 0.75]
    for map_, threshold, cut in zip(maps, thresholds, upsample.cutouts(maps, thresholds, (50, 60)), strict=True):
        expected = upsample.upsample(map_, (50, 60)) >= np.float32(threshold)
        assert expected.any()
        np.testing.assert_array_equal(cutout.to_mask(cut, (50, 60)), expected)


@settings(max_examples=150, deadline=None)
@given(examples(), st.sampled_from(["nothing", "some", "everything", "padded box"]))
def test_the_histogram_counts_every_pixel_of_the_full_frame(example, kind):
    probability, shape, rng = example
    truth = {"nothing": np.zeros(shape, bool), "everything": np.ones(shape, bool)}.get(kind, rng.random(shape) < 0.3)
    cut = cutout.from_mask(truth)
    if kind == "padded box":  # boxes of polygons need not be tight
        cut = cutout.Cutout(Box(0, 0, *shape), truth)
    full = upsample.upsample(probability, shape)
    expected = np.zeros((2, 256), int)
    for value, true in zip(full.ravel().tolist(), truth.ravel().tolist(), strict=True):
        expected[int(true), min(255, int(value * 256))] += 1
    np.testing.assert_array_equal(upsample.histogram(probability, cut, shape), histogram.floored(expected))


def test_the_histogram_gives_the_dice_of_the_masks_at_every_threshold():
    probability = blobs(np.random.default_rng(4), (24, 24))
    truth = cutout.from_mask(upsample.upsample(probability, (90, 80)) > 0.37)
    curve = histogram.dice_curve(upsample.histogram(probability, truth, (90, 80)))
    for k in range(histogram.FLOOR_BIN, 256):
        masks = upsample.cutouts(probability[None], [k / 256], (90, 80))
        assert curve[k] == pytest.approx(upsample.dice_scores(masks, [truth])[0], abs=1e-12)


def test_dice_scores_are_the_metric_on_pixels():
    rng = np.random.default_rng(5)
    predicted, truth = rng.random((4, 30, 20)) < 0.3, rng.random((4, 30, 20)) < 0.3
    predicted[1] = truth[2] = False
    predicted[3] = truth[3] = False
    result = upsample.dice_scores([cutout.from_mask(m) for m in predicted], [cutout.from_mask(m) for m in truth])
    both, areas = (predicted & truth).sum((1, 2)), predicted.sum((1, 2)) + truth.sum((1, 2))
    np.testing.assert_allclose(result, (2 * both + 1e-4) / (areas + 1e-4), rtol=1e-12)
    assert result[3] == 1
    with pytest.raises(ValueError, match="shorter"):
        upsample.dice_scores([cutout.empty()], [])


@settings(max_examples=100, deadline=None)
@given(examples(), st.data())
def test_spread_holds_all_that_a_box_changes_and_sources_all_that_changes_it(example, data):
    probability, high, rng = example
    low = probability.shape
    top, left = data.draw(st.integers(0, low[0] - 1)), data.draw(st.integers(0, low[1] - 1))
    box = Box(top, left, data.draw(st.integers(top + 1, low[0])), data.draw(st.integers(left + 1, low[1])))
    changed = probability.copy()
    changed[box.slices] += 1 + rng.random((box.height, box.width), dtype=np.float32)
    differs = upsample.upsample(changed, high) != upsample.upsample(probability, high)
    wide = upsample.spread(box, low, high)
    assert differs[wide.slices].sum() == differs.sum()
    if differs.any():
        near = upsample.sources(cutout.from_mask(differs).box, low, high)
        outside = np.full(low, 7, np.float32)
        outside[near.slices] = changed[near.slices]
        inner = cutout.from_mask(differs).box
        np.testing.assert_array_equal(
            upsample.upsample(outside, high, inner), upsample.upsample(changed, high)[inner.slices]
        )
    assert upsample.spread(Box(3, 3, 3, 3), low, high) == Box(0, 0, 0, 0)
