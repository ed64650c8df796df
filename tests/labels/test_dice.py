import numpy as np
import pytest
import torch

from bonepipe.labels.dice import dice


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
