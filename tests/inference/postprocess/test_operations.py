from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from bonepipe.inference.crossfit import Split
from bonepipe.inference.postprocess.operations import (
    PostprocessSpec,
    candidate_dice,
    choose_operations,
    fill_holes,
    largest_component,
    remove_small,
    score,
)
from bonepipe.labels.cutout import Box, Cutout, empty, from_mask, to_mask

EIGHT = np.ones((3, 3))
ALL = PostprocessSpec(operations=("largest", "fill_holes", "min_area"), min_area=0.05)
MASKS = arrays(np.bool_, st.tuples(st.integers(1, 14), st.integers(1, 14)))


def slow_largest(mask):
    labels, count = ndimage.label(mask, EIGHT)
    areas = [(labels == label).sum() for label in range(1, count + 1)]
    return labels == 1 + np.argmax(areas) if count else mask  # scipy numbers parts by their first pixels


def slow_small(mask, pixels):
    labels, count = ndimage.label(mask, EIGHT)
    parts = [labels == label for label in range(1, count + 1)]
    return np.any([part for part in parts if part.sum() >= pixels] or [np.zeros_like(mask)], axis=0)


OPERATIONS = {
    "largest": (largest_component, slow_largest),
    "fill holes": (fill_holes, ndimage.binary_fill_holes),
    "minimum area": (lambda mask: remove_small(mask, 4), lambda mask: slow_small(mask, 4)),
}


@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=150, deadline=None)
@given(mask=MASKS, looser=st.booleans())
def test_in_the_box_equals_scipy_on_the_full_frame(name, mask, looser):
    operation, slow = OPERATIONS[name]
    height, width = mask.shape
    cutout = Cutout(Box(0, 0, height, width), mask) if looser else from_mask(mask)
    done = operation(cutout)
    np.testing.assert_array_equal(to_mask(done, mask.shape), slow(mask))
    assert (done is cutout) == np.array_equal(slow(mask), mask)


def test_of_equal_parts_the_first_stays():
    mask = np.array([[0, 0, 0, 1], [1, 0, 0, 1], [1, 0, 0, 0]], bool)
    np.testing.assert_array_equal(
        to_mask(largest_component(from_mask(mask)), mask.shape), [[0, 0, 0, 1]] * 2 + [[0] * 4]
    )


@pytest.mark.parametrize("operation", [fill_holes, largest_component, lambda mask: remove_small(mask, 3)])
def test_an_empty_mask_stays_empty(operation):
    assert operation(empty()).mask.size == 0


def test_operations_follow_one_another_and_the_area_is_a_share_of_the_image():
    ring = np.zeros((20, 20), bool)
    ring[2:7, 2:7] = True
    ring[3:6, 3:6] = False  # 16 pixels, 25 when filled
    ring[10:12, 10:20] = True  # 20 pixels
    ring[15, 15] = True
    full, cut = ring.copy(), from_mask(ring)
    full[3:6, 3:6] = True
    assert np.array_equal(to_mask(ALL.apply(["fill_holes"], cut, ring.shape), ring.shape), full)
    left = to_mask(ALL.apply(["min_area"], cut, ring.shape), ring.shape)  # 0.05 * 400 = 20
    assert left.sum() == 20
    assert left[10:12, 10:20].all()
    both = to_mask(ALL.apply(["largest", "fill_holes"], cut, ring.shape), ring.shape)
    assert both.sum() == 25  # filled before it is compared
    assert ALL.apply([], cut, ring.shape) is cut
    assert [mask.mask.sum() for mask in ALL.apply_all([["largest"], []], [cut, cut], ring.shape)] == [20, 37]


def test_candidates_are_all_combinations_fewer_first():
    assert ALL.candidates() == [
        (), ("fill_holes",), ("min_area",), ("largest",), ("fill_holes", "min_area"), ("fill_holes", "largest"),
        ("min_area", "largest"), ("fill_holes", "min_area", "largest"),
    ]  # fmt: skip
    assert PostprocessSpec().candidates() == [()]


@pytest.mark.parametrize(("values", "reason"), [
    ({"operations": ("fill_hole",)}, "no operation 'fill_hole'; did you mean 'fill_holes'?"),
    ({"operations": ("x",)}, "there are fill_holes, min_area, largest"),
    ({"min_area": 1.0}, r"min_area=1\.0"),
])  # fmt: skip
def test_wrong_settings_are_refused(values, reason):
    with pytest.raises(ValueError, match=reason):
        PostprocessSpec(**values)


def pixel_dice(a, b):
    return (2 * (a & b).sum() + 1e-4) / (a.sum() + b.sum() + 1e-4)


def test_scores_are_those_of_the_masks_at_each_images_thresholds():
    rng = np.random.default_rng(0)
    shapes = {"b.png": (30, 40), "a.png": (25, 32), "c.png": (20, 20)}
    names, limits, truth, maps = list(shapes), [[0.3, 0.6], [0.6, 0.25]], {}, {}
    for name, shape in shapes.items():
        truth[name] = np.zeros((2, *shape), bool)
        truth[name][:, 5:17, 4:15] = True
        maps[name] = np.where(truth[name], 0.7, 0.05).astype(np.float32)
        maps[name] += np.where(rng.random((2, *shape)) < 0.05, 0.3 - 0.6 * truth[name], 0)  # to 0.35 and 0.1
    store = SimpleNamespace(
        index={name: number for number, name in enumerate(names)},
        shape=lambda index: shapes[names[index]],
        truth=lambda index: [from_mask(mask) for mask in truth[names[index]]],
    )
    masks = lambda name, limits: [from_mask(m >= t) for m, t in zip(maps[name], limits, strict=True)]  # noqa: E731
    scores = score(masks, ["a.png", "b.png"], limits, store, ALL)
    assert scores.shape == (2, 8, 2)
    slow = {"fill_holes": ndimage.binary_fill_holes, "largest": slow_largest}
    for n, name in enumerate(("a.png", "b.png")):
        for c in range(2):
            for k, operations in enumerate(ALL.candidates()):
                mask = maps[name][c] >= limits[n][c]
                for operation in operations:
                    mask = slow.get(operation, lambda m: slow_small(m, 0.05 * m.size))(mask)
                assert scores[n, k, c] == pytest.approx(pixel_dice(mask, truth[name][c]), abs=1e-12)
    noisy, clean = ([0, 1], [0, 1]), ([0, 1], [1, 0])  # image and class: threshold below or above the noise
    gain = scores[:, -1] - scores[:, 1]  # of removing parts beside filling holes
    assert gain[noisy].min() > 0.01
    assert not gain[clean].any()


CANDIDATES = [(), ("fill_holes",), ("largest",), ("fill_holes", "largest")]


def table(*classes):
    """Dice `[N, 4, C]` of six images in three folds from gains over 0.5, a list of candidates by fold a class."""
    folds = np.array([0, 0, 1, 1, 2, 2])
    gains = np.array(classes)  # [C, 3 candidates, 3 folds]
    dice = np.full((6, 4, len(classes)), 0.5)
    dice[:, 1:] += gains[:, :, folds].transpose(2, 1, 0)
    return dice, Split(folds, np.arange(6))


def test_operations_are_chosen_by_hand_computed_numbers():
    always = [[0.1, 0.2, 0.3], [0.05, 0.05, 0.05], [0.0, 0.0, 0.0]]
    one_fold = [[0.9, -0.01, 0.0], [0.0, 0.0, 0.9], [0.0, 0.0, 0.0]]  # large, but each in one fold of three
    tie = [[0.1, 0.1, 0.1], [0.0, 0.0, 0.0], [0.1, 0.1, 0.1]]
    most = [[0.0, 0.0, 0.0], [0.1, 0.1, -0.05], [0.3, -0.1, -0.1]]  # 0.05 +- 0.0316, but not on the other folds
    harm = [[-0.1, -0.1, -0.1], [0.0, 0.0, 0.0], [-0.2, -0.1, 0.0]]
    dice, split = table(always, one_fold, tie, most, harm)
    chosen = choose_operations(dice, split, 1.0, CANDIDATES)
    assert chosen.operations == [("fill_holes",), (), ("fill_holes",), (), ()]
    # `one_fold`: the other folds choose `largest`, `fill_holes`, `fill_holes`; `most`: `largest`, both, `largest`.
    np.testing.assert_allclose(chosen.gain, [0.2, -0.01 / 3, 0.1, -0.05 / 3, 0.0], atol=1e-12)
    np.testing.assert_allclose(chosen.change.mean(0), [0.2, 0.0, 0.1, 0.0, 0.0], atol=1e-12)
    assert chosen.change[0, 0] == pytest.approx(0.1)


def test_more_operations_are_kept_where_they_gain_more():
    dice, split = table([[0.1] * 3, [0.1] * 3, [0.2] * 3])
    assert choose_operations(dice, split, 1.0, CANDIDATES).operations == [("fill_holes", "largest")]


def test_one_fold_keeps_masks_as_they_are():
    dice, _ = table([[0.1] * 3, [0.1] * 3, [0.2] * 3])
    chosen = choose_operations(dice, Split(np.zeros(6, int), np.arange(6)), 0.0, CANDIDATES)
    assert chosen.operations == [()]
    assert not chosen.change.any()


def test_unchanged_masks_keep_their_dice():
    solid = np.zeros((30, 30), bool)
    solid[5:20, 5:20] = True
    rows = candidate_dice(ALL, [from_mask(solid)], [from_mask(np.roll(solid, 2, 0))], solid.shape)
    assert len(set(rows[:, 0])) == 1
    assert rows[0, 0] == pytest.approx(pixel_dice(solid, np.roll(solid, 2, 0)))
