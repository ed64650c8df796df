import numpy as np
import pytest

from bonepipe.labels import counts


@pytest.mark.parametrize("limit", [1 << 24, 40])
def test_bytes_are_counted_where_the_mask_is(monkeypatch, limit):
    monkeypatch.setattr(counts, "_EXACT_IN_FLOAT32", limit)  # 40: two rows at a time
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (31, 17, 3), np.uint8), rng.random((31, 17)) < 0.3
    for channel in range(3):
        expected = np.bincount(image[mask][:, channel], minlength=256)
        np.testing.assert_array_equal(counts.byte_counts(image, channel, mask), expected)
    np.testing.assert_array_equal(counts.byte_counts(image[..., 1]), np.bincount(image[..., 1].ravel(), minlength=256))


def test_an_image_without_pixels_has_no_bytes():
    assert counts.byte_counts(np.zeros((0, 0), np.uint8), mask=np.zeros((0, 0), bool)).sum() == 0
