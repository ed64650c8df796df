import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from pytorch_lightning.utilities import move_data_to_device
from torch.utils.data._utils.pin_memory import pin_memory

from bonepipe.data.augment import Augmentation
from bonepipe.data.catalog import test_images as find_test_images
from bonepipe.data.cohort import Cohort
from bonepipe.data.datamodule import FoldDataModule
from bonepipe.data.folds import FoldSpec
from bonepipe.data.image import read_grey, resize_grey
from bonepipe.data.region import Region
from bonepipe.data.sampling import SamplerSpec
from bonepipe.data.strata import StrataSpec
from bonepipe.errors import BonepipeError
from bonepipe.labels import boundary
from bonepipe.labels.cutout import to_mask
from bonepipe.training.losses import Boundary, Dice

RECIPE = [{"name": "HorizontalFlip"}, {"name": "Affine", "rotate": [-30, 30], "p": 1.0}]
TRAINING, VALIDATION = (1, 2, 4, 5, 7, 8, 10), (0, 3, 6, 9)


@pytest.fixture
def fold_data(chest, stored_cohort):
    """Make the data of a fold of the chests, set up to fit."""
    spec, store = chest

    def make(workers=0, seed=3, transforms=RECIPE, rates=None, **more):
        cohort = stored_cohort(store, TRAINING, VALIDATION, weights=rates)
        recipe = Augmentation(spec, transforms=transforms)
        data = FoldDataModule(cohort, 0, recipe, batch_size=3, workers=workers, seed=seed, **more)
        data.setup("fit")
        return data

    return make


def epoch(data, number):
    data.sampler.set_epoch(number)
    return list(data.train_dataloader())


def same(one, other):
    pairs = list(zip(one, other, strict=True))
    return all(torch.equal(a[key], b[key]) for a, b in pairs for key in a.keys() | b.keys())


def test_training_batches(fold_data):
    batches = epoch(fold_data(), 0)
    assert [len(batch["index"]) for batch in batches] == [3, 3, 1]
    assert batches[0]["image"].shape == (3, 48, 64)
    assert batches[0]["planes"].shape == (3, 48, 64, 1)
    assert [batches[0][key].dtype for key in ("image", "planes", "index")] == [torch.uint8, torch.uint8, torch.int64]
    assert sorted(torch.cat([batch["index"] for batch in batches]).tolist()) == list(TRAINING)


def test_an_epoch_can_be_repeated_and_differs_from_the_next(fold_data):
    data = fold_data()
    first = epoch(data, 1)
    second = epoch(data, 2)
    assert same(first, epoch(data, 1))
    assert not same(first, second)
    assert not same(first, epoch(fold_data(seed=4), 1))


def test_the_recipe_is_applied_to_the_stored_arrays(chest, fold_data):
    spec, store = chest
    data, recipe = fold_data(), Augmentation(spec, transforms=RECIPE)
    data.sampler.set_epoch(2)
    draws = list(data.sampler)
    batches = epoch(data, 2)
    images, planes = (torch.cat([batch[key] for batch in batches]).numpy() for key in ("image", "planes"))
    for row, (index, seed) in enumerate(draws):
        image, labels = recipe(np.array(store.images[index]), np.array(store.planes[index]), seed)
        assert (images[row] == image).all()
        assert (planes[row] == labels).all()


def test_loader_processes_change_nothing(fold_data):
    alone, helped = fold_data(), fold_data(workers=2)
    loader = helped.train_dataloader()
    for number in (0, 1):  # the second epoch runs in the processes of the first
        helped.sampler.set_epoch(number)
        assert same(list(loader), epoch(alone, number))


def test_validation_is_in_order_and_never_augmented(chest, fold_data):
    _, store = chest
    data = fold_data(transforms=[*RECIPE, {"name": "InvertImg", "p": 1.0}])
    batches = list(data.val_dataloader())
    assert torch.cat([batch["index"] for batch in batches]).tolist() == list(VALIDATION)
    assert batches[0].keys() == {"image", "shape", "index", "truth"}
    images = torch.cat([batch["image"] for batch in batches]).numpy()
    assert images.dtype == np.uint8
    assert (images == store.images[list(VALIDATION)]).all()


def test_the_store_is_never_written(chest, fold_data):
    _, store = chest
    before = np.array(store.images), np.array(store.planes)
    epoch(fold_data(transforms=[*RECIPE, {"name": "Erasing", "p": 1.0}]), 0)
    assert (store.images == before[0]).all()
    assert (store.planes == before[1]).all()


def test_loader_processes_change_nothing_in_weighted_batches(fold_data):
    crop = [*RECIPE, {"name": "RandomCrop", "height": 12, "width": 12}, {"name": "Resize"}]
    rates = np.array([5.0 if index in (2, 7) else 1.0 for index in TRAINING])
    sampler = SamplerSpec(foreground=0.8)
    alone, helped = (fold_data(workers, transforms=crop, rates=rates, sampler=sampler) for workers in (0, 2))
    loader = helped.train_dataloader()
    for number in (0, 1):
        helped.sampler.set_epoch(number)
        assert same(list(loader), epoch(alone, number))


def test_pixel_weights_are_those_of_the_augmented_labels_and_travel_to_loader_processes(fold_data):
    weights = Dice(boundary=Boundary(weight=4, sigma=2)).pixel_weights(5)
    batches = epoch(fold_data(pixel_weights=weights), 1)
    for batch in batches:
        expected = [boundary.weight_map(planes, 5, 4, 2) for planes in batch["planes"].numpy()]
        np.testing.assert_array_equal(batch["weight"].numpy()[:, 0], np.stack(expected))
        assert batch["weight"].max() > 2
    assert same(batches, epoch(fold_data(workers=2, pixel_weights=weights), 1))
    assert "weight" not in epoch(fold_data(), 1)[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_validation_batches_bring_the_annotated_masks_at_the_original_size(chest, fold_data, workers):
    _, store = chest
    found = [truth for batch in fold_data(workers).val_dataloader() for truth in batch["truth"]]
    assert len(found) == len(VALIDATION)
    for index, truth in zip(VALIDATION, found, strict=True):
        assert truth.shape == store.shape(index)
        for mask, expected in zip(truth.masks, store.truth(index), strict=True):
            assert (to_mask(mask, truth.shape) == to_mask(expected, truth.shape)).all()


def test_a_truth_passes_lightning_and_pinning_untouched(fold_data):
    batch = next(iter(fold_data().val_dataloader()))
    moved = move_data_to_device(batch, torch.device("cpu"))
    assert all(a is b for a, b in zip(moved["truth"], batch["truth"], strict=True))
    assert pin_memory(batch["truth"][0]) is batch["truth"][0]


@pytest.fixture
def cohort(chest, tmp_path):
    """The chests in two folds."""
    spec, _ = chest
    return Cohort(spec, FoldSpec(file=str(tmp_path / "folds.csv"), count=2), StrataSpec(), tmp_path / "store")


def module(cohort, fold=0, **more):
    return FoldDataModule(
        cohort, fold, Augmentation(cohort.spec, transforms=RECIPE), batch_size=2, workers=0, seed=1, **more
    )


def test_the_split_is_by_patient_and_verified(cohort, tmp_path):
    splits = [module(cohort, fold).split for fold in (0, 1)]
    assert sorted(splits[0][1] + splits[1][1]) == list(range(12))
    for training, validation in splits:
        patients = [{cohort.images[index].patient for index in part} for part in (training, validation)]
        assert not patients[0] & patients[1]
        assert sorted(training + validation) == list(range(12))
    lines = (tmp_path / "folds.csv").read_text().splitlines()
    lines[1] = lines[1][:-1] + str(1 - int(lines[1][-1]))
    (tmp_path / "folds.csv").write_text("\n".join(lines))
    with pytest.raises(BonepipeError, match="leaks across folds 0 and 1"):
        module(replace(cohort)).setup("fit")


def test_a_fraction_takes_patients_and_overfitting_validates_on_what_is_trained(cohort):
    whole, half = module(cohort).split, module(cohort, fraction=0.5).split
    assert set(half[0]) < set(whole[0])
    assert half[1] == whole[1]
    few = module(cohort, overfit_batches=1)
    few.setup("fit")
    assert few.split == (whole[0][:2], whole[0][:2])
    assert [batch["index"].tolist() for batch in few.val_dataloader()] == [whole[0][:2]]
    few.sampler.set_epoch(3)
    assert few.sampler.epoch == 0


@pytest.mark.parametrize("stage", ["test", "predict"])
def test_test_images_come_in_the_order_of_the_submission(cohort, stage):
    data = module(cohort)
    data.setup(stage)
    batches = list(data.test_dataloader() if stage == "test" else data.predict_dataloader())
    images = find_test_images(cohort.spec)
    assert [name for batch in batches for name in batch["name"]] == [image.name for image in images]
    assert torch.cat([batch["index"] for batch in batches]).tolist() == list(range(len(images)))
    shapes = torch.cat([batch["shape"] for batch in batches]).tolist()
    for image, pixels, shape in zip(images, torch.cat([batch["image"] for batch in batches]), shapes, strict=True):
        grey = read_grey(image.path)
        assert tuple(shape) == grey.shape
        assert (pixels.numpy() == resize_grey(grey, cohort.spec.shape)).all()
    assert all(("truth" in batch) == (stage == "test") for batch in batches)


def test_a_test_set_without_answer_or_images_is_refused(chest, cohort, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(cohort.spec.root, root)
    (root / "answer.csv").unlink()
    bare = replace(cohort, spec=replace(cohort.spec, root=str(root)))
    with pytest.raises(BonepipeError, match=r"answer\.csv: no such file, nothing to compare with"):
        module(bare).setup("test")
    module(bare).setup("predict")
    shutil.rmtree(root / "test")
    with pytest.raises(BonepipeError, match="no test images"):
        module(replace(bare)).setup("predict")
    part = replace(cohort, spec=replace(cohort.spec, region=Region(classes=("Airways",))))
    with pytest.raises(BonepipeError, match=r"data\.region"):
        module(part).setup("predict")
