import numpy as np
import pytest
import torch
import yaml

from bonepipe.config import conf_dir
from bonepipe.data.augment import Augmentation
from bonepipe.data.catalog import train_images
from bonepipe.data.datamodule import EpochSampler, FoldData, SamplerSpec, TrainingImages, draw_weights
from bonepipe.data.spec import DataSpec
from bonepipe.data.store import open_store
from bonepipe.labels import boundary
from bonepipe.training.losses import Boundary, Dice

RECIPE = [{"name": "HorizontalFlip"}, {"name": "Affine", "rotate": [-30, 30], "p": 1.0}]
TRAINING, VALIDATION = (1, 2, 4, 5, 7, 8, 10), (0, 3, 6, 9)


@pytest.fixture(scope="module")
def chest(chest_root, tmp_path_factory):
    """The chests, whose classes swap when mirrored: the recipe's hardest case for loader processes."""
    node = yaml.safe_load((conf_dir() / "data/chest.yaml").read_text())
    swaps = {axis: [tuple(pair) for pair in pairs] for axis, pairs in node["swaps"].items()}
    spec = DataSpec(name="chest", root=str(chest_root), classes=tuple(node["classes"]), size=(48, 64), swaps=swaps)
    return spec, open_store(train_images(spec), spec, tmp_path_factory.mktemp("store"))


def fold_data(chest, workers=0, seed=3, transforms=RECIPE, weights=None):
    spec, store = chest
    recipe = Augmentation(spec, transforms=transforms)
    return FoldData(
        store, TRAINING, VALIDATION, recipe, batch_size=3, workers=workers, seed=seed, pixel_weights=weights
    )


def epoch(data, number):
    data.sampler.set_epoch(number)
    return list(data.train_dataloader())


def same(one, other):
    pairs = list(zip(one, other, strict=True))
    return all(torch.equal(a[key], b[key]) for a, b in pairs for key in a.keys() | b.keys())


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


def test_training_batches(chest):
    batches = epoch(fold_data(chest), 0)
    assert [len(batch["index"]) for batch in batches] == [3, 3, 1]
    assert batches[0]["image"].shape == (3, 48, 64)
    assert batches[0]["planes"].shape == (3, 48, 64, 1)
    assert [batches[0][key].dtype for key in ("image", "planes", "index")] == [torch.uint8, torch.uint8, torch.int64]
    assert sorted(torch.cat([batch["index"] for batch in batches]).tolist()) == list(TRAINING)


def test_an_epoch_can_be_repeated_and_differs_from_the_next(chest):
    data = fold_data(chest)
    first = epoch(data, 1)
    second = epoch(data, 2)
    assert same(first, epoch(data, 1))
    assert not same(first, second)
    assert not same(first, epoch(fold_data(chest, seed=4), 1))


def test_the_recipe_is_applied_to_the_stored_arrays(chest):
    spec, store = chest
    data, recipe = fold_data(chest), Augmentation(spec, transforms=RECIPE)
    data.sampler.set_epoch(2)
    draws = list(data.sampler)
    batches = epoch(data, 2)
    images, planes = (torch.cat([batch[key] for batch in batches]).numpy() for key in ("image", "planes"))
    for row, (index, seed) in enumerate(draws):
        image, labels = recipe(np.array(store.images[index]), np.array(store.planes[index]), seed)
        assert (images[row] == image).all()
        assert (planes[row] == labels).all()


def test_loader_processes_change_nothing(chest):
    alone, helped = fold_data(chest), fold_data(chest, workers=2)
    loader = helped.train_dataloader()
    for number in (0, 1):  # the second epoch runs in the processes of the first
        helped.sampler.set_epoch(number)
        assert same(list(loader), epoch(alone, number))


def test_validation_is_in_order_and_never_augmented(chest):
    _, store = chest
    data = fold_data(chest, transforms=[*RECIPE, {"name": "InvertImg", "p": 1.0}])
    batches = list(data.val_dataloader())
    assert torch.cat([batch["index"] for batch in batches]).tolist() == list(VALIDATION)
    assert batches[0].keys() == {"image", "index"}
    images = torch.cat([batch["image"] for batch in batches]).numpy()
    assert images.dtype == np.uint8
    assert (images == store.images[list(VALIDATION)]).all()


def test_the_store_is_never_written(chest):
    _, store = chest
    before = np.array(store.images), np.array(store.planes)
    epoch(fold_data(chest, transforms=[*RECIPE, {"name": "Erasing", "p": 1.0}]), 0)
    assert (store.images == before[0]).all()
    assert (store.planes == before[1]).all()


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


def test_loader_processes_change_nothing_in_weighted_batches(chest):
    spec, store = chest
    recipe = Augmentation(
        spec, transforms=[*RECIPE, {"name": "RandomCrop", "height": 12, "width": 12}, {"name": "Resize"}]
    )
    rates = np.array([5.0 if index in RARE else 1.0 for index in TRAINING])
    alone, helped = (
        FoldData(
            store, TRAINING, VALIDATION, recipe,
            batch_size=3, workers=workers, seed=3, weights=rates, foreground=0.8,
        )
        for workers in (0, 2)
    )  # fmt: skip
    loader = helped.train_dataloader()
    for number in (0, 1):
        helped.sampler.set_epoch(number)
        assert same(list(loader), epoch(alone, number))


def test_weights_to_the_test_sets_mix_and_by_factors():
    labels = ["rotated"] * 2 + ["straight"] * 8
    mix = {"rotated": 0.6, "straight": 0.4}
    assert draw_weights(SamplerSpec(), labels, mix) is None
    assert draw_weights(SamplerSpec(balance="test"), labels, mix) == pytest.approx([3.0] * 2 + [0.5] * 8)
    assert draw_weights(SamplerSpec(balance={"rotated": 4.0}), labels, {}).tolist() == [4.0] * 2 + [1.0] * 8
    for spec, shares in ((SamplerSpec(balance="test"), {"bent": 1.0}), (SamplerSpec(balance={"bent": 2.0}), mix)):
        with pytest.raises(ValueError, match="balance: no training image is of the stratum bent; there are rotated, "):
            draw_weights(spec, labels, shares)


@pytest.mark.parametrize(
    "settings", [{"foreground": 1.5}, {"foreground": -0.1}, {"balance": {}}, {"balance": {"a": 0}}]
)
def test_samplers_that_make_no_sense_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        SamplerSpec(**settings)


CORNER = [
    {"name": "Crop", "x_max": 24, "y_max": 18, "p": 1.0},
    {"name": "RandomCrop", "height": 6, "width": 6, "p": 1.0},
    {"name": "Resize"},
]  # of the chests, most of which shows no class


def empty_share(chest, foreground, draws=400):
    """The share of crops of a corner of a chest that show no class."""
    spec, store = chest
    crops = TrainingImages(store, Augmentation(spec, transforms=CORNER), foreground)
    return np.mean([not crops[1, seed]["planes"].any() for seed in range(draws)])


def test_crops_without_foreground_are_skipped_with_the_given_probability(chest):
    """Of crops empty with probability q, k are skipped with probability (q p)^k, but never the last of the eight."""
    q = empty_share(chest, 0.0)
    assert 0.3 < q < 0.9
    for p in (0.5, 0.9, 1.0):
        expected = q * (1 - p) * sum((q * p) ** k for k in range(7)) + q * (q * p) ** 7
        assert empty_share(chest, p) == pytest.approx(expected, abs=0.06)
        assert expected < q - 0.1


def test_skipping_leaves_crops_with_foreground_as_they_were(chest):
    spec, store = chest
    recipe = Augmentation(spec, transforms=CORNER)
    plain, skipping = TrainingImages(store, recipe), TrainingImages(store, recipe, 1.0)
    for seed in range(30):
        before, after = plain[1, seed], skipping[1, seed]
        if before["planes"].any():
            assert all(np.array_equal(before[key], after[key]) for key in before)
        assert np.array_equal(after["image"], skipping[1, seed]["image"])


def test_pixel_weights_are_those_of_the_augmented_labels_and_travel_to_loader_processes(chest):
    weights = Dice(boundary=Boundary(weight=4, sigma=2)).pixel_weights(5)
    batches = epoch(fold_data(chest, weights=weights), 1)
    for batch in batches:
        expected = [boundary.weight_map(planes, 5, 4, 2) for planes in batch["planes"].numpy()]
        np.testing.assert_array_equal(batch["weight"].numpy()[:, 0], np.stack(expected))
        assert batch["weight"].max() > 2
    assert same(batches, epoch(fold_data(chest, workers=2, weights=weights), 1))
    assert "weight" not in epoch(fold_data(chest), 1)[0]
