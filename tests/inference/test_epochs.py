"""Curves of which the right answer is known: noise around a plateau, a rise to the end, and small ones by hand."""

import numpy as np
import pytest

from bonepipe.inference.epochs import FoldHistory, best_epoch_gain


def history(dice, average=None, images=10, epochs=None):
    return FoldHistory(np.arange(len(dice)) if epochs is None else np.array(epochs), np.array(dice), average, images)


def simulated(rng, truth, noise, folds=5):
    """What folds see of the same true curve."""
    return [history(truth + rng.normal(0, noise, len(truth))) for _ in range(folds)]


def test_noise_around_a_plateau_is_told_in_full():
    """The best of 40 equal epochs lies 2.16 deviations above the mean; the others know nothing of it."""
    rng = np.random.default_rng(0)
    gains = [best_epoch_gain(simulated(rng, np.full(40, 0.3), 0.03)) for _ in range(40)]
    assert np.mean(gains) == pytest.approx(2.16 * 0.03, abs=0.006)


def test_a_schedule_that_ends_quietly_gains_nothing():
    rng, epochs = np.random.default_rng(1), np.arange(40)
    truth = 0.9 * (1 - np.exp(-epochs / 15))
    noise = 0.03 * (1 + np.cos(np.pi * epochs / 39)) / 2
    gains = [best_epoch_gain(simulated(rng, truth, noise)) for _ in range(40)]
    assert 0 <= np.mean(gains) < 0.002


def test_small_curves_by_hand():
    folds = [history([0.1, 0.5, 0.4]), history([0.2, 0.3, 0.6], images=30), history([0.1, 0.4, 0.5])]
    # Without the first the means are .15 .35 .55, without the second .1 .45 .45, without the third .15 .4 .5.
    assert best_epoch_gain(folds) == pytest.approx((0.1 * 10 + 0.3 * 30 + 0 * 10) / 50)


def test_a_fold_that_stopped_early_stays_where_it_was():
    folds = [history([0.1, 0.4]), history([0.1, 0.2, 0.3, 0.6])]
    # The first at epoch 3 is still .4; the second at epoch 1 has .2.
    assert best_epoch_gain(folds) == pytest.approx((0.0 + 0.4) / 2)


def test_between_validations_the_last_one_holds():
    every_second = {"epochs": [1, 3, 5]}
    folds = [history([0.1, 0.5, 0.4], **every_second), history([0.2, 0.3, 0.6], **every_second)]
    assert best_epoch_gain(folds) == pytest.approx((0.1 + 0.3) / 2)
    uneven = [history([0.1, 0.5, 0.4], **every_second), history([0.2, 0.6], epochs=[1, 4])]
    assert best_epoch_gain(uneven) == pytest.approx((0.0 + 0.4) / 2)  # the first is still .5 at 4, the second .2 at 3


def test_averages_that_all_folds_chose_gain_nothing():
    noisy = [0.1, 0.5, 0.4], [0.2, 0.3, 0.6], [0.1, 0.4, 0.5]
    assert best_epoch_gain([history(curve, average=0.7) for curve in noisy]) == 0
    lone = [history(noisy[0], average=0.7), history(noisy[1]), history(noisy[2])]
    # The others would have taken epoch 2 for the first; they choose epochs 1 and 2, of which the first is the earlier.
    assert best_epoch_gain(lone) == pytest.approx(((0.7 - 0.4) + (0.6 - 0.3) + (0.5 - 0.5)) / 3)


def test_one_fold_cannot_tell():
    assert best_epoch_gain([history([0.1, 0.5])]) is None
