import numpy as np
import pytest

from bonepipe.report.cross_validation import deviation


def test_one_fold_has_no_deviation():
    assert deviation([0.9]) == 0.0
    assert deviation([0.8, 0.9]) == pytest.approx(np.std([0.8, 0.9], ddof=1))
