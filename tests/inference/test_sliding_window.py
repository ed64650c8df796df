from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers import SlidingWindowInferer

from bonepipe.data.spec import DataSpec
from bonepipe.inference.sliding_window import Windows, axis, blend, slide

CLASSES = ("Radius", "Ulna", "Lunate")


def spec(size=64):
    return DataSpec(name="x", root="nowhere", classes=CLASSES, size=size)


def grey(shape, count=2, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(1, 256, (count, *shape), dtype=np.uint8))


def network(images):
    """Probabilities that depend on a pixel's neighbours and on its place in the window, as a network's do."""
    height, width = images.shape[-2:]
    bright = torch.nn.functional.avg_pool2d(images.float()[:, None] / 255, 5, 1, 2)
    place = torch.linspace(0, 1, height)[:, None] * torch.linspace(0.2, 1, width)
    return torch.cat([bright, bright * place, (bright + place) / 2], 1)


def pixelwise(images):
    """Probabilities that depend on nothing but the pixel: whatever the windows, the answer is the same."""
    bright = images.float() / 255
    return torch.stack([bright, bright**2, 1 - bright], 1)


@pytest.mark.parametrize(("shape", "window", "stride", "overlap"), [
    ((40, 56), (16, 16), (8, 8), 0.5),
    ((41, 53), (16, 24), (12, 18), 0.25),
    ((33, 70), (32, 16), (32, 16), 0.0),
    ((24, 24), (24, 16), (3, 2), 0.875),
])  # fmt: skip
@pytest.mark.parametrize(("blending", "mode"), [("uniform", "constant"), ("gaussian", "gaussian")])
def test_windows_equal_those_of_monai(shape, window, stride, overlap, blending, mode):
    images = grey(shape)
    plan = [axis(length, side, step) for length, side, step in zip(shape, window, stride, strict=True)]
    mine = slide(network, images, *plan, len(CLASSES), blending=blending, batch_size=3)
    monai = SlidingWindowInferer(window, sw_batch_size=4, overlap=overlap, mode=mode)
    theirs = monai(images.float()[:, None], lambda batch: network(batch[:, 0]))
    assert mine.shape == (2, 3, *shape)
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-5)
    assert (mine - network(images)).abs().max() > 0.05


def slow_slide(images, window, stride, weights):
    """Every pixel by itself: the mean over the windows that hold it."""
    count, height, width = images.shape
    tops, lefts = ([*range(0, side - window, stride), side - window] for side in (height, width))
    total = np.zeros((count, len(CLASSES), height, width))
    for image, y, x in np.ndindex(count, height, width):
        values, shares = [], []
        for top, left in product(tops, lefts):
            if top <= y < top + window and left <= x < left + window:
                part = images[image : image + 1, top : top + window, left : left + window]
                values.append(network(part)[0, :, y - top, x - left].numpy())
                shares.append(weights[y - top, x - left])
        total[image, :, y, x] = np.average(values, axis=0, weights=shares)
    return total


@pytest.mark.parametrize("blending", ["uniform", "gaussian"])
def test_every_pixel_is_the_weighted_mean_of_the_windows_that_hold_it(blending):
    images = grey((19, 23))
    weights = blend(8, 8, blending).numpy()
    if blending == "gaussian":
        distance = np.arange(8) - 3.5
        expected = np.exp(-(distance**2) / 2)  # a standard deviation of 8 / 8 pixel
        np.testing.assert_allclose(weights, np.maximum(np.outer(expected, expected), 1e-3), rtol=1e-5)
    mine = slide(network, images, axis(19, 8, 5), axis(23, 8, 5), 3, blending=blending)
    np.testing.assert_allclose(mine, slow_slide(images, 8, 5, weights), rtol=0, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_pixelwise_network_answers_the_same_whatever_the_windows(data):
    shape = data.draw(st.tuples(st.integers(3, 30), st.integers(3, 30)))
    mirror = data.draw(st.booleans())
    plan = []
    for length in shape:
        window = data.draw(st.integers(1, length + (20 if mirror else 0)))
        rim = data.draw(st.integers(0, (window - 1) // 2))
        plan.append(axis(length, window, data.draw(st.integers(1, window - 2 * rim)), rim, mirror))
    images = grey(shape)
    mine = slide(
        pixelwise, images, *plan, 3,
        blending=data.draw(st.sampled_from(["uniform", "gaussian"])), batch_size=data.draw(st.integers(1, 9)),
    )  # fmt: skip
    torch.testing.assert_close(mine, pixelwise(images), rtol=0, atol=1e-5)


@pytest.mark.parametrize("mirror", [False, True])
def test_only_the_centres_of_windows_count(mirror):
    """The network marks its rim: with kept centres it shows only where an image ends and no mirror goes on."""

    def marking(images):
        maps = torch.zeros(len(images), 1, 12, 12)
        maps[..., 3:9, 3:9] = 1
        return maps

    plan = [axis(length, 12, 6, rim=3, mirror=mirror) for length in (30, 25)]
    mine = slide(marking, grey((30, 25)), *plan, 1)[0, 0]
    expected = np.zeros((30, 25))
    expected[3:-3, 3:-3] = 1
    np.testing.assert_array_equal(mine, np.ones((30, 25)) if mirror else expected)


@pytest.mark.parametrize(("length", "window", "rim"), [(20, 8, 2), (5, 12, 4), (3, 40, 0), (1, 4, 1)])
def test_mirrored_borders_repeat_numpys_reflection(length, window, rim):
    line = np.arange(length)
    plan = axis(length, window, 1, rim, mirror=True)
    after = len(plan.source) - length - rim
    np.testing.assert_array_equal(line[plan.source], np.pad(line, (rim, after), mode="reflect"))
    np.testing.assert_array_equal(line[plan.source][plan.inside], line)
    assert len(plan.source) >= window


def test_background_windows_are_not_predicted_and_count_as_zero():
    images = grey((32, 32))
    images[:, :, 16:] = 5
    images[1] = 5
    seen = []

    def counting(batch):
        seen.append(len(batch))
        return pixelwise(batch)

    plan = [axis(32, 16, 16)] * 2
    mine = slide(counting, images, *plan, 3, background=5, batch_size=4)
    assert seen == [2]
    torch.testing.assert_close(mine[0, :, :, :16], pixelwise(images)[0, :, :, :16])
    assert not mine[0, :, :, 16:].any()
    assert not mine[1].any()
    slide(counting, images, *plan, 3, background=4, batch_size=8)
    assert seen == [2, 8]
    nothing = slide(counting, images[1:], *plan, 3, background=5)
    assert nothing.shape == (1, 3, 32, 32)
    assert not nothing.any()


def test_overlapping_background_lowers_the_mean_like_an_answer_of_zero():
    images = grey((8, 24))
    images[:, :, 8:] = 0
    mine = slide(
        lambda batch: torch.ones(len(batch), 1, 8, 16), images, axis(8, 8, 8), axis(24, 16, 8), 1, background=0
    )
    np.testing.assert_allclose(mine[0, 0, 0], [1] * 8 + [0.5] * 8 + [0] * 8)


def test_windows_of_several_images_share_batches():
    sizes = []

    def counting(batch):
        sizes.append(len(batch))
        return pixelwise(batch)

    slide(counting, grey((24, 24), count=3), axis(24, 16, 8), axis(24, 16, 8), 3, batch_size=5)
    assert sizes == [5, 5, 2]


def test_a_config_means_shares_and_pixels():
    images, windows = grey((96, 64)), Windows(spec((96, 64)), window=(0.5, 32), stride=(24, 0.5), blending="gaussian")
    assert windows.shape == (96, 64)
    assert len(windows) == 3 * 3
    expected = slide(network, images, axis(96, 48, 24), axis(64, 32, 16), 3, blending="gaussian")
    torch.testing.assert_close(windows.over(network)(images), expected)


def test_stride_is_a_share_of_the_kept_centre():
    tile = Windows(spec(), window=32, stride=1.0, centre=0.5, mirror=True)
    assert len(tile) == 4 * 4
    torch.testing.assert_close(tile.over(pixelwise)(grey((64, 64))), pixelwise(grey((64, 64))))


def test_without_windows_the_predictor_is_the_same():
    windows = Windows(spec(), size=96)
    assert windows.shape == (96, 96)
    assert len(windows) == 1
    assert windows.over(network) is network


@pytest.mark.parametrize(("values", "reason"), [
    ({"window": 80}, r"windows\.window=80: larger than the image, 64 pixels; make it smaller, or mirror=true"),
    ({"window": 32, "stride": 33}, r"windows\.stride=33 leaves gaps: a window of 32 pixels keeps 32"),
    ({"window": 32, "stride": 20, "centre": 0.5}, r"windows\.stride=20 leaves gaps: .* keeps 16"),
    ({"window": 1.5}, r"windows\.window=1\.5: a share .* write pixels without a point"),
    ({"window": 0}, r"windows\.window=0: at least 1 pixel"),
    ({"window": 32, "stride": 0.0}, r"windows\.stride=0\.0"),
    ({"centre": 0.0}, r"windows\.centre=0\.0"),
    ({"size": 16}, r"windows\.size=16: at least 32"),
    ({"batch_size": 0}, r"windows\.batch_size=0"),
])  # fmt: skip
def test_impossible_windows_are_refused_with_the_reason(values, reason):
    with pytest.raises(ValueError, match=reason):
        Windows(spec(), **values)


def test_mirrored_borders_allow_windows_larger_than_the_image():
    windows = Windows(spec(), window=80, mirror=True)
    torch.testing.assert_close(windows.over(pixelwise)(grey((64, 64))), pixelwise(grey((64, 64))))
