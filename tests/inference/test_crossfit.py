"""The rule that everything chosen out of fold is kept by."""

import numpy as np
import pytest

from bonepipe.inference.crossfit import Split, choose, judge, mean_and_error

CLASSES, MARGIN = 29, 2.0


def hands(patients, folds=5):
    """Two images of each patient, whole patients in a fold."""
    numbers = np.repeat(np.arange(patients), 2)
    return Split(numbers % folds, np.char.add("ID", numbers.astype(str)))


def alike(rng, split, *shape, noise=0.02):
    """Noise `[N, *shape]` that a patient's two images share for the most part."""
    number = np.unique(split.patients, return_inverse=True)[1]
    shared = rng.normal(0, noise, (number.max() + 1, *shape))
    return shared[number] + rng.normal(0, noise / 4, (len(number), *shape))


def slow_error(values, patients):
    """The error of a mean from the sums within patients, number by number."""
    mean = sum(values) / len(values)
    names = sorted(set(patients))
    sums = [sum(v - mean for v, p in zip(values, patients, strict=True) if p == name) for name in names]
    return (len(names) / (len(names) - 1) * sum(s * s for s in sums)) ** 0.5 / len(values)


def test_errors_are_those_of_sums_within_patients():
    rng = np.random.default_rng(0)
    patients = np.array(["a", "b", "a", "c", "c", "c", "d"])
    values = rng.normal(size=(7, 3))
    mean, error = mean_and_error(values, patients)
    np.testing.assert_allclose(mean, values.mean(0))
    np.testing.assert_allclose(error, [slow_error(column, patients) for column in values.T.tolist()])
    alone = mean_and_error(values, np.arange(7))[1]
    np.testing.assert_allclose(alone, values.std(0, ddof=1) / np.sqrt(7))


def test_a_second_image_that_says_the_same_adds_no_certainty():
    once = np.random.default_rng(1).normal(size=(12, 2))
    twice, patients = np.repeat(once, 2, 0), np.repeat(np.arange(12), 2)
    np.testing.assert_allclose(mean_and_error(twice, patients)[1], mean_and_error(once, np.arange(12))[1])
    assert (mean_and_error(twice, np.arange(24))[1] < 0.75 * mean_and_error(twice, patients)[1]).all()


def test_the_error_grows_with_the_images_that_the_folds_choices_share():
    changes = np.random.default_rng(3).normal(size=12)
    for folds, factor in ((2, 3.0), (3, 2.5), (4, 1 + 4 / 3)):
        split = Split(np.arange(12) % folds, np.arange(12))
        expected = np.sqrt(factor / 12) * changes.std(ddof=1)
        assert judge(changes, split, 1.0).error == pytest.approx(expected)


@pytest.mark.parametrize("candidates", [2, 8, 255])  # the CRF or not; repairs; thresholds
def test_without_an_effect_hardly_any_class_keeps_a_change(candidates):
    """A margin of two errors lets one in 44 pass: 0.66 of 29 classes. Neighbouring thresholds are nearly the same."""
    kept = []
    for seed in range(12):
        rng, split = np.random.default_rng(seed), hands(60)
        noise = alike(rng, split, min(candidates, 16), CLASSES)
        scores = 0.9 + np.repeat(noise, -(-candidates // noise.shape[1]), 1)[:, :candidates]
        kept.append(choose(scores, split, MARGIN).verdict.kept.sum())
    assert np.mean(kept) <= 0.66


def test_a_real_effect_is_kept():
    rng, split = np.random.default_rng(2), hands(60)
    scores = 0.9 + alike(rng, split, 8, CLASSES)
    scores[:, 5, :10] += 0.02  # of ten classes: about four standard errors
    chosen = choose(scores, split, MARGIN)
    assert chosen.index[:10].tolist() == [5] * 10
    assert chosen.verdict.gain[:10].mean() == pytest.approx(0.02, abs=0.003)
    assert chosen.verdict.kept[10:].sum() <= 2
    assert (chosen.scores.mean(0) >= scores[:, 0].mean(0)).all()
    np.testing.assert_array_equal(chosen.scores[:, :10], scores[:, 5, :10])  # every fold chose the same


def test_both_hands_of_a_patient_are_one_witness():
    """Two images a patient with the same change, 1.7 errors of patients, would be 2.5 of images."""
    change = np.array([1.0, 1.0, 1.0, 0.4, -0.6, -0.3])
    change = np.repeat(change - change.mean(), 2)
    split = Split(np.arange(12) // 2 % 3, np.arange(12) // 2)
    changes = change + 1.7 * judge(change, split, MARGIN).error
    assert judge(changes, split._replace(patients=np.arange(12)), MARGIN).kept
    assert not judge(changes, split, MARGIN).kept


def test_a_gain_that_the_other_folds_do_not_foretell_is_not_kept():
    """The second candidate helps one fold as much as it hurts the other: each gets what suits the other."""
    scores = np.full((20, 2, 1), 0.8)
    scores[:10, 1], scores[10:, 1] = 0.9, 0.75
    chosen = choose(scores, Split(np.repeat([0, 1], 10), np.arange(20)), 0.0)
    assert chosen.verdict.gain == pytest.approx(-0.025)
    assert chosen.index.tolist() == [0]
    np.testing.assert_array_equal(chosen.scores, scores[:, 0])
    assert not chosen.crossed.any()


@pytest.mark.parametrize("split", [Split(np.zeros(6, int), np.arange(6)), Split(np.arange(6) % 3, np.zeros(6, int))])
def test_one_fold_or_one_patient_decides_nothing(split):
    scores = np.full((6, 2, 1), 0.5)
    scores[:, 1] = 0.9
    chosen = choose(scores, split, 0.0)
    assert (chosen.index.tolist(), chosen.verdict.kept.tolist()) == ([0], [False])
    np.testing.assert_array_equal(chosen.scores, 0.5)
    assert np.isfinite(chosen.verdict.error).all()


def test_of_equal_candidates_the_cheapest_is_taken():
    scores = np.full((6, 4, 2), 0.5)
    scores[:, 1:] = 0.7
    split = Split(np.arange(6) % 3, np.arange(6))
    assert choose(scores, split, 1.0).index.tolist() == [1, 1]
    assert choose(scores, split, 1.0, cost=np.array([3, 2, 1, 1])).index.tolist() == [2, 2]
    assert choose(scores, split, 1.0, before=np.array([0, 2]), cost=np.array([3, 2, 0, 1])).verdict.kept.tolist() == [
        True,
        False,
    ]
