import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from bonepipe.labels import bitplane
from bonepipe.labels.boundary import weight_map


def paper(mask, weight, sigma):
    """Equation 2 of the U-Net paper, from whole-image distances of every object."""
    objects = [mask[..., c] for c in range(mask.shape[-1]) if mask[..., c].any()]
    distances = sorted(np.stack([distance_transform_edt(~inside) for inside in objects]), key=lambda d: d.sum())
    first, second = np.sort(np.stack(distances), axis=0)[:2]
    return 1 + weight * np.exp(-((first + second) ** 2) / (2 * sigma**2))


def drawn():
    """Two bars three pixels apart, a disc that overlaps one, one far away in a corner; ten classes, two planes."""
    mask = np.zeros((70, 90, 10), bool)
    rows, columns = np.ogrid[:70, :90]
    mask[20:50, 10:30, 0] = True
    mask[20:50, 33:48, 3] = True
    mask[..., 8] = (rows - 45) ** 2 + (columns - 48) ** 2 < 80
    mask[0:4, 84:90, 9] = True
    return mask


@pytest.mark.parametrize(("weight", "sigma"), [(10, 5), (10, 1.3), (3, 40)])
def test_weights_equal_the_papers_formula(weight, sigma):
    mask = drawn()
    weights = weight_map(bitplane.pack(mask), 10, weight, sigma)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, paper(mask, weight, sigma), rtol=0, atol=1e-5)


def test_weights_are_largest_where_objects_meet():
    weights = weight_map(bitplane.pack(drawn()), 10, 10, 2)
    assert weights[45, 44] == pytest.approx(11)  # shared by a bar and the disc
    assert weights[35, 31] == pytest.approx(1 + 10 * np.exp(-2))  # two pixels from either bar
    assert weights[2, 87] == pytest.approx(1)  # alone


@pytest.mark.parametrize("objects", [0, 1])
def test_fewer_than_two_objects_give_weights_of_one(objects):
    mask = np.zeros((9, 12, 5), bool)
    mask[2:5, 3:6, :objects] = True
    np.testing.assert_array_equal(weight_map(bitplane.pack(mask), 5, 10, 5), np.ones((9, 12)))
