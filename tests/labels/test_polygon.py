import cv2
import numpy as np
import pytest

from bonepipe.labels import bitplane, cutout, polygon

EMPTY = np.zeros((0, 2), np.int32)


def random_polygons(rng, count, low, high):
    return [rng.integers(low, high, (rng.integers(0, 9), 2)) for _ in range(count)]


def fill_whole_frame(polygons, shape):
    mask = np.zeros(shape, np.uint8)
    for points in polygons:
        if len(points):
            cv2.fillPoly(mask, [np.asarray(points, np.int32)], 1)
    return mask.astype(bool)


@pytest.mark.parametrize("seed", range(200))
def test_rasterise_and_cutout_equal_filling_the_whole_frame(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 60, 2).tolist())
    margin = 0 if seed % 2 else 50  # every other example reaches out of the image on all sides
    polygons = random_polygons(rng, 6, -margin, max(shape) + margin)
    labels = rng.integers(0, 11, len(polygons)).tolist()
    planes = polygon.rasterise(zip(labels, polygons, strict=True), shape, 11)
    mask = bitplane.unpack(planes, 11)
    for label in range(11):
        own = [points for name, points in zip(labels, polygons, strict=True) if name == label]
        expected = fill_whole_frame(own, shape)
        np.testing.assert_array_equal(mask[..., label], expected)
        np.testing.assert_array_equal(cutout.to_mask(polygon.cutout(own, shape), shape), expected)


def test_a_repeated_label_is_the_union_and_does_not_cancel():
    outer = np.array([[0, 0], [9, 0], [9, 9], [0, 9]])
    inner = np.array([[3, 3], [6, 3], [6, 6], [3, 6]])
    assert bitplane.areas(polygon.rasterise([(0, outer), (0, inner)], (10, 10), 1), 1).tolist() == [100]
    assert cutout.area(polygon.cutout([outer, inner], (10, 10))) == 100


def test_the_outline_belongs_to_the_mask():
    square = np.array([[2, 1], [5, 1], [5, 3], [2, 3]])
    mask = bitplane.unpack(polygon.rasterise([(0, square)], (6, 8), 1), 1)[..., 0]
    expected = np.zeros((6, 8), bool)
    expected[1:4, 2:6] = True
    np.testing.assert_array_equal(mask, expected)


def test_points_and_lines_are_drawn_and_nothing_is_nothing():
    polygons = [(0, EMPTY), (1, np.array([[3, 2]])), (2, np.array([[1, 1], [5, 1]])), (3, [])]
    assert bitplane.areas(polygon.rasterise(polygons, (6, 8), 4), 4).tolist() == [0, 1, 5, 0]


def test_polygons_outside_the_image_leave_no_trace():
    far = np.array([[100, 100], [120, 100], [110, 130]])
    assert not polygon.rasterise([(0, far), (0, far - 300)], (50, 50), 1).any()
    assert polygon.cutout([far], (50, 50)).mask.size == 0
    assert polygon.cutout([], (50, 50)).mask.size == 0
    assert polygon.cutout([EMPTY], (50, 50)).mask.size == 0


def test_wrong_classes_and_shapes_are_refused():
    triangle = np.array([[0, 0], [3, 0], [0, 3]])
    with pytest.raises(ValueError, match="class 2 is outside"):
        polygon.rasterise([(2, triangle)], (5, 5), 2)
    with pytest.raises(ValueError, match="class -1 is outside"):
        polygon.rasterise([(-1, triangle)], (5, 5), 2)
    with pytest.raises(ValueError, match=r"\[3, 3\]"):
        polygon.rasterise([(0, np.zeros((3, 3), int))], (5, 5), 2)


def smooth_mask(seed, shape=(90, 70)):
    noise = np.random.default_rng(seed).normal(size=shape)
    return cv2.GaussianBlur(noise, (0, 0), 5) > 0.05


@pytest.mark.parametrize("seed", range(30))
def test_filling_the_traced_outlines_gives_the_mask_without_its_holes(seed):
    from scipy import ndimage

    mask = smooth_mask(seed)
    lines = polygon.outlines(cutout.from_mask(mask))
    assert len(lines) > 1
    np.testing.assert_array_equal(fill_whole_frame(lines, mask.shape), ndimage.binary_fill_holes(mask))
    areas = [cv2.contourArea(points) for points in lines]
    assert areas == sorted(areas, reverse=True)


def test_a_pixel_and_a_line_are_outlines_and_nothing_is_none():
    mask = np.zeros((9, 9), bool)
    assert polygon.outlines(cutout.from_mask(mask)) == []
    mask[2, 3] = True
    mask[6, 1:8] = True
    lines = polygon.outlines(cutout.from_mask(mask))
    np.testing.assert_array_equal(fill_whole_frame(lines, mask.shape), mask)
