import math

import pytest
import torch

from bonepipe.training.losses import BinaryCrossEntropy, DiceFocal, focal, soft_dice


def example(seed=0, shape=(3, 4, 5, 6), dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(shape, generator=generator)
    targets = (torch.rand(shape, generator=generator) < 0.3).float()
    targets[0, 1] = 0  # a class without pixels
    return logits.to(dtype), targets


def slow_dice_focal(logits, targets, dice_weight, focal_weight, gamma, alpha, smooth):
    """The formulas, pixel by pixel, in Python's floats."""
    samples = []
    for sample, truth in zip(logits.tolist(), targets.tolist(), strict=True):
        dices, focal_sum, positives = [], 0.0, 0
        for plane, true_plane in zip(sample, truth, strict=True):
            overlap = area = true_area = 0.0
            for row, true_row in zip(plane, true_plane, strict=True):
                for z, y in zip(row, true_row, strict=True):
                    p = 1 / (1 + math.exp(-z))
                    overlap, area, true_area = overlap + p * y, area + p, true_area + y
                    p_true = p if y else 1 - p
                    weight = 1 if alpha is None else alpha if y else 1 - alpha
                    focal_sum += -weight * (1 - p_true) ** gamma * math.log(p_true)
                    positives += int(y)
            dices.append((2 * overlap + smooth) / (area + true_area + smooth))
        dice_loss = 1 - sum(dices) / len(dices)
        samples.append(dice_weight * dice_loss + focal_weight * focal_sum / max(1, positives))
    return sum(samples) / len(samples)


@pytest.mark.parametrize(
    "settings",
    [
        {"dice_weight": 1.0, "focal_weight": 1.0, "gamma": 2.0, "alpha": None, "smooth": 1.0},
        {"dice_weight": 0.3, "focal_weight": 2.0, "gamma": 0.5, "alpha": 0.25, "smooth": 1e-4},
        {"dice_weight": 0.0, "focal_weight": 1.0, "gamma": 0.0, "alpha": None, "smooth": 1.0},
        {"dice_weight": 1.0, "focal_weight": 0.0, "gamma": 2.0, "alpha": 0.75, "smooth": 10.0},
    ],
)
def test_dice_focal_equals_the_formulas(settings):
    logits, targets = example()
    assert DiceFocal(**settings)(logits, targets).item() == pytest.approx(
        slow_dice_focal(logits, targets, **settings), rel=1e-5
    )


def test_without_positive_pixels_the_focal_sum_is_divided_by_one():
    logits, targets = example(1)
    targets.zero_()
    settings = {"dice_weight": 1.0, "focal_weight": 1.0, "gamma": 2.0, "alpha": None, "smooth": 1.0}
    assert DiceFocal(**settings)(logits, targets).item() == pytest.approx(
        slow_dice_focal(logits, targets, **settings), rel=1e-5
    )


def test_gradients_equal_finite_differences():
    logits, targets = example(2, (2, 2, 3, 3), torch.float64)
    targets = targets.double()

    def both(z):  # as DiceFocal joins them, but in double precision
        return (1 - soft_dice(z.sigmoid(), targets, 1.0).mean(1) + focal(z, targets, 2.0, 0.4)).mean()

    assert torch.autograd.gradcheck(both, logits.requires_grad_())
    loss = DiceFocal(alpha=0.4)(logits, targets)
    torch.testing.assert_close(loss.double(), both(logits), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", [DiceFocal(), DiceFocal(alpha=0.3, gamma=1.5), BinaryCrossEntropy()])
def test_a_batch_is_the_mean_of_its_samples(loss):
    logits, targets = example(3)
    alone = [loss(logits[i : i + 1], targets[i : i + 1]) for i in range(len(logits))]
    torch.testing.assert_close(loss(logits, targets), torch.stack(alone).mean(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("loss", [DiceFocal(), DiceFocal(alpha=0.25), DiceFocal(gamma=0.5), BinaryCrossEntropy()])
def test_extreme_logits_give_finite_losses_and_gradients(loss, dtype):
    logits = torch.tensor([-6e4, -100.0, -20.0, 0.0, 20.0, 100.0, 6e4]).repeat(1, 2, 4, 1).to(dtype).requires_grad_()
    targets = torch.zeros(1, 2, 4, 7)
    targets[:, :, ::2] = 1
    value = loss(logits, targets)
    value.backward()
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()


def test_perfect_logits_cost_nothing():
    targets = example(4)[1]
    assert DiceFocal()((targets * 2 - 1) * 50, targets).item() == pytest.approx(0, abs=1e-6)


def test_half_precision_is_summed_in_single():
    shape = (1, 1, 300, 300)  # more pixels than half precision can count
    logits, targets = torch.zeros(shape, dtype=torch.float16), torch.ones(shape)
    expected = 1 - (2 * 0.5 * 90000 + 1) / (1.5 * 90000 + 1)
    assert DiceFocal(focal_weight=0)(logits, targets).item() == pytest.approx(expected, rel=1e-5)


def test_cross_entropy_equals_torch():
    logits, targets = example(5)
    expected = torch.nn.BCEWithLogitsLoss()(logits, targets)
    torch.testing.assert_close(BinaryCrossEntropy()(logits, targets), expected)
    torch.testing.assert_close(BinaryCrossEntropy()(logits.double(), targets), expected)


@pytest.mark.parametrize("settings", [{"gamma": -1}, {"alpha": 0.0}, {"alpha": 1.0}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match=r"gamma|alpha"):
        DiceFocal(**settings)
