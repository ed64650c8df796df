import numpy as np
import pytest

from bonepipe.inference.crossfit import Split
from bonepipe.inference.thresholds import choose_thresholds
from bonepipe.report.cross_validation import deviation, text


def test_one_fold_has_no_deviation():
    assert deviation([0.9]) == 0.0
    assert deviation([0.8, 0.9]) == pytest.approx(np.std([0.8, 0.9], ddof=1))


def told(folds):
    curves = np.full((12, 2, 256), 0.5)
    curves[:, :, 60] = 0.9
    choice = choose_thresholds(curves, Split(folds, np.arange(12)), 2.0)
    numbers = [0.5] * len(np.unique(folds))
    scores = {"folds": numbers, "oof_dice": 0.5, "oof_dice_at_half": 0.5, "oof_dice_by_size": {}}
    return choice, text(["Radius", "Ulna"], choice, {}, None, None, scores)


def test_a_hold_out_says_that_it_can_choose_nothing():
    choice, words = told(np.zeros(12, int))
    assert choice.thresholds.tolist() == [0.5, 0.5]
    assert "nothing was chosen: all images validate one fold" in words
    assert "no more than noise" not in words
    choice, words = told(np.arange(12) % 3)
    assert choice.thresholds.tolist() == [60 / 256] * 2
    assert "nothing was chosen" not in words and "2 of 2 classes leave 0.5" in words
