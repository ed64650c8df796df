"""The mixture of both stages against the full frame, the box that is found, and the weights that are chosen."""

import numpy as np
import pytest

from bonepipe.data.region import Region
from bonepipe.inference.cascade import (
    WEIGHTS,
    SecondStage,
    find_region,
    pair_stages,
    predict_second_stage,
)
from bonepipe.labels import cutout, upsample
from bonepipe.labels.cutout import Box
from bonepipe.labels.dice import dice
from bonepipe.labels.histogram import dice_curve, floored

SHAPE = (90, 70)
CROPS = [Box(20, 10, 60, 50), Box(-8, -5, 32, 35), Box(60, 40, 100, 80), Box(0, 0, 90, 90), Box(200, 200, 220, 220)]


def bump(rng, shape, sharp=6.0):
    """A smooth map with one round top above 0.5, float32."""
    y, x = np.mgrid[0 : 1 : shape[0] * 1j, 0 : 1 : shape[1] * 1j]
    top, left = rng.uniform(0.2, 0.8, 2)
    distance = np.hypot(y - top, x - left)
    return (1 / (1 + np.exp(sharp * 5 * (distance - rng.uniform(0.1, 0.3))))).astype(np.float32)


def full_frame(maps, seen, weight):
    """The mixture of every pixel of the image."""
    whole = upsample.upsample(maps, SHAPE)
    crop = seen.crop
    close = upsample.upsample(seen.maps[0], (crop.height, crop.width))
    for y in range(SHAPE[0]):
        for x in range(SHAPE[1]):
            if crop.top <= y < crop.bottom and crop.left <= x < crop.right:
                value = close[y - crop.top, x - crop.left]
                whole[y, x] = np.float32(1 - weight) * whole[y, x] + np.float32(weight) * value
    return whole


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("seed", range(3))
def test_the_box_path_is_the_full_frame_bit_for_bit(crop, seed):
    rng = np.random.default_rng(seed)
    whole, close = bump(rng, (23, 18)), bump(rng, (16, 16))
    seen, truth = SecondStage(crop, close[None]), cutout.from_mask(bump(rng, SHAPE) > 0.5)
    both = pair_stages(whole, seen, 0, SHAPE)
    counts = both.histograms(WEIGHTS, truth)
    true = cutout.to_mask(truth, SHAPE)
    for weight, hist in zip(WEIGHTS, counts, strict=True):
        expected = full_frame(whole, seen, weight)
        for threshold in (0.3, 0.5, 0.8):
            got = cutout.to_mask(both.cutout(weight, threshold), SHAPE)
            assert (got == (expected >= np.float32(threshold))).all()
        bins = np.minimum(np.floor(expected.astype(np.float64) * 256), 255).astype(int)
        by_bin = np.stack([np.bincount(bins[~true], minlength=256), np.bincount(bins[true], minlength=256)])
        assert (hist == floored(by_bin)).all()
        mask = expected >= 0.5
        by_hand = dice((mask & true).sum(), mask.sum(), true.sum())
        assert dice_curve(hist)[128] == pytest.approx(by_hand)


def test_weight_0_and_no_second_stage_are_the_first_stage():
    rng = np.random.default_rng(5)
    whole, close = bump(rng, (23, 18)), bump(rng, (16, 16))
    plain = upsample.cutout(whole, 0.4, SHAPE)
    for one in (pair_stages(whole, SecondStage(CROPS[0], close[None]), 0, SHAPE), pair_stages(whole, None, 0, SHAPE)):
        for weight in (0.0, 0.5) if one.close is None else (0.0,):
            got = one.cutout(weight, 0.4)
            assert (cutout.to_mask(got, SHAPE) == cutout.to_mask(plain, SHAPE)).all()
    truth = cutout.from_mask(bump(rng, SHAPE) > 0.5)
    counts = pair_stages(whole, None, 0, SHAPE).histograms(WEIGHTS, truth)
    assert (counts == upsample.histogram(whole, truth, SHAPE)).all()


def test_nothing_to_be_seen_is_an_empty_mask():
    nothing = np.zeros((1, 8, 8), np.float32)
    seen = SecondStage(CROPS[0], nothing)
    assert cutout.area(pair_stages(nothing[0], seen, 0, SHAPE).cutout(0.5, 0.5)) == 0
    counts = pair_stages(nothing[0], seen, 0, SHAPE).histograms(WEIGHTS, cutout.empty())
    assert (counts[:, 0, 0] == SHAPE[0] * SHAPE[1]).all()
    assert counts.sum() == len(WEIGHTS) * SHAPE[0] * SHAPE[1]


def test_what_the_second_look_alone_sees_is_found():
    """A bone that the first stage misses altogether."""
    rng = np.random.default_rng(2)
    close = bump(rng, (16, 16))
    seen = SecondStage(CROPS[0], close[None])
    got = pair_stages(np.zeros((23, 18), np.float32), seen, 0, SHAPE).cutout(1.0, 0.5)
    expected = upsample.upsample(close, (40, 40)) >= 0.5
    assert cutout.area(got) == expected.sum() > 0


def test_the_box_is_that_of_all_classes_at_the_images_size_without_specks():
    maps = np.zeros((3, 100, 80), np.float32)
    maps[0, 30:40, 20:30] = 0.9
    maps[1, 41:50, 31:44] = 0.5  # a joint's gap away
    maps[2, 30:33, 50:60] = 0.49  # below the threshold
    maps[2, 90:93, 70:72] = 1.0  # a speck
    assert find_region(maps, (1000, 800)) == Box(300, 200, 500, 440)
    assert find_region(maps, (150, 100)) == Box(45, 25, 75, 55)
    assert find_region(maps[:0], (100, 80)) is None
    assert find_region(np.zeros_like(maps), (100, 80)) is None


def test_the_second_look_shows_each_image_where_its_maps_say():
    """A predictor that answers with the pixels it was shown."""
    rng = np.random.default_rng(0)
    greys = [rng.integers(0, 255, (120, 100), np.uint8) for _ in range(3)]
    maps = np.zeros((3, 2, 60, 50), np.float32)
    maps[0, 1, 10:26, 5:21] = 1
    maps[2, 1, 40:56, 30:46] = 1
    maps[:, 0] = 1  # of another class
    seen = predict_second_stage(
        lambda images: images[:, None].float() / 255, Region(classes=("b",), margin=0.0), [1], (32, 32),
        [*zip(greys, maps, strict=True)],
    )  # fmt: skip
    assert seen[1] is None
    assert [seen[0].crop, seen[2].crop] == [Box(20, 10, 52, 42), Box(80, 60, 112, 92)]
    assert (np.rint(seen[0].maps[0] * 255) == greys[0][20:52, 10:42]).all()
    assert (np.rint(seen[2].maps[0] * 255) == greys[2][80:112, 60:92]).all()


def test_without_a_region_in_any_image_nothing_is_predicted():
    grey, maps = np.zeros((40, 40), np.uint8), np.zeros((1, 10, 10), np.float32)
    assert predict_second_stage(pytest.fail, Region(classes=("b",)), [0], (32, 32), [(grey, maps)] * 2) == [None, None]
