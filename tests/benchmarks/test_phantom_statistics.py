"""The phantom's figures against the real ones, and the measuring itself against masks drawn by hand."""

import numpy as np
import pytest

from bonepipe.data.phantom.classes import CLASSES
from bonepipe.data.phantom.dataset import write_dataset
from tests.benchmarks.phantom_statistics import REAL, image_statistics, measure, table


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    out = tmp_path_factory.mktemp("statistics") / "set"
    write_dataset(out, 8, 7, 512, seed=1, workers=1)
    return measure(out)


@pytest.mark.parametrize("name", [name for name in REAL if name != "rotated wrists, test"])
def test_figures_are_within_a_third_of_the_real_ones(figures, name):
    assert REAL[name] * 2 / 3 < figures[name] < REAL[name] * 4 / 3


def test_shares_of_rotated_wrists(figures):
    assert figures["rotated wrists, train"] == 1 / 8
    assert figures["rotated wrists, test"] == 4 / 7


def test_statistics_of_a_hand_made_mask():
    mask = np.zeros((29, 32, 32), bool)
    mask[CLASSES.index("Triquetrum"), 4:8, 4:12] = True  # 32 pixels in 4 rows
    mask[CLASSES.index("Pisiform"), 4:8, 8:16] = True  # shares 16 of them
    figures = image_statistics(mask)
    assert figures["Triquetrum-Pisiform IoU"] == 16 / 48
    assert np.isnan(figures["Trapezium-Trapezoid IoU"])
    assert figures["pixels with two labels"] == 16 / 1024
    assert figures["foreground"] == 48 / 1024
    assert figures["mean class box"] == 32 / 1024
    assert figures["runs a class at 2048"] == pytest.approx(8 / 29 * 64)


def test_table_sets_measured_beside_real():
    lines = table(dict.fromkeys(REAL, 0.25)).splitlines()
    assert len(lines) == len(REAL) + 1
    assert lines[1].split() == ["Triquetrum-Pisiform", "IoU", "0.2500", "0.4500", "0.56"]
