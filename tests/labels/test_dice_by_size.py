import numpy as np
import pytest

from bonepipe.labels.dice import dice_by_size


@pytest.mark.parametrize("seed", range(5))
def test_scores_by_size_equal_those_of_sorted_thirds(seed):
    rng = np.random.default_rng(seed)
    dice, areas = rng.random((12, 5)), rng.permutation(60).reshape(12, 5) + 1
    pairs = sorted(zip(areas.ravel().tolist(), dice.ravel().tolist(), strict=True))
    thirds = [[score for _, score in pairs[start : start + 20]] for start in (0, 20, 40)]
    expected = dict(zip(("small", "medium", "large"), map(np.mean, thirds), strict=True))
    assert dice_by_size(dice, areas) == pytest.approx(expected)


def test_what_is_not_there_has_no_size():
    dice, areas = np.array([[0.1, 0.5, 0.7, 0.9]] * 2), np.array([[0, 10, 20, 30]] * 2)
    assert dice_by_size(dice, areas) == pytest.approx({"small": 0.5, "medium": 0.7, "large": 0.9})
    assert dice_by_size(dice, np.zeros((2, 4))) == {}


def test_objects_of_one_size_are_small():
    assert dice_by_size(np.full((3, 2), 0.8), np.full((3, 2), 7)) == pytest.approx({"small": 0.8})
