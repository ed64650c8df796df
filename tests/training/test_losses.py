import itertools
import math

import pytest
import torch

from bonepipe.models.outputs import Outputs
from bonepipe.training.losses import (
    BCEDice,
    BinaryCrossEntropy,
    Boundary,
    Dice,
    DiceFocal,
    DiceTopK,
    Focal,
    Jaccard,
    Lovasz,
    Tversky,
)

KINDS = (BinaryCrossEntropy, Dice, Focal, DiceFocal, DiceTopK, Jaccard, Tversky, Lovasz, BCEDice)
SMOOTHED = [kind(label_smoothing=e) for kind in KINDS for e in (0.0, 0.2)]


def example(seed=0, shape=(3, 4, 5, 6), dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(shape, generator=generator)
    targets = (torch.rand(shape, generator=generator) < 0.3).float()
    targets[0, 1] = 0  # a class without pixels
    return logits.to(dtype), targets


def slow_dice_focal(logits, targets, dice_weight, focal_weight, gamma, alpha, smooth):
    """The formulas, pixel by pixel, in Python's floats."""
    samples, pixels = [], logits[0].numel()
    for sample, truth in zip(logits.tolist(), targets.tolist(), strict=True):
        dices, focal_sum = [], 0.0
        for plane, true_plane in zip(sample, truth, strict=True):
            overlap = area = true_area = 0.0
            for row, true_row in zip(plane, true_plane, strict=True):
                for z, y in zip(row, true_row, strict=True):
                    p = 1 / (1 + math.exp(-z))
                    overlap, area, true_area = overlap + p * y, area + p, true_area + y
                    p_true = p if y else 1 - p
                    weight = 1 if alpha is None else alpha if y else 1 - alpha
                    focal_sum += -weight * (1 - p_true) ** gamma * math.log(p_true)
            dices.append((2 * overlap + smooth) / (area + true_area + smooth))
        dice_loss = 1 - sum(dices) / len(dices)
        samples.append(dice_weight * dice_loss + focal_weight * focal_sum / pixels)
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


@pytest.mark.parametrize(("floor", "divisor"), [(0.0, 1), (0.02, 1), (0.1, 3), (0.5, 15)])
def test_without_positive_pixels_the_focal_sum_is_divided_by_a_share_of_the_image(floor, divisor):
    logits, targets = example(1)  # images of 30 pixels
    targets.zero_()
    settings = {"dice_weight": 0.0, "focal_weight": 1.0, "gamma": 2.0, "alpha": None, "smooth": 1.0}
    by_one = slow_dice_focal(logits, targets, **settings) * logits[0].numel()
    assert Focal(focal_floor=floor)(logits, targets).item() == pytest.approx(by_one / divisor, rel=1e-5)


def test_the_floor_leaves_images_with_more_bone_alone():
    logits, targets = example(1, (3, 4, 20, 20))
    assert torch.equal(Focal()(logits, targets), Focal(focal_floor=0)(logits, targets))
    assert torch.equal(Lovasz().each(logits, targets)[1:], Lovasz(class_floor=0).each(logits, targets)[1:])


def batch_with_an_empty_image(kind):
    """Logits and targets of eight images of 29 classes, with bone on a seventh of seven images and on none of one."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.zeros(8, 29, 96, 96)
    for image, label in itertools.product(range(1, 8), range(29)):
        height, width, top, left = (int(n) for n in torch.randint(4, 10, (4,), generator=generator))
        top, left = 8 * top, 8 * left
        targets[image, label, top : top + height, left : left + width] = 1
    noise = torch.randn(targets.shape, generator=generator)
    return {"new": 0.3 * noise, "trained": 6 * (2 * targets - 1) + 2 * noise}[kind], targets


@pytest.mark.parametrize("kind", ["new", "trained"])
@pytest.mark.parametrize("loss", [kind() for kind in KINDS] + [DiceFocal(focal_weight=5.0)], ids=repr)
def test_an_image_without_annotation_takes_about_its_share_of_the_gradient(loss, kind):
    """One of eight: less than twice its share; with a term of every pixel more than a fourth of it.

    Dice-like losses alone hardly see false pixels of classes that do not occur, new or trained.
    """
    logits, targets = batch_with_an_empty_image(kind)
    loss(logits.requires_grad_(), targets).backward()
    norms = logits.grad.abs().sum((1, 2, 3))
    share = float(norms[0] / norms.sum())
    assert share < 2 / 8
    if type(loss) not in (Dice, Jaccard, Tversky, BCEDice, DiceFocal):
        assert share > 1 / 32


def test_the_gradient_of_an_absent_class_is_not_the_worst_pixels_alone():
    logits, targets = example(2, (1, 2, 100, 100))
    logits = logits[:, :1].requires_grad_()
    Lovasz()(logits, 0 * targets[:, :1]).backward()
    assert logits.grad[logits.grad > 0].tolist() == pytest.approx([0.1] * 10)  # a thousandth of the pixels, alike


@pytest.mark.parametrize("loss", [*SMOOTHED, DiceFocal(alpha=0.3, gamma=1.5)])
def test_a_batch_is_the_mean_of_its_samples(loss):
    logits, targets = example(3)
    alone = [loss(logits[i : i + 1], targets[i : i + 1]) for i in range(len(logits))]
    torch.testing.assert_close(loss(logits, targets), torch.stack(alone).mean(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("loss", [*SMOOTHED, DiceFocal(alpha=0.25), DiceFocal(gamma=0.5)])
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
    for kind in (Focal, DiceFocal):
        with pytest.raises(ValueError, match=r"gamma|alpha"):
            kind(**settings)


@pytest.mark.parametrize(
    ("kind", "settings", "reason"),
    [
        (DiceTopK, {"k": 0}, "nothing to learn"),
        (DiceTopK, {"k": 1.1}, "at most 1"),
        (Dice, {"smooth": 0}, "0 / 0"),
        (Jaccard, {"smooth": -1}, "above 0"),
        (Tversky, {"alpha": -0.1}, "alpha=-0.1 must not be negative"),
        (Tversky, {"alpha": 0, "beta": 0}, "both 0"),
        (DiceFocal, {"dice_weight": 0, "focal_weight": 0}, "both 0"),
        (BCEDice, {"bce_weight": -1}, "bce_weight=-1"),
        (Lovasz, {"label_smoothing": 1}, "below 1"),
        (Lovasz, {"class_floor": -0.1}, "class_floor=-0.1"),
        (Focal, {"focal_floor": 1.1}, "focal_floor=1.1"),
        (DiceFocal, {"focal_weight": math.inf}, "focal_weight=inf"),
        (Dice, {"smooth": math.nan}, "above 0"),
        (Dice, {"label_smoothing": -0.1}, "label_smoothing=-0.1"),
        (Dice, {"side_weight": -1}, "side_weight"),
        (Dice, {"presence_weight": -1}, "presence_weight"),
        (Boundary, {"sigma": 0}, "sigma=0"),
        (Boundary, {"weight": -1}, "weight=-1"),
    ],
)
def test_impossible_settings_of_the_other_losses_are_refused_with_the_reason(kind, settings, reason):
    with pytest.raises(ValueError, match=reason):
        kind(**settings)


def per_sample_and_class(loss, logits, targets):
    """Mean of a library's loss asked for one sample and class at a time."""
    n, c = logits.shape[:2]
    values = [loss(logits[i : i + 1, j : j + 1], targets[i : i + 1, j : j + 1]) for i in range(n) for j in range(c)]
    return torch.stack(values).mean()


def test_losses_equal_those_of_the_libraries():
    import monai.losses
    import segmentation_models_pytorch.losses as smp

    logits, targets = example(6)
    targets[0, 1, 2, 3] = 1  # smp leaves classes out that have no pixels
    multi = {"mode": "multilabel", "smooth": 1.0}
    pairs = [
        (Dice(), monai.losses.DiceLoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0)),
        (Dice(), monai.losses.TverskyLoss(sigmoid=True, alpha=0.5, beta=0.5, smooth_nr=0.5, smooth_dr=0.5)),
        (Tversky(), monai.losses.TverskyLoss(sigmoid=True, alpha=0.3, beta=0.7, smooth_nr=1.0, smooth_dr=1.0)),
        (Tversky(alpha=0.2, beta=1.1), smp.TverskyLoss(alpha=0.2, beta=1.1, **multi)),
        (Jaccard(), smp.JaccardLoss(**multi)),
        (Lovasz(), smp.LovaszLoss("binary")),
        (Dice(smooth=2.0), smp.DiceLoss("multilabel", smooth=1.0)),
    ]
    for ours, theirs in pairs:
        torch.testing.assert_close(ours(logits, targets), per_sample_and_class(theirs, logits, targets))
    entropy = smp.SoftBCEWithLogitsLoss(smooth_factor=0.1)
    torch.testing.assert_close(BinaryCrossEntropy(label_smoothing=0.2)(logits, targets), entropy(logits, targets))


def test_sums_are_the_weighted_sums_of_their_terms():
    pair = example(7)
    bce, dice = BinaryCrossEntropy()(*pair), Dice()(*pair)
    torch.testing.assert_close(BCEDice(bce_weight=0.3, dice_weight=2.0)(*pair), 0.3 * bce + 2 * dice)
    torch.testing.assert_close(DiceFocal(focal_weight=5.0, gamma=0.0)(*pair), dice + 5 * bce)
    torch.testing.assert_close(DiceFocal(focal_weight=5.0, focal_floor=0.1)(*pair), dice + 5 * Focal()(*pair))
    torch.testing.assert_close(DiceTopK(k=1.0, topk_weight=0.5)(*pair), dice + 0.5 * bce)


@pytest.mark.parametrize("k", [1e-9, 0.1, 0.37])
def test_top_k_is_the_mean_of_the_worst_pixels_of_each_sample(k):
    logits, targets = example(8)
    pixels = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").flatten(1)
    count = max(1, round(k * pixels.shape[1]))
    expected = pixels.sort(1, descending=True).values[:, :count].mean()
    torch.testing.assert_close(DiceTopK(k=k, dice_weight=0)(logits, targets), expected)


@pytest.mark.parametrize("loss", SMOOTHED, ids=repr)
def test_ignored_pixels_have_neither_value_nor_gradient(loss):
    logits, targets = example(9)
    weight = (torch.rand(logits.shape, generator=torch.Generator().manual_seed(1)) < 0.7).float()
    weight[1, 2] = 0  # a class that is ignored wholly
    weight[2] = 0  # a sample that is ignored wholly
    ignored = weight == 0
    other = torch.where(ignored, 50 * torch.randn(logits.shape), logits).requires_grad_()
    flipped = torch.where(ignored, 1 - targets, targets)
    value = loss(other, flipped, weight)
    torch.testing.assert_close(value, loss(logits, targets, weight), rtol=1e-6, atol=1e-6)
    value.backward()
    assert torch.isfinite(value)
    assert (other.grad[ignored] == 0).all()
    assert (other.grad[~ignored] != 0).any()
    assert loss.each(logits, targets, weight)[2] == 0


@pytest.mark.parametrize("loss", SMOOTHED, ids=repr)
def test_ignoring_all_but_a_crop_equals_the_loss_on_the_crop(loss):
    logits, targets = example(10, (2, 3, 12, 14))
    weight = torch.zeros(1, 1, 12, 14)
    weight[..., 2:9, 3:12] = 1
    crop = loss(logits[..., 2:9, 3:12], targets[..., 2:9, 3:12])
    torch.testing.assert_close(loss(logits, targets, weight), crop, rtol=1e-5, atol=1e-6)
    assert not torch.isclose(crop, loss(logits, targets), rtol=1e-3)


@pytest.mark.parametrize("loss", SMOOTHED, ids=repr)
def test_ignoring_classes_equals_the_loss_on_the_others(loss):
    logits, targets = example(11)
    weight = torch.ones(3, 4, 1, 1)
    weight[:, 1:3] = 0
    kept = loss(logits[:, [0, 3]], targets[:, [0, 3]])
    torch.testing.assert_close(loss(logits, targets, weight), kept, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", SMOOTHED, ids=repr)
def test_a_pixel_of_weight_two_counts_as_two_pixels(loss):
    if isinstance(loss, DiceTopK):
        loss = DiceTopK(k=1.0, label_smoothing=loss.label_smoothing)  # else a doubled pixel takes another's place
    logits, targets = example(12)
    weight = torch.ones(3, 1, 5, 6)
    weight[..., 2, :] = 2
    rows = [0, 1, 2, 2, 3, 4]
    doubled = loss(logits[:, :, rows], targets[:, :, rows])
    torch.testing.assert_close(loss(logits, targets, weight), doubled, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", SMOOTHED, ids=repr)
def test_weights_of_one_change_nothing(loss):
    logits, targets = example(13)
    torch.testing.assert_close(
        loss(logits, targets, torch.ones(1, 1, 1, 1)), loss(logits, targets), rtol=1e-6, atol=1e-6
    )


def test_weighted_top_k_weighs_the_worst_existing_pixels():
    logits = torch.tensor([9.0, 3.0, 2.0, 1.0]).view(1, 1, 1, 4)
    weight = torch.tensor([0.0, 1.0, 3.0, 5.0]).view(1, 1, 1, 4)
    targets = torch.zeros_like(logits)
    expected = (math.log1p(math.exp(3)) + 3 * math.log1p(math.exp(2))) / 4
    loss = DiceTopK(k=0.6, dice_weight=0)(logits, targets, weight)  # 2 of the 3 pixels that exist
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", [Dice, Jaccard, Tversky])
def test_smoothing_keeps_areas_and_moves_targets_towards_the_share(kind):
    logits, targets = example(14)
    share = targets.mean((2, 3), keepdim=True)
    soft = 0.7 * targets + 0.3 * share
    torch.testing.assert_close(kind(label_smoothing=0.3)(logits, targets), kind()(logits, soft))


def test_smoothed_losses_are_least_short_of_certainty():
    targets = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2).repeat(1, 1, 8, 1)
    signs = 2 * targets - 1
    for kind in KINDS:
        if kind in (Dice, Jaccard, Tversky):
            continue  # linear in the probabilities where the overlap is: certainty stays best, errors weigh less
        loss = kind(label_smoothing=0.2)
        assert loss(signs * 2.2, targets) < loss(signs * 12, targets) or kind is Lovasz
    assert Lovasz(label_smoothing=0.2)(signs * 0.8, targets) == 0
    assert Lovasz()(signs * 0.8, targets) > 0


def test_side_outputs_and_presence_are_added_with_their_weights():
    logits, targets = example(15)
    sides = [example(seed)[0] for seed in (16, 17)]
    presence = torch.randn(3, 4, generator=torch.Generator().manual_seed(2))
    plain = DiceFocal()
    occurs = targets.amax((2, 3))
    assert occurs.min() == 0
    expected = plain(logits, targets) + 0.3 * (plain(sides[0], targets) + plain(sides[1], targets))
    loss = DiceFocal(side_weight=0.3, presence_weight=0.7)
    torch.testing.assert_close(loss(Outputs((logits, *sides)), targets), expected)
    expected += 0.7 * torch.nn.functional.binary_cross_entropy_with_logits(presence, occurs)
    torch.testing.assert_close(loss(Outputs((logits, *sides), presence), targets), expected)
    torch.testing.assert_close(loss(Outputs((logits,)), targets), plain(logits, targets))


def test_presence_is_unknown_where_a_class_may_hide_under_ignored_pixels():
    targets = torch.zeros(1, 3, 2, 2)
    targets[0, :2, 0, 0] = 1
    weight = torch.ones(1, 3, 2, 2)
    weight[0, 1, 0] = 0  # its pixels are ignored: it may occur or not
    presence = torch.tensor([[1.0, 2.0, 3.0]])
    loss = Dice(presence_weight=1.0)
    maps = (torch.zeros(1, 3, 2, 2),)
    added = loss(Outputs(maps, presence), targets, weight) - loss(maps[0], targets, weight)
    expected = (math.log1p(math.exp(-1)) + math.log1p(math.exp(3))) / 2
    assert added.item() == pytest.approx(expected, rel=1e-5)


def test_padding_hides_no_class():
    """Beside an image no class counts; one that counts nowhere in it stays unknown."""
    targets, weight = torch.zeros(2, 3, 2, 4), torch.ones(2, 3, 2, 4)
    targets[0, 0, 0, 0] = 1
    weight[:, :, :, 2:] = 0
    weight[0, 1] = 0
    weight[1] = 0
    presence = torch.zeros(2, 3, requires_grad=True)
    Dice(presence_weight=1.0)(Outputs((torch.zeros(2, 3, 2, 4),), presence), targets, weight).backward()
    assert (presence.grad != 0).tolist() == [[True, False, True], [False, False, False]]


def test_boundary_settings_make_the_pixel_weights():
    import numpy as np

    from bonepipe.labels.boundary import weight_map

    planes = np.zeros((12, 14, 1), np.uint8)
    planes[2:9, 2:6], planes[2:9, 8:12] = 1, 2
    weights = Dice(boundary=Boundary(weight=4, sigma=2)).pixel_weights(2)
    np.testing.assert_array_equal(weights(planes), weight_map(planes, 2, 4, 2))
    assert Dice().pixel_weights(2) is None


@pytest.mark.parametrize(
    "loss", [Dice(), Jaccard(), Tversky(alpha=0.5, beta=0.5), BinaryCrossEntropy(), DiceFocal()], ids=repr
)
def test_of_a_pixel_that_is_covered_in_part_the_best_prediction_is_that_part(loss):
    """The product as overlap would be best at 1, and outlines would move outwards."""
    targets = torch.zeros(1, 1, 8, 8)
    targets[..., 2:6, 2:6], targets[..., 2, 2:6] = 1.0, 0.7
    scores = []
    for share in (0.0, 0.5, 0.65, 0.7, 0.75, 0.9, 1.0):
        predicted = targets.clone()
        predicted[..., 2, 2:6] = share
        scores.append(loss(predicted.clamp(1e-6, 1 - 1e-6).logit(), targets).item())
    assert min(scores) == scores[3]
    assert scores == sorted(scores[:4], reverse=True) + sorted(scores[4:])


def test_lovasz_takes_a_pixel_for_the_side_that_most_of_it_is_on():
    logits, targets = example()
    shares = targets * 0.8 + (1 - targets) * 0.3
    assert torch.equal(Lovasz()(logits, shares), Lovasz()(logits, targets))
