from itertools import combinations

import numpy as np

from bonepipe.labels import bitplane
from bonepipe.labels.cutout import Box, from_mask
from bonepipe.report.layers import OFTEN, grouped, label_maps, overlaps, titles


def random_masks(seed, classes=11, shape=(20, 24)):
    """Rectangles, many of which overlap."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((classes, *shape), bool)
    for mask in masks:
        top, left = rng.integers(0, shape[0] - 3), rng.integers(0, shape[1] - 3)
        mask[top : top + rng.integers(2, 9), left : left + rng.integers(2, 9)] = True
    return masks


def test_overlaps_count_the_images_in_which_two_classes_share_a_pixel():
    images = [random_masks(seed) for seed in range(8)]
    shares = overlaps((bitplane.pack(masks.transpose(1, 2, 0)) for masks in images), 11)
    expected = np.zeros((11, 11))
    for a, b in combinations(range(11), 2):
        expected[a, b] = expected[b, a] = np.mean([(masks[a] & masks[b]).any() for masks in images])
    np.testing.assert_allclose(shares, expected)
    assert shares.any()


def test_no_two_classes_of_a_group_overlap_often():
    rng = np.random.default_rng(0)
    shares = np.triu(rng.random((12, 12)) * rng.integers(0, 2, (12, 12)), 1)
    shares += shares.T
    groups = grouped(shares)
    assert sorted(label for group in groups for label in group) == list(range(12))
    assert all(shares[a, b] <= OFTEN for group in groups for a, b in combinations(group, 2))
    assert grouped(np.full((3, 3), OFTEN)) == ((0, 1, 2),)  # rare slips do not count
    assert grouped(np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]])) == ((0, 2), (1,))


def test_no_pixel_of_a_mask_is_hidden_whatever_the_groups():
    masks = random_masks(5)
    cutouts = [from_mask(mask) for mask in masks]
    for groups in (((*range(11),),), ((0, 3, 5), (1, 2, 4, 6, 7, 8, 9, 10)), tuple((label,) for label in range(11))):
        maps = label_maps(cutouts, groups, Box(0, 0, 20, 24), (20, 24))
        for label, mask in enumerate(masks, 1):
            np.testing.assert_array_equal(np.any([layer == label for layer in maps], 0), mask)
        for group, layer in zip(groups, maps, strict=False):
            assert set(np.unique(layer)) <= {0, *(label + 1 for label in group)}
    assert len(maps) == 11  # a map a class hides nothing, so nothing is left over


def test_a_part_of_the_image_at_another_size_has_the_labels_at_the_pixels_centres():
    mask = np.random.default_rng(0).random((30, 30)) < 0.5
    (small,) = label_maps([from_mask(mask)], ((0,),), Box(3, 6, 12, 18), (3, 4))
    np.testing.assert_array_equal(small, mask[3:12, 6:18][1::3, 1::3])
    (large,) = label_maps([from_mask(mask)], ((0,),), Box(3, 6, 6, 10), (9, 8))
    np.testing.assert_array_equal(large, np.repeat(np.repeat(mask[3:6, 6:10], 3, 0), 2, 1))
    assert small.dtype == np.uint8


def test_titles_number_the_groups_and_name_the_rest():
    maps = [np.zeros((1, 1), np.uint8)] * 4
    assert list(titles("truth", ((0,), (1,)), maps)) == ["truth 1", "truth 2", "truth, rest", "truth, rest 1"]
