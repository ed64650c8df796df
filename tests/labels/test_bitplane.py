import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

from bonepipe.labels import bitplane, counts

CLASSES = [1, 7, 8, 9, 29, 33]


def random_mask(classes, shape=(13, 17), seed=0):
    return np.random.default_rng(seed).random((*shape, classes)) < 0.4


@pytest.mark.parametrize("classes", CLASSES)
def test_pack_puts_class_c_into_bit_c_mod_8_of_plane_c_div_8(classes):
    mask = random_mask(classes)
    planes = bitplane.pack(mask)
    assert planes.dtype == np.uint8
    assert planes.shape == (13, 17, -(-classes // 8)) == (13, 17, bitplane.plane_count(classes))
    expected = np.zeros(planes.shape, int)
    for c in range(classes):
        expected[..., c // 8] += mask[..., c] * 2 ** (c % 8)
    np.testing.assert_array_equal(planes, expected)


@pytest.mark.parametrize("classes", CLASSES)
def test_unpack_returns_the_packed_mask(classes):
    mask = random_mask(classes)
    unpacked = bitplane.unpack(bitplane.pack(mask), classes)
    assert unpacked.dtype == np.bool_
    np.testing.assert_array_equal(unpacked, mask)


@pytest.mark.parametrize("classes", CLASSES)
def test_torch_twins_equal_numpy(classes):
    masks = np.stack([random_mask(classes, seed=seed) for seed in range(3)])
    planes = np.stack([bitplane.pack(mask) for mask in masks])
    nchw = torch.from_numpy(masks).permute(0, 3, 1, 2)
    torch.testing.assert_close(bitplane.pack_torch(nchw), torch.from_numpy(planes), rtol=0, atol=0)
    for dtype in (torch.float32, torch.bool, torch.bfloat16, torch.uint8):
        unpacked = bitplane.unpack_torch(torch.from_numpy(planes), classes, dtype)
        assert unpacked.is_contiguous()
        torch.testing.assert_close(unpacked, nchw.to(dtype), rtol=0, atol=0)
    assert bitplane.unpack_torch(torch.from_numpy(planes), classes).dtype == torch.float32


def test_torch_twins_leave_their_argument_alone():
    planes = torch.from_numpy(bitplane.pack(random_mask(29)))[None]
    before = planes.clone()
    mask = bitplane.unpack_torch(planes, 29, torch.bool)
    torch.testing.assert_close(planes, before, rtol=0, atol=0)
    kept = mask.clone()
    bitplane.pack_torch(mask)
    torch.testing.assert_close(mask, kept, rtol=0, atol=0)


def test_unpack_torch_compiles_into_one_graph():
    planes = torch.from_numpy(bitplane.pack(random_mask(29)))[None]
    compiled = torch.compile(lambda x: bitplane.unpack_torch(x, 29), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(planes), bitplane.unpack_torch(planes, 29), rtol=0, atol=0)


@pytest.mark.parametrize("scale", [1, 2, 3])
@pytest.mark.parametrize("classes", CLASSES)
def test_coverage_is_the_mean_over_sub_pixels(classes, scale):
    mask = np.random.default_rng(classes).random((4 * scale, 5 * scale, classes)) < 0.4
    planes = bitplane.to_subpixels(bitplane.pack(mask), scale)
    assert planes.shape == (4, 5, scale * scale * bitplane.plane_count(classes))
    coverage = bitplane.coverage_torch(torch.from_numpy(planes)[None], classes)
    counts, parts = bitplane.counts_torch(torch.from_numpy(planes)[None], classes)
    assert parts == scale**2 and counts.dtype == torch.uint8
    assert counts.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(counts / parts, coverage)
    expected = mask.reshape(4, scale, 5, scale, classes).mean((1, 3)).transpose(2, 0, 1)[None]
    assert coverage.dtype == torch.float32
    torch.testing.assert_close(coverage, torch.from_numpy(expected).float(), rtol=0, atol=1e-7)


def test_wrong_number_of_planes_is_refused():
    planes = np.zeros((2, 2, 3), np.uint8)
    with pytest.raises(ValueError, match="29 classes need 4 bit-planes, not 3"):
        bitplane.unpack(planes, 29)
    with pytest.raises(ValueError, match="not 3"):
        bitplane.unpack_torch(torch.from_numpy(planes)[None], 29)
    with pytest.raises(ValueError, match="not 3"):
        bitplane.coverage_torch(torch.from_numpy(planes)[None], 29)
    with pytest.raises(ValueError, match="not 3"):
        bitplane.areas(planes, 29)
    with pytest.raises(ValueError, match="not 3"):
        bitplane.permute_classes(planes, range(29))


@pytest.mark.parametrize("classes", CLASSES)
def test_permute_classes_equals_indexing_the_mask(classes):
    mask = random_mask(classes)
    rng = np.random.default_rng(1)
    swapped = list(range(classes))
    swapped[0], swapped[-1] = swapped[-1], swapped[0]
    repeated = rng.integers(0, classes, classes).tolist()
    for order in (list(range(classes)), swapped, rng.permutation(classes).tolist(), repeated):
        planes = bitplane.pack(mask)
        moved = bitplane.permute_classes(planes, order)
        np.testing.assert_array_equal(moved, bitplane.pack(mask[..., order]))
        np.testing.assert_array_equal(planes, bitplane.pack(mask))


def test_permute_classes_refuses_an_unknown_class():
    with pytest.raises(ValueError, match=r"outside 0\.\.2"):
        bitplane.permute_classes(np.zeros((2, 2, 1), np.uint8), [0, 1, 3])


@pytest.mark.parametrize("classes", [1, 8, 29, 33, 60])
@pytest.mark.parametrize("size", [(13, 17), (13, 40), (40, 31)])
def test_growing_takes_the_nearest_source_pixel_of_every_class(classes, size):
    mask = random_mask(classes)
    resized = bitplane.unpack(bitplane.resize(bitplane.pack(mask), size), classes)
    # Pixel centres aligned: the centre of target pixel i lies at (i + 0.5) * source / target.
    rows = ((np.arange(size[0]) + 0.5) * 13 / size[0]).astype(int)
    columns = ((np.arange(size[1]) + 0.5) * 17 / size[1]).astype(int)
    np.testing.assert_array_equal(resized, mask[np.ix_(rows, columns)])
    one = cv2.resize(mask[..., -1].astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    np.testing.assert_array_equal(resized[..., -1], one.astype(bool))


def covered(mask, length):
    """Share of each of `length` rows that a mask [H, ...] covers: repeat every row, then take the mean of blocks."""
    return np.repeat(mask, length, axis=0).reshape(length, len(mask), *mask.shape[1:]).mean(1)


def nearest(mask, length):
    return mask[((np.arange(length) + 0.5) * len(mask) / length).astype(int)]


@pytest.mark.parametrize("classes", [1, 8, 29, 33])
@pytest.mark.parametrize("size", [(5, 9), (4, 40), (29, 7), (13, 6), (1, 1)])
def test_an_axis_that_shrinks_keeps_what_half_of_a_pixel_holds(classes, size):
    for mask in (random_mask(classes), np.ones((13, 17, classes), bool), np.zeros((13, 17, classes), bool)):
        expected = mask
        for axis, length in enumerate(size):
            along = covered if length < mask.shape[axis] else nearest
            expected = np.moveaxis(along(np.moveaxis(expected, axis, 0), length), 0, axis)
        resized = bitplane.unpack(bitplane.resize(bitplane.pack(mask), size), classes)
        np.testing.assert_array_equal(resized, expected >= 0.5 - 1e-9)


def test_thin_rows_do_not_come_and_go_with_their_place():
    """Three rows in four, three quarters everywhere; one in four is less than half. Whatever the first one is."""
    for first in range(4):
        mask = np.zeros((64, 20, 2), bool)
        mask[first::4, :, 0] = True
        mask[..., 1] = ~mask[..., 0]
        resized = bitplane.unpack(bitplane.resize(bitplane.pack(mask), (16, 40)), 2)
        assert not resized[..., 0].any()
        assert resized[..., 1].all()


@pytest.mark.parametrize("classes", CLASSES)
def test_areas_count_pixels(classes, monkeypatch):
    mask = random_mask(classes)
    areas = bitplane.areas(bitplane.pack(mask), classes)
    assert areas.dtype == np.int64
    np.testing.assert_array_equal(areas, mask.sum(axis=(0, 1)))
    monkeypatch.setattr(counts, "_EXACT_IN_FLOAT32", 40)  # two rows at a time
    np.testing.assert_array_equal(bitplane.areas(bitplane.pack(mask), classes), areas)


def test_importing_the_labels_does_not_import_torch():
    modules = "bitplane, cutout, dice, histogram, polygon, rle"
    code = f"import sys\nfrom bonepipe.labels import {modules}\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("classes", CLASSES)
def test_first_keeps_the_first_classes_alone(classes):
    mask = random_mask(41)
    kept = bitplane.first(bitplane.pack(mask), classes)
    np.testing.assert_array_equal(kept, bitplane.pack(mask[..., :classes]))
