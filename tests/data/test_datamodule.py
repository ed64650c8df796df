import numpy as np
import pytest
import torch
import yaml

from bonepipe.config import conf_dir
from bonepipe.data.augment import Augmentation
from bonepipe.data.catalog import train_images
from bonepipe.data.datamodule import EpochSampler, FoldData
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


def test_pixel_weights_are_those_of_the_augmented_labels_and_travel_to_loader_processes(chest):
    weights = Dice(boundary=Boundary(weight=4, sigma=2)).pixel_weights(5)
    batches = epoch(fold_data(chest, weights=weights), 1)
    for batch in batches:
        expected = [boundary.weight_map(planes, 5, 4, 2) for planes in batch["planes"].numpy()]
        np.testing.assert_array_equal(batch["weight"].numpy()[:, 0], np.stack(expected))
        assert batch["weight"].max() > 2
    assert same(batches, epoch(fold_data(chest, workers=2, weights=weights), 1))
    assert "weight" not in epoch(fold_data(chest), 1)[0]
