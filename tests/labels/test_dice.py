import numpy as np
import pytest
import torch

from bonepipe.labels.dice import dice, dice_by_size


def test_dice_is_the_metric_of_the_competition():
    a = np.array([1, 1, 1, 0, 0], bool)
    b = np.array([0, 1, 1, 1, 1], bool)
    expected = (2 * (a & b).sum() + 1e-4) / (a.sum() + b.sum() + 1e-4)
    assert dice(int((a & b).sum()), 3, 4) == pytest.approx(expected, abs=1e-15)


def test_two_empty_masks_score_1_and_one_empty_mask_almost_0():
    assert dice(0, 0, 0) == 1
    assert dice(0, 100, 0) == pytest.approx(1e-6, rel=1e-3)


def test_dice_works_elementwise_on_arrays_and_tensors():
    expected = [(2 * 1 + 0.5) / (2 + 3 + 0.5), (2 * 4 + 0.5) / (5 + 6 + 0.5)]
    np.testing.assert_allclose(dice(np.array([1, 4]), np.array([2, 5]), np.array([3, 6]), smooth=0.5), expected)
    tensors = [torch.tensor(values) for values in ([1.0, 4.0], [2.0, 5.0], [3.0, 6.0])]
    torch.testing.assert_close(dice(*tensors, smooth=0.5), torch.tensor(expected))


@pytest.mark.parametrize("seed", range(5))
def test_scores_by_size_equal_those_of_sorted_thirds(seed):
    rng = np.random.default_rng(seed)
    scores, areas = rng.random((12, 5)), rng.permutation(60).reshape(12, 5) + 1
    pairs = sorted(zip(areas.ravel().tolist(), scores.ravel().tolist(), strict=True))
    thirds = [[score for _, score in pairs[start : start + 20]] for start in (0, 20, 40)]
    expected = dict(zip(("small", "medium", "large"), map(np.mean, thirds), strict=True))
    assert dice_by_size(scores, areas) == pytest.approx(expected)


def test_what_is_not_there_has_no_size():
    scores, areas = np.array([[0.1, 0.5, 0.7, 0.9]] * 2), np.array([[0, 10, 20, 30]] * 2)
    assert dice_by_size(scores, areas) == pytest.approx({"small": 0.5, "medium": 0.7, "large": 0.9})
    assert dice_by_size(scores, np.zeros((2, 4))) == {}


def test_objects_of_one_size_are_small():
    assert dice_by_size(np.full((3, 2), 0.8), np.full((3, 2), 7)) == pytest.approx({"small": 0.8})
