import numpy as np
import pytest
from scipy.ndimage import binary_erosion, distance_transform_edt
from scipy.spatial.distance import cdist

from bonepipe.labels.cutout import empty, from_mask
from bonepipe.labels.distance import boundary_distances, distance_to_zero


def slow(a, b):
    """From every boundary pixel to the nearest of the other mask."""
    edges = [np.argwhere(mask & ~binary_erosion(mask)) for mask in (a, b)]
    table = cdist(*edges)
    return np.concatenate([table.min(1), table.min(0)])


@pytest.mark.parametrize("seed", range(5))
def test_distances_are_those_to_the_nearest_boundary_pixel(seed):
    rng = np.random.default_rng(seed)
    a, b = (rng.random((25, 30)) < 0.6 for _ in range(2))
    found = boundary_distances(from_mask(a), from_mask(b))
    assert np.sort(found) == pytest.approx(np.sort(slow(a, b)), abs=1e-4)


def test_a_shifted_square_is_as_far_as_it_was_shifted():
    a, b = np.zeros((40, 40), bool), np.zeros((40, 40), bool)
    a[5:25, 5:25] = b[5:25, 8:28] = True
    assert boundary_distances(from_mask(a), from_mask(b)).max() == pytest.approx(3)
    assert boundary_distances(from_mask(a), from_mask(a)).max() == 0


def test_an_empty_mask_has_no_boundary():
    assert boundary_distances(empty(), from_mask(np.ones((3, 3), bool))).size == 0


def test_distances_are_the_same_in_every_call():
    """OpenCV's are not, which made trainings with loss.boundary irreproducible."""
    rng = np.random.default_rng(0)
    images = [(rng.random((120, 90)) > share).astype(np.uint8) for share in (0.5, 0.01, 0.001) for _ in range(4)]
    first = [distance_to_zero(image) for image in images]
    for _ in range(20):
        for image, distance in zip(images, first, strict=True):
            assert distance_to_zero(image).tobytes() == distance.tobytes()
    np.testing.assert_allclose(first[0], distance_transform_edt(images[0]), rtol=1e-6)
