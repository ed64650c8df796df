import numpy as np
import pytest

from bonepipe.inference.mistakes import Mistakes, mistakes
from bonepipe.labels.cutout import empty, from_mask


def square(left, width=10):
    mask = np.zeros((40, 80), bool)
    mask[10:20, left : left + width] = True
    return from_mask(mask)


def test_a_part_given_to_the_neighbour_is_taken_and_the_rest_of_what_is_missed_is_not():
    truth = [square(10), square(20), empty()]
    predicted = [square(10, 6), square(17, 13), empty()]  # of the first, 3 columns go to the second and 1 to nobody
    found = mistakes(truth, predicted)
    assert found.taken == pytest.approx(np.array([[0, 0.3, 0], [0, 0, 0], [0, 0, 0]]))
    assert found.distance[0] > 0
    assert np.isnan(found.distance[2])


def test_what_truly_overlaps_is_no_confusion():
    found = mistakes([square(10), square(15)], [square(10, 5), square(15)])
    assert found.taken.max() == 0


def test_images_are_stacked():
    rows = [mistakes([square(5)], [square(5 + shift)], 0.1) for shift in (0, 2)]
    together = Mistakes.stacked(rows)
    assert together.far[:, 0] == pytest.approx([0, 2])
    assert together.spacing == pytest.approx([0.1, 0.1])
