"""Values, gradients and memory of the losses that are sums over pixels, against the same written out with autograd."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bonepipe.models.outputs import Outputs
from bonepipe.training import losses, pixel_sums
from bonepipe.training.pixel_sums import Labels
from bonepipe.training.pixel_terms import Areas, FocalEntropy, WorstEntropy
from tests import plain_losses as plain

SUMS = (losses.DiceFocal(), losses.BCEDice(), losses.DiceTopK())
GAMMAS = (0.0, 0.5, 1.0, 1.7, 2.0, 3.0)


def plainly(loss, logits, targets, weight=None):
    """The loss of each sample as `plain_losses` has it, of float32 tensors of one shape."""
    common = (logits, targets, weight, loss.label_smoothing)
    match loss:
        case losses.DiceFocal():
            focal = plain.focal(*common, loss.gamma, loss.alpha, loss.focal_floor)
            return loss.dice_weight * plain.tversky(*common, smooth=loss.smooth / 2) + loss.focal_weight * focal
        case losses.BCEDice():
            dice = plain.tversky(*common, smooth=loss.smooth / 2)
            return loss.dice_weight * dice + loss.bce_weight * plain.bce(*common)
        case losses.DiceTopK():
            worst = plain.top_k(logits, targets, loss.k, weight, loss.label_smoothing)
            return loss.dice_weight * plain.tversky(*common, smooth=loss.smooth / 2) + loss.topk_weight * worst
        case losses.Dice():
            return plain.tversky(*common, smooth=loss.smooth / 2)
        case losses.Jaccard():
            return plain.tversky(*common, 1.0, 1.0, loss.smooth)
        case losses.Tversky():
            return plain.tversky(*common, loss.alpha, loss.beta, loss.smooth)
        case losses.BinaryCrossEntropy():
            return plain.bce(*common)
        case losses.Focal():
            return plain.focal(*common, loss.gamma, loss.alpha, loss.focal_floor)
    raise TypeError(loss)


def batch(seed, shape, parts=4, dtype=torch.float32, spread=4.0):
    """Logits, bytes that count sub-pixels, and pixel weights of which some are 0; a class and a sample are empty."""
    generator = torch.Generator().manual_seed(seed)
    logits = (spread * torch.randn(shape, generator=generator)).to(dtype)
    counts = torch.randint(0, parts + 1, shape, generator=generator)
    sure = torch.rand(shape, generator=generator)
    counts = torch.where(sure < 0.5, torch.zeros_like(counts), torch.where(sure < 0.8, parts, counts)).to(torch.uint8)
    counts[0, 0], counts[-1] = 0, 0
    weight = 3 * torch.rand(shape, generator=generator) * (torch.rand(shape, generator=generator) < 0.8)
    return logits, counts, weight


def gradient(each, logits):
    """Values and gradient of differently weighted samples' sum, by logits of their own."""
    leaf = logits.detach().clone().requires_grad_()
    values = each(leaf)
    (values * torch.arange(1.0, len(values) + 1)).sum().backward()
    return values.detach(), leaf.grad


def assert_equal(loss, logits, counts, parts, weight=None, tolerance=1e-5):
    """Values and gradients equal the plain ones; gradients in parts of the largest."""
    spread = None if weight is None else weight.expand_as(counts)
    values, slopes = gradient(lambda leaf: loss.each(leaf, counts, weight, parts), logits)
    expected, plain_slopes = gradient(lambda leaf: plainly(loss, leaf.float(), counts.float() / parts, spread), logits)
    torch.testing.assert_close(values, expected, rtol=tolerance, atol=1e-6)
    assert slopes.dtype == logits.dtype
    largest = float(plain_slopes.abs().max())
    torch.testing.assert_close(slopes, plain_slopes, rtol=0, atol=tolerance * largest + 1e-12)


@st.composite
def settings(draw):
    """A loss with settings of its own."""
    common = {"label_smoothing": draw(st.sampled_from([0.0, 0.1, 0.7]))}
    dice = {**common, "smooth": draw(st.sampled_from([1e-3, 1.0, 20.0])), "dice_weight": draw(st.floats(0, 3))}
    focus = {"gamma": draw(st.sampled_from(GAMMAS)), "alpha": draw(st.none() | st.floats(0.05, 0.95))}
    second = draw(st.floats(0.1, 5))
    floor = draw(st.sampled_from([0.0, 0.1, 0.9]))
    return draw(
        st.sampled_from([
            losses.DiceFocal(**dice, **focus, focal_weight=second, focal_floor=draw(st.sampled_from([None, floor]))),
            losses.BCEDice(**dice, bce_weight=second),
            losses.DiceTopK(**dice, topk_weight=second, k=draw(st.floats(0.01, 1))),
            losses.Dice(**common),
            losses.Jaccard(**common),
            losses.Tversky(**common, alpha=0.2, beta=1.1),
            losses.BinaryCrossEntropy(**common),
            losses.Focal(**common, **focus, focal_floor=floor),
        ])
    )  # fmt: skip


@given(
    loss=settings(),
    seed=st.integers(0, 1000),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)),
    parts=st.sampled_from([1, 4, 9]),
    weighted=st.sampled_from([None, (1, 1), (1, 0), (0, 0)]),
    channels_last=st.booleans(),
    limit=st.sampled_from([1, 50, 1 << 16]),
)
def test_losses_and_gradients_equal_the_plain_ones(loss, seed, shape, parts, weighted, channels_last, limit):
    logits, counts, weight = batch(seed, shape, parts)
    if weighted is not None:
        weight = weight[:1] if weighted[0] else weight
        weight = weight[:, :1] if weighted[1] else weight
    if channels_last:
        logits = logits.contiguous(memory_format=torch.channels_last)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixel_sums, "CACHED", limit)
        assert_equal(loss, logits, counts, parts, None if weighted is None else weight)


@pytest.mark.parametrize("loss", [*SUMS, losses.DiceFocal(gamma=0.0), losses.DiceFocal(gamma=0.5), losses.Jaccard()])
@pytest.mark.parametrize("signs", ["right", "wrong"])
def test_certain_probabilities_of_exactly_zero_and_one_do_as_in_plain(loss, signs):
    _, counts, _ = batch(0, (2, 3, 8, 8), 1)
    order = torch.randperm(counts.numel(), generator=torch.Generator().manual_seed(1))
    sizes = torch.linspace(0, 120, counts.numel())[order].view_as(counts)
    logits = sizes * (2.0 * counts - 1) * (1 if signs == "right" else -1)
    assert {0.0, 1.0} <= set(logits.sigmoid().flatten().tolist())
    assert_equal(loss, logits, counts, 1)


@pytest.mark.parametrize("loss", [losses.Dice(), losses.Tversky(), losses.DiceFocal(alpha=0.3)], ids=repr)
def test_where_prediction_and_target_are_equal_the_slope_is_torchs(loss):
    counts = torch.tensor([0, 1, 2, 4], dtype=torch.uint8).view(1, 1, 2, 2).repeat(2, 1, 4, 4)
    assert_equal(loss, torch.zeros(counts.shape), counts, 4)  # 2 of 4 is the probability at 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("loss", SUMS, ids=repr)
def test_logits_of_any_precision_are_summed_in_single(loss, dtype):
    logits, counts, weight = batch(3, (2, 3, 16, 16), dtype=dtype)
    if isinstance(loss, losses.DiceTopK):  # of equal entropies, which few bits make many, torch picks some
        loss = replace(loss, k=1.0)
    assert loss.each(logits, counts, weight, 4).dtype == torch.float32
    assert_equal(loss, logits, counts, 4, weight, 1e-5 if dtype == torch.float64 else 2e-3)


def test_scaled_half_precision_gradients_do_not_underflow():
    """Slopes are computed with the scale on: those of a mean over many pixels are below what fp16 holds."""
    logits, counts, _ = batch(4, (1, 4, 256, 256), dtype=torch.float16)
    half, single = (part.detach().requires_grad_() for part in (logits, logits.float()))
    for leaf in (half, single):
        (2**16 * losses.BCEDice()(leaf, counts, parts=4)).backward()
    assert (single.grad / 2**16).half().count_nonzero() < 0.9 * single.grad.count_nonzero()
    torch.testing.assert_close(half.grad, single.grad.half(), rtol=2e-3, atol=1e-6)


def test_the_worst_pixels_that_are_equal_share_the_gradient():
    logits = torch.zeros(1, 1, 4, 5).requires_grad_()
    loss = losses.DiceTopK(k=0.25, dice_weight=0)
    value = loss(logits, torch.zeros(1, 1, 4, 5))
    value.backward()
    assert value.item() == pytest.approx(0.6931472)
    torch.testing.assert_close(logits.grad, torch.full((1, 1, 4, 5), 0.5 / 20))


def test_targets_may_be_shares_counts_or_flags():
    logits, counts, _ = batch(5, (2, 3, 8, 8), 1)
    loss = losses.DiceFocal()
    expected = loss.each(logits, counts)
    for targets in (counts.float(), counts.double(), counts.bool(), counts.half()):
        torch.testing.assert_close(loss.each(logits, targets), expected)
    torch.testing.assert_close(loss.each(logits, 9 * counts, None, 9), expected)


def test_outputs_of_deep_supervision_each_have_their_gradient():
    maps = [batch(seed, (2, 3, 8, 8))[0].requires_grad_() for seed in (6, 7)]
    _, counts, weight = batch(6, (2, 3, 8, 8))
    presence = torch.zeros(2, 3)
    loss = losses.DiceFocal(side_weight=0.3)
    loss(Outputs(tuple(maps), presence), counts, weight, 4).backward()
    for leaf, factor in zip(maps, (1.0, 0.3), strict=True):
        _, expected = gradient(lambda z: plainly(loss, z, counts.float() / 4, weight), leaf)  # weights 1 and 2
        parts = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1)
        torch.testing.assert_close(leaf.grad, factor * expected / parts / 2, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("loss", [*SUMS, losses.Dice(), losses.BinaryCrossEntropy(), losses.Focal()], ids=repr)
def test_at_most_three_single_precision_copies_of_the_logits_are_kept(loss):
    """The logits themselves included, and targets as bytes; half of that where logits are in half precision."""
    for dtype, copies in ((torch.float32, 1.25), (torch.bfloat16, 0.75)):
        logits, counts, weight = batch(8, (2, 5, 32, 32), dtype=dtype)
        single = 4 * logits.numel()
        of_images = weight[:, :1].clone()
        assert storage_kept(loss, logits, counts, None, 4) < (copies + 0.01) * single
        assert storage_kept(loss, logits, counts, of_images, 4) < (copies + 0.21) * single
        assert storage_kept(loss, logits, counts, weight, 4) < (copies + 1.01) * single
    assert storage_kept(loss, logits.float(), counts / 4, weight) < 3.01 * single


def storage_kept(loss, logits, *others):
    """Bytes of all storage that the graph keeps for the backward pass."""
    sizes = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss(logits.detach().requires_grad_(), *others)
    return sum(sizes.values())


@pytest.mark.parametrize("loss", SUMS, ids=repr)
def test_the_plain_losses_keep_more_than_twice_as_much(loss):
    """What the test above counts is not always small."""
    logits, counts, _ = batch(8, (2, 5, 32, 32))
    kept = storage_kept(loss, logits, counts, None, 4)
    assert storage_kept(partial(plainly, loss), logits, counts / 4) > 2 * kept


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("weighted", [False, True])
def test_slopes_equal_finite_differences(gamma, weighted):
    logits, counts, weight = batch(9, (2, 2, 3, 3), dtype=torch.float64, spread=2.0)
    labels = Labels(counts, weight if weighted else None, 4)
    worst = WorstEntropy.of(logits, labels, 0.4, 0.1)
    worst = replace(worst, threshold=worst.threshold + 1e-3)  # between two pixels, where the choice is sure
    terms = (Areas.of(labels, 0.2), FocalEntropy(gamma, 0.3, 0.1))
    assert torch.autograd.gradcheck(lambda z: pixel_sums.pixel_sums(z, labels, *terms), logits.requires_grad_())
    assert torch.autograd.gradcheck(lambda z: pixel_sums.pixel_sums(z, labels, worst)[0], logits)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_blocks_are_shared_out_among_torchs_threads_which_stay_as_many(threads, monkeypatch):
    monkeypatch.setattr(pixel_sums, "CACHED", 64)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        logits, counts, weight = batch(10, (3, 2, 16, 8))
        for loss in SUMS:
            assert_equal(loss, logits, counts, 4, weight)
        assert torch.get_num_threads() == threads
        with pytest.raises(ZeroDivisionError):
            pixel_sums.shared_out(lambda some: 1 // 0, logits)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("loss", SUMS, ids=repr)
def test_steps_of_other_devices_have_the_same_shapes(loss):
    """On the meta device, which takes the steps of a GPU without calculating."""
    logits = torch.empty(2, 3, 16, 16, device="meta", dtype=torch.bfloat16, requires_grad=True)
    counts = torch.empty(2, 3, 16, 16, device="meta", dtype=torch.uint8)
    values = loss.each(logits, counts, None, 4)
    values.sum().backward()
    assert values.shape == (2,) and values.dtype == torch.float32
    assert logits.grad.shape == logits.shape and logits.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("loss", SUMS, ids=repr)
def test_mixed_precision_leaves_the_loss_in_single(loss):
    logits, counts, weight = batch(13, (2, 3, 8, 8), dtype=torch.bfloat16)
    expected = gradient(lambda z: loss.each(z, counts, weight, 4), logits)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = gradient(lambda z: loss.each(z, counts, weight, 4), logits)
    torch.testing.assert_close(mixed, expected)


def test_a_second_derivative_is_refused_and_not_wrong():
    logits, counts, _ = batch(14, (1, 2, 4, 4))
    (slope,) = torch.autograd.grad(SUMS[0](logits.requires_grad_(), counts), logits, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def test_not_a_number_stays_one():
    logits, counts, _ = batch(11, (1, 2, 4, 4))
    logits[0, 0, 0, 0] = torch.nan
    for loss in SUMS:
        assert loss(logits, counts, parts=4).isnan()


@pytest.mark.parametrize("loss", [*SUMS[:2], losses.Focal()], ids=repr)
def test_losses_compile_into_one_graph(loss):
    logits, counts, weight = batch(12, (2, 3, 8, 8))
    compiled = torch.compile(lambda z: loss.each(z, counts, weight, 4), backend="aot_eager", fullgraph=True)
    expected = gradient(lambda z: loss.each(z, counts, weight, 4), logits)
    torch.testing.assert_close(gradient(compiled, logits), expected, rtol=1e-5, atol=1e-7)
