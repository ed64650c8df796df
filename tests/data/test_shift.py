import numpy as np
import pytest

from bonepipe.data.shift import facing, facing_like, shifts


def test_what_differs_most_comes_first_and_chance_is_told_apart():
    rng = np.random.default_rng(0)
    train = {"same": rng.normal(size=100), "far": rng.normal(size=100), "constant": np.ones(100)}
    test = {"same": rng.normal(size=80), "far": 3 + rng.normal(size=80), "constant": np.ones(80)}
    far, same = shifts(train, test)
    assert (far.name, far.real, same.name, same.real) == ("far", True, "same", False)
    assert far.distance > 0.8


def test_the_distance_is_that_of_the_distribution_functions():
    (shift,) = shifts({"x": [0, 1, 2, 3, 4]}, {"x": [2.5, 3.5, 4.5, 5.5, 6.5, np.nan]})
    assert shift.distance == pytest.approx(3 / 5)


def test_too_few_images_tell_nothing():
    assert shifts({"x": [1, 2]}, {"x": [3, 4]}) == []


def boxes(columns, width=100):
    """Boxes of classes at these columns, all in one row."""
    return [[0, c, 10, c + 4] if c >= 0 else [0, 0, 0, 0] for c in columns]


def test_mirrored_images_are_told_by_the_order_of_their_classes():
    usual = [10, 20, 40, 70]
    mirrored = [96 - c for c in usual]
    rows = np.array(
        [boxes(usual), boxes(mirrored), boxes(usual), boxes([12, -1, 38, 75]), boxes([-1, -1, -1, 50])], float
    )
    assert facing(rows, np.full(5, 100)).tolist() == [1, -1, 1, 1, 0]
    assert facing(rows[[1, 1, 0]], np.full(3, 100)).tolist() == [1, 1, -1]  # 1 is what most are


def test_pictures_without_outlines_are_told_by_those_with():
    rng = np.random.default_rng(0)
    usual = np.linspace(0, 100, 32)[None].repeat(32, 0)
    known = np.stack([usual, usual[:, ::-1], usual]) + rng.normal(0, 5, (3, 32, 32))
    told = facing_like(known[[1, 0]], known, np.array([1, -1, 0]))
    assert told.tolist() == [-1, 1]
    assert facing_like(known, known, np.array([1, 1, 0])).tolist() == [0, 0, 0]  # of the other way nothing is known
