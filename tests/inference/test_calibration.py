import numpy as np
import pytest

from bonepipe.inference import calibration


def counts_of(rate, pixels=1000):
    """Pixels by probability where a share `rate(p)` of them is foreground."""
    foreground = np.rint(rate(np.arange(256) / 256) * pixels).astype(int)
    return np.stack([pixels - foreground, foreground])


def test_the_share_of_foreground_is_what_the_pixels_say():
    curve = calibration.calibrated(counts_of(lambda p: p**2))
    np.testing.assert_allclose(curve, (np.arange(256) / 256) ** 2, atol=1e-3)


def test_it_never_falls_and_heavy_bins_prevail():
    """By hand: bins 10 and 20 disagree in order, so they get their common share, weighted by pixels."""
    counts = np.zeros((2, 256), int)
    counts[:, 10] = (100, 300)
    counts[:, 20] = (60, 40)
    counts[:, 200] = (0, 50)
    curve = calibration.calibrated(counts)
    assert (np.diff(curve) >= 0).all()
    assert curve[10] == curve[20] == curve[150] == pytest.approx(340 / 500)
    assert curve[0] == curve[10]
    assert curve[255] == 1


def test_limits_are_where_the_confidence_is_reached():
    """An overconfident class, one that says 0.6 where it is sure, and one that is never sure."""
    rates = [lambda p: p**2, lambda p: np.clip((p - 0.4) * 5, 0, 1), lambda p: p * 0.5]
    sure, possible = calibration.limits(np.stack([counts_of(rate) for rate in rates]), 0.9)
    assert sure[0] == pytest.approx(np.sqrt(0.9), abs=1 / 256)
    assert possible[0] == pytest.approx(np.sqrt(0.1), abs=1 / 256)
    assert sure[1] == pytest.approx(0.58, abs=1 / 256)
    assert possible[1] == pytest.approx(0.42, abs=1 / 256)
    assert sure[2] > 1
    assert possible[2] == pytest.approx(0.2, abs=1 / 128)


def test_a_class_never_seen_is_nowhere():
    sure, possible = calibration.limits(np.zeros((1, 2, 256), int), 0.9)
    assert sure[0] > 1
    assert possible[0] > 1
