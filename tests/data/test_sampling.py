import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bonepipe.data.sampling import EpochSampler, SamplerSpec, bounded, describe_draws, draw_weights

TRAINING = (1, 2, 4, 5, 7, 8, 10)


def test_each_epoch_is_a_permutation_with_seeds_of_its_own():
    sampler = EpochSampler(TRAINING, 0)
    draws = []
    for number in range(5):
        sampler.set_epoch(number)
        draws.append(list(sampler))
        assert sorted(index for index, _ in draws[-1]) == sorted(TRAINING)
    assert len(sampler) == len(TRAINING)
    assert len({tuple(index for index, _ in drawn) for drawn in draws}) > 1
    assert len({seed for drawn in draws for _, seed in drawn}) == 5 * len(TRAINING)


def test_draws_are_a_function_of_seed_and_epoch():
    first, resumed = EpochSampler(TRAINING, 4), EpochSampler(TRAINING, 4)
    for number in range(3):
        first.set_epoch(number)
        list(first)
    resumed.set_epoch(2)
    np.random.seed(0)
    assert list(resumed) == list(first) == list(first)
    other = EpochSampler(TRAINING, 5)
    other.set_epoch(2)
    assert list(other) != list(first)


RARE = (2, 7)  # of the training images


def weighted(seed=0, factor=6.0, indices=TRAINING):
    return EpochSampler(indices, seed, np.array([factor if index in RARE else 1.0 for index in indices]))


def drawn(sampler, numbers):
    for number in numbers:
        sampler.set_epoch(number)
        yield from sampler


def test_the_plain_sampler_draws_what_it_always_drew():
    """The very order and seeds of numpy's permutation and integers, by (seed, epoch)."""
    for seed, number in ((0, 0), (21, 3)):
        generator = np.random.default_rng((seed, number))
        expected = zip(generator.permutation(TRAINING), generator.integers(2**31, size=len(TRAINING)), strict=True)
        sampler = EpochSampler(TRAINING, seed)
        sampler.set_epoch(number)
        assert list(sampler) == list(expected)


def test_weighted_draws_come_up_in_proportion():
    """Pearson's chi-square over 1000 epochs of 7 draws stays below the 99.9% point for 6 degrees of freedom."""
    sampler = weighted()
    counts = np.bincount([index for index, _ in drawn(sampler, range(1000))], minlength=max(TRAINING) + 1)
    shares = np.array([6.0 if index in RARE else 1.0 for index in TRAINING]) / (2 * 6 + 5)
    expected = 7000 * shares
    assert counts.sum() == 7000
    assert ((counts[list(TRAINING)] - expected) ** 2 / expected).sum() < 22.46
    flat = np.full(7, 1000)
    assert ((counts[list(TRAINING)] - flat) ** 2 / flat).sum() > 1000


def test_a_weighted_epoch_is_as_long_and_repeats_images_with_other_seeds():
    sampler = weighted()
    draws = list(drawn(sampler, [4]))
    assert len(sampler) == len(draws) == len(TRAINING)
    assert len({index for index, _ in draws}) < len(draws)
    assert len({seed for _, seed in draws}) == len(draws)


def test_weighted_draws_are_a_function_of_seed_and_epoch():
    first, resumed = weighted(4), weighted(4)
    whole = [list(drawn(first, [number])) for number in range(4)]
    np.random.seed(0)
    assert list(drawn(resumed, [3])) == whole[3] == list(drawn(first, [3]))
    assert list(drawn(weighted(5), [3])) != whole[3]
    assert list(drawn(weighted(4, factor=12.0), [3])) == list(drawn(EpochSampler(TRAINING, 4, first.shares * 0 + [
        12.0 if index in RARE else 1.0 for index in TRAINING
    ]), [3]))  # fmt: skip


def test_a_fixed_sampler_draws_the_same_batches_every_epoch():
    free, fixed = (EpochSampler(range(9), 4, fixed=flag) for flag in (False, True))
    draws = {flag: [] for flag in (False, True)}
    for epoch in range(3):
        for flag, sampler in ((False, free), (True, fixed)):
            sampler.set_epoch(epoch)
            draws[flag].append(list(sampler))
    assert draws[True] == [draws[False][0]] * 3
    assert draws[False][1] != draws[False][0]


def test_a_stretched_sampler_repeats_images_and_keeps_their_proportions():
    sampler = EpochSampler(TRAINING, 0)
    sampler.stretch(17)
    assert len(sampler) == 17
    assert sorted(index for index, _ in sampler) == sorted([*TRAINING, *TRAINING, *TRAINING[:3]])
    heavy = weighted()
    heavy.stretch(14)
    assert heavy.shares.sum() == pytest.approx(1)
    assert heavy.shares[:7] == pytest.approx(weighted().shares / 2)
    assert len(list(heavy)) == 14


def test_weights_to_the_test_sets_mix_and_by_factors():
    labels = ["rotated"] * 2 + ["straight"] * 8
    mix = {"rotated": 0.6, "straight": 0.4}
    assert draw_weights(SamplerSpec(), labels, mix) is None
    assert draw_weights(SamplerSpec(balance="test"), labels, mix) == pytest.approx([3.0] * 2 + [0.5] * 8)
    assert draw_weights(SamplerSpec(balance={"rotated": 4.0}), labels, {}).tolist() == [4.0] * 2 + [1.0] * 8
    for spec, shares in ((SamplerSpec(balance="test"), {"bent": 1.0}), (SamplerSpec(balance={"bent": 2.0}), mix)):
        with pytest.raises(ValueError, match="balance: no training image is of the stratum bent; there are rotated, "):
            draw_weights(spec, labels, shares)


def test_every_image_can_be_drawn_and_none_all_the_time():
    """Strata that the test set lacks, and a lone image of one that is frequent there."""
    labels = ["unknown"] * 12 + ["straight"] * 9 + ["rotated"]
    mix = {"rotated": 0.2, "straight": 0.8}
    free = draw_weights(SamplerSpec(balance="test", floor=0, cap=100), labels, mix)
    assert (free[:12] == 0).all()
    assert free[-1] == pytest.approx(0.2 * 22)
    weights = draw_weights(SamplerSpec(balance="test"), labels, mix)
    assert weights.mean() == pytest.approx(1)
    assert weights[:12] == pytest.approx([0.25] * 12)
    assert weights[-1] == pytest.approx(3)
    assert weights[12:21] == pytest.approx([(22 - 12 * 0.25 - 3) / 9] * 9)
    told = describe_draws(weights, labels)
    assert told.startswith("22 of 22 images can be drawn, the most-drawn one 3.00 times an epoch on average (")
    assert "rotated 1 images 3.00 times" in told
    assert describe_draws(free, labels).startswith("10 of 22 images can be drawn, the most-drawn one 4.40 times")


@settings(max_examples=200, deadline=None)
@given(
    weights=st.lists(st.sampled_from([0.0, 0.01, 0.5, 1.0, 7.0, 300.0]), min_size=1, max_size=12).filter(any),
    floor=st.sampled_from([0.0, 0.1, 0.25, 1.0]),
    cap=st.sampled_from([1.0, 1.5, 3.0, 100.0]),
)
def test_bounded_weights_keep_their_mean_and_order_and_the_limits(weights, floor, cap):
    weights = np.array(weights)
    result, mean = bounded(weights, floor, cap), weights.mean()
    drawable = (weights > 0) | (floor > 0)
    assert ((result > 0) == drawable).all()
    assert (np.diff(result[np.argsort(weights)]) >= -1e-9 * mean).all()
    assert (result >= floor * mean * (1 - 1e-9)).all()
    if cap * drawable.mean() >= 1:  # enough of them can be drawn
        assert result.mean() == pytest.approx(mean)
        assert (result <= cap * mean * (1 + 1e-9)).all()
        assert bounded(result, floor, cap) == pytest.approx(result)
    if floor * mean <= weights.min() and weights.max() <= cap * mean:
        assert (result == weights).all()


@pytest.mark.parametrize(
    "settings",
    [
        {"floor": -0.1},
        {"floor": 1.1},
        {"cap": 0.9},
        {"cap": float("nan")},
        {"foreground": 1.5},
        {"foreground": -0.1},
        {"balance": {}},
        {"balance": {"a": 0}},
    ],
)
def test_samplers_that_make_no_sense_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        SamplerSpec(**settings)
