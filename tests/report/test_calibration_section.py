import numpy as np
import pytest

from bonepipe.labels.histogram import FLOOR_BIN
from bonepipe.report.run import calibration

BINS = 256 - FLOOR_BIN


def test_probabilities_that_can_be_taken_at_their_word_are_not_off():
    """However the pixels lie in a group of bins: most of a bone's are in the last one."""
    pixels = np.full(BINS, 1000.0)
    pixels[-1] = 1e7
    inside = pixels * (FLOOR_BIN + np.arange(BINS) + 0.5) / 256
    assert calibration.error(np.stack([pixels - inside, inside])) == pytest.approx(0, abs=1e-9)
    share, said = calibration.shares(np.stack([pixels - inside, inside]))
    np.testing.assert_allclose(share, said, atol=1e-9)


def test_a_network_that_is_too_sure_is_off_by_as_much():
    pixels = np.full(BINS, 1000.0)
    said = (FLOOR_BIN + np.arange(BINS) + 0.5) / 256
    inside = pixels * said * 0.8
    expected = 0.2 * said.mean()
    assert calibration.error(np.stack([pixels - inside, inside])) == pytest.approx(expected, rel=1e-6)


def test_a_group_without_pixels_has_its_middle():
    share, said = calibration.shares(np.zeros((2, BINS)))
    assert np.isnan(share).all() and (np.diff(said) > 0).all() and said[-1] < 1
