import numpy as np
import pytest

from bonepipe.inference.crossfit import Split
from bonepipe.inference.ensemble import members
from bonepipe.inference.ensemble.library import Band, join_images, split_pixels
from bonepipe.inference.ensemble.selection import (
    Library,
    Search,
    by_size,
    reduced,
    select,
    select_per_class,
    singles_and_pairs,
    to_ensemble,
)

FOLDS = Split(np.arange(20) % 4, np.arange(20))
SIZE = 24


def discs(count, labels, rng):
    """True masks bool [N, C, 24, 24]."""
    y, x = np.mgrid[:SIZE, :SIZE]
    centre, radius = rng.uniform(9, 15, (2, count, labels, 1, 1)), rng.uniform(5, 8, (count, labels, 1, 1))
    return np.hypot(y - centre[0], x - centre[1]) < radius


def noisy(truth, rng, noise, where=None):
    """A run [N, C, h, w] that is right but for noise on the logits; outside `where` it is undecided, slightly wrong."""
    logits = np.where(truth, 1.5, -1.5) + rng.normal(0, noise, truth.shape)
    if where is not None:
        logits = np.where(where, logits, np.where(truth, -0.3, 0.3))
    return (256 / (1 + np.exp(-logits))).astype(np.uint8)


def library(truth, runs, thresholds=(128,)):
    bytes_ = np.stack(runs, 2).astype(np.uint16)  # [N, C, M, h, w]
    levels = np.where(bytes_, bytes_ * 256 + 128, 0).astype(np.uint16)  # the middles of their bins
    band = Band(min(thresholds), max(thresholds))
    joints = []
    for label in range(truth.shape[1]):
        pairs = zip(levels[:, label], truth[:, label], strict=True)
        joints.append(join_images([split_pixels(one, true, int(true.sum()), band) for one, true in pairs]))
    return Library(joints, thresholds)


def mean_dice(truth, maps, counts, k=128):
    """Mean Dice of a mixture from whole frames."""
    values = np.where(np.stack(maps) > 0, np.stack(maps) + 0.5, 0)
    mask = np.tensordot(counts, values, 1) >= k * sum(counts)
    both, areas = (mask & truth).sum((2, 3)), mask.sum((2, 3)) + truth.sum((2, 3))
    return ((2 * both + 1e-4) / (areas + 1e-4)).mean()


ALL = np.ones(20, bool)


@pytest.fixture(scope="module")
def truth():
    return discs(20, 2, np.random.default_rng(0))


@pytest.fixture(scope="module")
def complementary(truth):
    """A middling run, and two weak ones, each sure and right in one half and a little wrong in the other."""
    rng, left = np.random.default_rng(1), np.arange(SIZE) < 12
    return [noisy(truth, rng, 1.7), noisy(truth, rng, 0.2, left), noisy(truth, rng, 0.2, ~left)]


def test_two_weak_runs_that_complete_each_other_beat_the_best_single(truth, complementary):
    runs = library(truth, complementary)
    alone = [runs.dice(counts, [0, 1], ALL).mean() for counts in singles_and_pairs(3)[:3]]
    assert alone[0] > max(alone[1:]) + 0.03
    choice = select(runs, [0, 1], FOLDS, Search())
    assert choice.best == (1, 0, 0)
    assert choice.counts == (0, 1, 1)
    expected = mean_dice(truth, complementary, (0, 1, 1)) - mean_dice(truth, complementary, (1, 0, 0))
    assert choice.promised == pytest.approx(expected, abs=1e-6)
    assert choice.gain == pytest.approx(expected, abs=1e-6)  # the choice is clear in every fold
    assert choice.gain > 10 * choice.error > 0
    assert choice.dice.mean() == pytest.approx(mean_dice(truth, complementary, (0, 1, 1)), abs=1e-6)


def slow_path(truth, maps, steps):
    """Caruana's search, on whole frames."""
    units = np.eye(len(maps), dtype=int)
    path = [max(units, key=lambda unit: mean_dice(truth, maps, unit))]
    while path[-1].sum() < steps:
        best = max((path[-1] + unit for unit in units), key=lambda counts: mean_dice(truth, maps, counts))
        if mean_dice(truth, maps, best) <= mean_dice(truth, maps, path[-1]) + 1e-12:
            break
        path.append(best)
    return [tuple(counts.tolist()) for counts in path]


@pytest.mark.parametrize("seed", range(3))
def test_the_greedy_path_equals_a_slow_one(truth, seed):
    rng = np.random.default_rng(seed)
    maps = [noisy(truth, rng, noise) for noise in (1.2, 1.4, 1.6)]
    path = Search(steps=7).path(library(truth, maps), [0, 1], ALL)
    assert path == slow_path(truth, maps, 7)
    assert len(path) > 2


def test_ties_go_to_the_simpler(truth):
    run = noisy(truth, np.random.default_rng(2), 1.0)
    runs = library(truth, [run, run, run])
    assert Search(margin=0.0).path(runs, [0, 1], ALL) == [(1, 0, 0)]
    choice = select(runs, [0, 1], FOLDS, Search(margin=0.0))
    assert choice.counts == choice.tried == (1, 0, 0)
    assert (choice.promised, choice.gain, choice.error) == (0, 0, 0)


def test_gains_below_the_margin_go_to_the_simpler(truth):
    rng = np.random.default_rng(3)
    runs = library(truth, [noisy(truth, rng, 1.2) for _ in range(4)])
    sizes = {margin: sum(map(bool, select(runs, [0, 1], FOLDS, Search(margin=margin)).counts)) for margin in (0, 1e6)}
    assert sizes[1e6] == 1 < sizes[0]


def test_a_useless_run_is_not_chosen(truth):
    rng = np.random.default_rng(4)
    useless = rng.integers(0, 256, truth.shape).astype(np.uint8)
    maps = [noisy(truth, rng, 1.2), useless, noisy(truth, rng, 1.2)]
    choice = select(library(truth, maps), [0, 1], FOLDS, Search())
    assert choice.counts[1] == 0
    assert choice.counts[0]
    assert choice.counts[2]


def test_what_noise_promises_is_not_gained_on_other_folds():
    """Truth and bytes are drawn at random, so every mixture holds half of the pixels and none is worth more."""
    promised, gains, kept = [], [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        truth = rng.random((20, 1, 5, 6)) < 0.5
        maps = [rng.integers(0, 256, truth.shape).astype(np.uint8) for _ in range(5)]
        for margin in (0.0, 2.0):
            choice = select(library(truth, maps), [0], FOLDS, Search(steps=4, margin=margin))
            if margin:
                kept.append(choice.counts != choice.best)
            else:
                promised.append(choice.promised)
                gains.append(choice.gain)
    assert np.mean(promised) > 0.01
    assert abs(np.mean(gains)) < 2.5 * np.std(gains) / np.sqrt(40)
    assert np.mean(kept) <= 0.1


def test_one_fold_and_one_image_take_the_best_single_run(truth, complementary):
    for count in (20, 1):
        runs = library(truth[:count], [run[:count] for run in complementary])
        choice = select(runs, [0, 1], Split(np.zeros(count, int), np.arange(count)), Search())
        assert sum(choice.counts) == 1
        assert choice.gain == 0
        assert np.isfinite(choice.dice).all()


def test_a_class_has_its_own_mixture_only_where_that_gains(truth):
    """The first run is better in class 0 and 2, the second in class 1; class 3 does not care."""
    rng, truth = np.random.default_rng(5), np.concatenate([truth, truth[:, ::-1]], 1)
    noise = np.array([[0.5, 4.0, 0.5, 0.6], [4.0, 0.5, 4.0, 0.6]])[:, None, :, None, None]
    maps = [noisy(truth, rng, 1.0 * sigma) for sigma in noise]
    runs = library(truth, maps)
    search = Search(steps=1)
    common = select(runs, range(4), FOLDS, search)
    own = select_per_class(runs, common, FOLDS, search)
    assert common.counts == (1, 0)
    assert own.differs.tolist() == [False, True, False, False]
    assert own.counts == [(1, 0), (0, 1), (1, 0), (1, 0)]
    assert own.gain[1] > 0.1
    assert abs(own.gain[3]) < 0.02
    assert own.dice.mean() == pytest.approx(common.dice.mean() + own.gain[1] / 4)


def test_thresholds_are_the_best_for_each_class_on_other_folds(truth):
    """A run that is too shy: right at 0.25, empty at 0.5."""
    maps = [np.where(truth, 90, 20).astype(np.uint8), noisy(truth, np.random.default_rng(6), 1.5)]
    plain, tuned = library(truth, maps), library(truth, maps, (64, 128, 192))
    assert select(plain, [0, 1], FOLDS, Search()).best == (0, 1)
    choice = select(tuned, [0, 1], FOLDS, Search())
    assert choice.best == choice.counts == (1, 0)
    np.testing.assert_allclose(choice.dice, 1)
    assert tuned.dice((0, 1), [0, 1], ALL).mean() >= plain.dice((0, 1), [0, 1], ALL).mean()


def test_mixtures_in_smallest_numbers():
    assert reduced((4, 0, 2)) == (2, 0, 1)
    assert reduced((0, 3)) == (0, 1)
    assert singles_and_pairs(3) == [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1)]


@pytest.mark.parametrize(("settings", "message"), [({"steps": 0}, "steps=0"), ({"margin": -1.0}, "margin=-1")])
def test_wrong_settings_of_the_search_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Search(**settings)


@pytest.mark.parametrize(
    ("chosen", "entries"),
    [
        ([(1, 0)] * 3, 1),
        ([(4, 2)] * 3, 2),
        ([(0, 1), (1, 0), (1, 0)], 2),
        ([(1, 0), (2, 1), (0, 3)], 2),
        ([(2, 1), (1, 0), (2, 4)], 4),
    ],
)
def test_the_ensembles_weights_are_the_mixtures(tmp_path, chosen, entries):
    classes = ("a", "b", "c")
    members.write(tmp_path / "e.yaml", to_ensemble(["runs/x", "runs/y"], chosen, classes))
    ensemble = members.read(tmp_path / "e.yaml")
    weights = np.zeros((2, 3))
    for entry, row in zip(ensemble.members, ensemble.weights(classes), strict=True):
        weights["xy".index(entry.run[-1])] += row
    np.testing.assert_allclose(weights, np.transpose(chosen) / np.sum(chosen, 1))
    assert len(ensemble.members) == entries


def test_dice_by_size_counts_thirds_of_the_masks_that_are_there():
    y, x = np.mgrid[:SIZE, :SIZE]
    radii = np.array([3, 6, 11] * 6)
    truth = (np.hypot(y - 12, x - 12) < radii[:, None, None])[:, None]
    truth = np.concatenate([truth, np.zeros_like(truth)], 1)  # a class that no image has
    blind = np.where(truth & (radii < 5)[:, None, None, None], 0, np.where(truth, 200, 0)).astype(np.uint8)
    first, second = by_size(library(truth, [blind, np.where(truth, 255, 0).astype(np.uint8)]))
    assert first == pytest.approx({"small": 0, "medium": 1, "large": 1}, abs=1e-4)
    assert second == {"small": 1, "medium": 1, "large": 1}
