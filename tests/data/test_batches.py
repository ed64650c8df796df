import numpy as np
import pytest

from bonepipe.data.augment import Augmentation
from bonepipe.data.batches import Answer, TestImages, TrainingImages
from bonepipe.data.catalog import test_images as find_test_images
from bonepipe.errors import BonepipeError
from bonepipe.labels import rle
from bonepipe.labels.cutout import to_mask

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


@pytest.fixture
def answered(chest):
    """The chests' test images, and their answer."""
    spec, _ = chest
    images = find_test_images(spec)
    return TestImages(images, spec.shape), spec.path / "answer.csv", [image.name for image in images], spec.classes


def test_the_answer_gives_each_test_image_its_masks_at_the_original_size(answered):
    images, path, names, classes = answered
    rows = {(row[0], row[1]): row[2] for row in (line.split(",") for line in path.read_text().splitlines())}
    truth = Answer(path, names, classes)
    for position, name in enumerate(names):
        sample = images[position]
        found = truth(sample)
        assert found.shape == tuple(sample["shape"].tolist())
        for label, mask in zip(classes, found.masks, strict=True):
            assert (to_mask(mask, found.shape) == rle.decode(rows[name, label], found.shape)).all()


def test_an_answer_that_lacks_a_row_or_does_not_fit_is_named(answered, tmp_path):
    images, path, names, classes = answered
    lines = path.read_text().splitlines()
    short, wrong = tmp_path / "short.csv", tmp_path / "wrong.csv"
    short.write_text("\n".join(lines[:3] + lines[4:]))
    with pytest.raises(BonepipeError, match=rf"short\.csv: no row of {names[0]}, {classes[2]}; an absent class"):
        Answer(short, names, classes)
    wrong.write_text("\n".join([*lines[:2], f"{names[0]},{classes[1]},99999 9,Public", *lines[3:]]))
    with pytest.raises(BonepipeError, match=rf"wrong\.csv: line 3: {names[0]}, {classes[1]}: .*beyond"):
        Answer(wrong, names, classes)(images[0])
