import numpy as np
import pytest

from bonepipe.labels.histogram import FLOOR_BIN, THRESHOLDS, completed, dice_curve, floored, histogram


def example(seed, shape=(31, 23)):
    rng = np.random.default_rng(seed)
    probability = rng.random(shape, dtype=np.float32)
    on_the_edge = rng.random(shape) < 0.3  # exactly at a threshold, and 0 and 1
    probability[on_the_edge] = rng.integers(0, 257, int(on_the_edge.sum())) / 256
    return probability, rng.random(shape) < probability


def brute_force(probability, truth, threshold):
    mask = probability >= threshold
    return (2 * int((mask & truth).sum()) + 1e-4) / (int(mask.sum()) + int(truth.sum()) + 1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_dice_curve_equals_brute_force_at_all_thresholds(seed):
    probability, truth = example(seed)
    curve = dice_curve(histogram(probability, truth))
    assert curve.shape == (256,)
    for k in range(256):
        assert abs(curve[k] - brute_force(probability, truth, k / 256)) < 1e-12
    np.testing.assert_array_equal(THRESHOLDS, [k / 256 for k in range(256)])


def test_dice_curve_works_on_stacks_of_histograms():
    stack = np.stack([histogram(*example(seed)) for seed in range(4)]).reshape(2, 2, 2, 256)
    curves = dice_curve(stack)
    assert curves.shape == (2, 2, 256)
    np.testing.assert_array_equal(curves[1, 0], dice_curve(histogram(*example(2))))


def test_histogram_of_summed_images_is_the_sum():
    first, second = example(0), example(1)
    together = histogram(np.concatenate([first[0], second[0]]), np.concatenate([first[1], second[1]]))
    np.testing.assert_array_equal(histogram(*first) + histogram(*second), together)


@pytest.mark.parametrize("truth", [True, False])
def test_dice_curve_with_everything_or_nothing_true(truth):
    probability = example(0)[0]
    mask = np.full(probability.shape, truth)
    curve = dice_curve(histogram(probability, mask))
    assert curve[128] == pytest.approx(brute_force(probability, mask, 0.5), abs=1e-12)


def test_counts_of_what_reaches_the_floor_complete_themselves():
    probability, truth = example(5)
    whole = histogram(probability, truth)
    looked_at = whole.copy()
    looked_at[:, :FLOOR_BIN] = np.random.default_rng(0).integers(0, 99, (2, FLOOR_BIN))  # whatever was seen there
    result = completed(looked_at.sum(0), looked_at[1], truth.size, int(truth.sum()))
    np.testing.assert_array_equal(result, floored(whole))
    assert result.sum() == truth.size


def test_what_lies_below_the_floor_changes_no_threshold_that_can_be_chosen():
    stack = np.stack([histogram(*example(seed)) for seed in range(3)])
    before = stack.copy()
    curves = dice_curve(floored(stack))
    np.testing.assert_array_equal(curves[:, FLOOR_BIN:], dice_curve(stack)[:, FLOOR_BIN:])
    np.testing.assert_array_equal(curves[:, 0], dice_curve(stack)[:, 0])
    np.testing.assert_array_equal(curves[:, 1:FLOOR_BIN], curves[:, [FLOOR_BIN] * (FLOOR_BIN - 1)])
    np.testing.assert_array_equal(stack, before)
