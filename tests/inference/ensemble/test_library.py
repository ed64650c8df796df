import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from bonepipe.inference.ensemble import library
from bonepipe.inference.ensemble.average import average
from bonepipe.inference.ensemble.library import Band, join_images
from bonepipe.inference.oof import byte_maps
from bonepipe.labels import upsample
from bonepipe.labels.cutout import Box, from_mask


def slow_dice(levels, truth, counts, k):
    """Pixel by pixel, in whole numbers until the last division."""
    both = predicted = 0
    for pixel in np.ndindex(truth.shape):
        total = sum(count * int(run[pixel]) for count, run in zip(counts, levels, strict=True))
        holds = total * 256 >= k * 65536 * sum(counts)
        predicted += holds
        both += bool(holds and truth[pixel])
    return (2 * both + 1e-4) / (predicted + int(truth.sum()) + 1e-4)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 5), min_size=1, max_size=4).filter(any), st.booleans())
def test_dice_of_a_mixture_equals_the_one_pixel_by_pixel(seed, counts, extreme):
    rng = np.random.default_rng(seed)
    common = [
        0,
        1,
        64 * 256 - 1,
        64 * 256,
        32767,
        32768,
        32769,
        192 * 256,
        65534,
        65535,
    ]  # where rounding could go wrong
    levels = rng.choice(common, (3, len(counts), 6, 7)) if extreme else rng.integers(0, 65536, (3, len(counts), 6, 7))
    levels, truth = levels.astype(np.uint16), rng.random((3, 6, 7)) < 0.4
    for band, thresholds in ((Band(), [128]), (Band(64, 192), [64, 100, 192]), (Band(1, 255), [1, 128, 255])):
        pieces = [
            library.split_pixels(one, true, int(true.sum()), band) for one, true in zip(levels, truth, strict=True)
        ]
        expected = [[slow_dice(levels[i], truth[i], counts, k) for k in thresholds] for i in range(3)]
        np.testing.assert_array_equal(join_images(pieces).dice(tuple(counts), thresholds), expected)


def test_images_without_undecided_pixels_keep_their_place():
    empty, full = np.zeros((2, 3, 3), np.uint16), np.full((2, 3, 3), 65535, np.uint16)
    mixed = np.stack([full[0], empty[0]])
    truth = np.eye(3, dtype=bool)
    table = join_images([library.split_pixels(levels, truth, 3, Band()) for levels in (empty, mixed, full, empty)])
    assert table.rows.shape == (2, 9)
    np.testing.assert_allclose(table.dice((2, 1), [128])[:, 0], [0, 0.5, 0.5, 0], atol=1e-4)
    np.testing.assert_allclose(table.dice((1, 2), [128])[:, 0], [0, 0, 0.5, 0], atol=1e-4)


def test_heavy_weights_do_not_overflow():
    levels, truth = np.array([[[65535, 65535, 0]], [[65535, 0, 0]]], np.uint16), np.array([[True, False, False]])
    table = join_images([library.split_pixels(levels, truth, 1, Band(1, 255))])
    assert table.dice((library.MAX_WEIGHT, 0), [128]) == pytest.approx(2 / 3, abs=1e-4)
    assert table.dice((library.MAX_WEIGHT // 2, library.MAX_WEIGHT - library.MAX_WEIGHT // 2), [200]) == pytest.approx(
        1
    )


def test_only_what_the_runs_disagree_about_is_kept():
    levels = np.zeros((3, 100, 100), np.uint16)
    levels[:, 20:60, 20:60] = 256 * np.array([140, 200, 255])[:, None, None]
    levels[0, 60, 20:60] = 256 * 130
    table = join_images([library.split_pixels(levels, levels[0] > 0, 1640, Band())])
    assert table.rows.shape == (3, 40)
    assert join_images([library.split_pixels(levels, levels[0] > 0, 1640, Band(64, 192))]).rows.shape == (3, 1640)


def blobs(rng, shape, labels):
    """Smooth maps [C, h, w] of a disc each, with a faint tail, and one class that is nowhere."""
    y, x = np.mgrid[: shape[0], : shape[1]] / np.reshape(shape, (2, 1, 1))
    maps = [1 / (1 + np.exp(60 * (np.hypot(y - a, x - b) - r))) for a, b, r in rng.uniform(0.2, 0.4, (labels - 1, 3))]
    return np.stack([*maps, np.zeros(shape)]).astype(np.float32)


def packed(rng, shape, labels):
    boxes, stream = byte_maps.pack(blobs(rng, shape, labels))
    return byte_maps.ByteMaps(["x"], [shape], boxes[None], [stream]).image(0)


def full(part):
    """The maps of an image [C, h, w]."""
    return np.stack([byte_maps.expand(piece, part.shape) for piece in part.pieces])


@pytest.mark.parametrize("size", [(100, 90), (41, 67), (48, 64)])
def test_mixed_sizes_equal_full_frames_interpolated_twice(size):
    """Through the common size to the image's, as torch does it on whole frames."""
    rng, common, labels = np.random.default_rng(3), (48, 64), 4
    parts = [packed(rng, shape, labels) for shape in ((48, 64), (24, 32), (33, 40))]
    frames = []
    for part in parts:
        maps = torch.from_numpy(full(part))[None].double()
        for shape in (common, size):
            maps = interpolate(maps, shape, mode="bilinear", align_corners=False)
        frames.append(maps[0].numpy() * 256)
    truth = [from_mask(np.hypot(*(np.mgrid[: size[0], : size[1]] - 30.5)) < radius) for radius in (9, 14, 20, 5)]
    pieces = library.pixels_of_image(parts, common, size, truth, Band())
    for label in range(labels):
        box, levels = library.align(parts, label, common, size, 128)
        outside = np.ones(size, bool)
        outside[box.slices] = False
        for frame, level in zip(frames, levels, strict=True):
            np.testing.assert_allclose(level / 256, frame[label][box.slices], rtol=0, atol=0.003)
            assert (frame[label][outside] < 128).all()
        for counts in ((1, 0, 0), (1, 1, 1), (3, 1, 2)):
            mean = np.tensordot(counts, [frame[label] for frame in frames], 1) / sum(counts)
            mask = np.zeros(size, bool)
            mask[truth[label].box.slices] = truth[label].mask
            expected = 2 * ((mean >= 128) & mask).sum() / max(1, ((mean >= 128).sum() + mask.sum()))
            assert join_images([pieces[label]]).dice(counts, [128])[0, 0] == pytest.approx(expected, abs=1e-3)
    assert library.align(parts, 3, common, size, 128)[0] == Box(0, 0, 0, 0)
    assert join_images([pieces[3]]).dice((1, 1, 1), [128])[0, 0] == pytest.approx(0, abs=1e-4)


def noise(rng, shape, deviation):
    """Probabilities [2, h, w] without any form, around one half: every pixel is a border."""
    return np.clip(rng.normal(0.5, deviation, (2, *shape)), 0, 1).astype(np.float32)


@pytest.mark.parametrize("deviation", [0.02, 0.05, 0.2])
def test_on_noisy_maps_a_mixture_scores_what_the_ensemble_scores(deviation):
    """The ensemble's own path: average the floats at the common size, enlarge once, cut."""
    size, common, differences = (96, 80), (48, 40), []
    truth = [from_mask(np.hypot(*(np.mgrid[: size[0], : size[1]] - 40.5)) < radius) for radius in (9, 30)]
    for seed in range(4):
        rng, parts = np.random.default_rng(seed), []
        for shape in (common, common, (24, 20)):
            boxes, stream = byte_maps.pack(noise(rng, shape, deviation))
            parts.append(byte_maps.ByteMaps(["x"], [shape], boxes[None], [stream]))
        pieces = library.pixels_of_image([part.image(0) for part in parts], common, size, truth, Band(64, 192))
        for counts in ((1, 0, 0), (0, 0, 1), (1, 1, 0), (1, 1, 1), (3, 1, 2), (5, 0, 1)):
            shares = np.repeat(np.array(counts)[:, None] / sum(counts), 2, 1)
            mean = average([part.maps(0) for part in parts], shares)
            for k in (64, 128, 150):
                expected = upsample.dice_scores(upsample.cutouts(mean, [k / 256] * 2, size), truth)
                found = [join_images([piece]).dice(counts, [k])[0, 0] for piece in pieces]
                differences += np.abs(expected - found).tolist()
    assert max(differences) < 5e-4  # a byte a pixel would be 0.014 apart
    assert np.mean(differences) < 1e-5
