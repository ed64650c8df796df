import math

import numpy as np
import pytest
import torch

from bonepipe.inference.postprocess.crf import CrfSpec, apply_crf


def scene(shape=(7, 9), count=2, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.random((count, classes, *shape), dtype=np.float32)), torch.from_numpy(
        rng.integers(90, 130, (count, *shape), dtype=np.uint8)
    )


def dense_mean_field(probability, image, spec):
    """Mean field of one class with the whole matrix of pairs, in float64."""
    height, width = image.shape
    grey, pixels = image.ravel() / 255, [(y, x) for y in range(height) for x in range(width)]
    appearance, smoothness = np.zeros((2, len(pixels), len(pixels)))
    for i, (y, x) in enumerate(pixels):
        near = smooth = 0.0
        for j, (v, u) in enumerate(pixels):
            if i == j or max(abs(y - v), abs(x - u)) > spec.radius:
                continue
            square = (y - v) ** 2 + (x - u) ** 2
            position = math.exp(-square / (2 * spec.spatial**2))
            appearance[i, j] = position * math.exp(-((grey[i] - grey[j]) ** 2) / (2 * spec.contrast**2))
            smoothness[i, j] = math.exp(-square / (2 * spec.smooth_spatial**2))
            near, smooth = near + position, smooth + smoothness[i, j]
        appearance[i] /= near
        smoothness[i] /= smooth
    kernel = spec.appearance * appearance + spec.smoothness * smoothness
    q = probability.ravel().astype(np.float64)
    unary = np.log(q / (1 - q))
    for _ in range(spec.iterations):
        q = 1 / (1 + np.exp(-(unary + kernel @ (2 * q - 1))))
    return q.reshape(height, width)


@pytest.mark.parametrize("spec", [
    CrfSpec(),
    CrfSpec(radius=1, iterations=1, appearance=0.0),
    CrfSpec(radius=5, spatial=2.0, contrast=0.02, smoothness=0.0, iterations=3),
    CrfSpec(radius=9, smooth_spatial=4.0, iterations=8),  # wider than the image: nothing is cut off
])  # fmt: skip
def test_the_windowed_mean_field_equals_the_dense_one_with_the_same_kernel(spec):
    probabilities, images = scene()
    refined = apply_crf(probabilities, images, spec)
    for n in range(2):
        for c in range(3):
            expected = dense_mean_field(probabilities[n, c].numpy(), images[n].numpy(), spec)
            np.testing.assert_allclose(refined[n, c], expected, rtol=0, atol=1e-5)


def test_without_weights_nothing_changes():
    probabilities, images = scene()
    probabilities[0, 0, 0, :2] = torch.tensor([0.0, 1.0])
    refined = apply_crf(probabilities, images, CrfSpec(appearance=0, smoothness=0))
    torch.testing.assert_close(refined, probabilities, rtol=0, atol=2e-6)


def test_an_isolated_pixel_is_smoothed_away_and_a_solid_part_stays():
    probabilities = torch.full((1, 1, 20, 20), 0.1)
    probabilities[..., 3, 3] = 0.7  # noise
    probabilities[..., 8:16, 8:16] = 0.8
    probabilities[..., 12, 12] = 0.3  # a pinprick
    refined = apply_crf(probabilities, torch.full((1, 20, 20), 100, dtype=torch.uint8), CrfSpec())[0, 0] >= 0.5
    assert not refined[:7].any()
    assert refined[9:15, 9:15].all()


def test_an_edge_of_the_image_holds_a_blurred_prediction():
    """The prediction blurs the edge; neighbours that look alike pull it back to where the grey value jumps."""
    image = torch.full((1, 16, 16), 60, dtype=torch.uint8)
    image[:, :, 8:] = 200
    ramp = torch.sigmoid((torch.arange(16.0) - 6.0) * 0.8).expand(1, 1, 16, 16)  # says that the bone begins at 6
    plain, refined = (
        ramp[0, 0, 8] >= 0.5,
        apply_crf(ramp, image, CrfSpec(appearance=4.0, smoothness=0.0))[0, 0, 8] >= 0.5,
    )
    assert plain.nonzero()[0] == 6
    assert refined.nonzero()[0] == 8


@pytest.mark.parametrize("values", [
    {"radius": 0}, {"iterations": 0}, {"appearance": -1.0}, {"contrast": 0.0}, {"spatial": 0.0},
    {"contrast": 1e-25}, {"spatial": float("nan")},
])  # fmt: skip
def test_impossible_kernels_are_refused(values):
    with pytest.raises(ValueError, match="crf: "):
        CrfSpec(**values)
