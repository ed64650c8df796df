import re

import pytest

from bonepipe.report.run import learning


def history(*dice):
    """A fold's rows: a validation after every second epoch."""
    return [{"epoch": 2 * number + 1.0, learning.DICE: value} for number, value in enumerate(dice)]


@pytest.mark.parametrize(
    ("folds", "said"),
    [
        ([history(0.5, 0.9)], "Too few validations"),
        ([history(0.5, 0.7, 0.8, 0.9)], "still gained 0.1000: longer training"),
        ([history(0.5, 0.8, 0.9, 0.901)], r"gained \+0.0010: it has settled"),
        ([history(0.5, 0.8, 0.9, 0.899)], r"gained -0.0010: it has settled"),
        ([history(0.5, 0.9, 0.8, 0.85)], "highest at epoch 4 and has lost 0.0500 since"),  # though the end gained
        ([history(0.5, 0.9, 0.8), history(0.5, 0.7, 0.9)], "still gained 0.0500"),  # of the folds' mean
        ([history(*[0.95] * 5), history(*[0.9] * 10)], r"gained \+0.0000: it has settled"),  # one was stopped early
        ([history(*[0.9] * 5), history(*[0.95] * 6)], r"gained \+0.0000: it has settled"),
    ],
)
def test_the_end_of_the_curve_tells_whether_longer_training_pays(folds, said):
    assert re.search(said, learning._verdict(dict(enumerate(folds))))
