from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from bonepipe.config import build, compose
from bonepipe.data.augment import Augmentation
from bonepipe.data.batches import Answer, TestImages, TrainingImages
from bonepipe.data.catalog import test_images as find_test_images
from bonepipe.data.catalog import train_images
from bonepipe.data.image import resize_grey
from bonepipe.data.store import Layers, open_store
from bonepipe.errors import BonepipeError
from bonepipe.labels import bitplane, rle
from bonepipe.labels.cutout import Box, to_mask

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
def padded(chest, tmp_path):
    """The chests as their frames show them."""
    spec = replace(chest[0], size=(48, 48), fit="pad")
    return spec, open_store(train_images(spec), spec, tmp_path)


def test_what_pads_an_image_does_not_count_wherever_augmentation_moves_it(padded):
    spec, store = padded
    transforms = [{"name": "HorizontalFlip", "p": 1.0}, {"name": "RandomRotate90", "p": 1.0}]
    plain, moved = (TrainingImages(store, Augmentation(spec, transforms=recipe)) for recipe in ((), transforms))
    for index in range(4):
        top, left, bottom, right = store.frame.box(store.shape(index))
        outside = np.ones((48, 48), bool)
        outside[top:bottom, left:right] = False
        assert (plain[index, 0]["ignored"] == 255 * outside[..., None]).all()
        samples = [moved[index, seed] for seed in range(6)]
        for sample in samples:  # a quarter turn lays the centred box across, or leaves it
            here = sample["ignored"].all(-1)
            assert (here == outside).all() or (here == outside.T).all()
            assert not sample["planes"][here].any() and not sample["image"][here].any()
    assert len({(outside == sample["ignored"].all(-1)).all() for sample in samples}) == (2 if outside.any() else 1)
    assert default_collate([plain[index, 0] for index in range(4)])["ignored"].shape[:3] == (4, 48, 48)


def blank(shape, ignored):
    """An image without labels, some classes of which count nowhere, as `Layers` takes it."""
    nothing = np.zeros(shape, np.uint8)
    return nothing, nothing[..., None], np.broadcast_to(ignored, (*shape, 1)).copy()


def test_beyond_an_image_a_class_that_counts_nowhere_does_not_count_either():
    image, planes, ignored = blank((20, 30), 4)
    ignored[5, 6] |= 2  # one pixel of another class
    part = Layers(image, planes, ignored).cut(Box(-3, 25, 10, 35))
    expected = np.full((13, 10), 4)
    assert (part.ignored[..., 0] == expected).all()
    assert (Layers(image, planes, ignored).cut(Box(4, 4, 8, 8)).ignored == ignored[4:8, 4:8]).all()


def test_a_class_that_counts_nowhere_and_padding_are_both_left_out(padded):
    """Also where a turn brings in a border, and where a mirrored class takes another's place."""
    spec, store = padded
    lung = bitplane.pack(np.eye(len(spec.classes), dtype=bool)[:1])[0]
    ignored = [Layers(*blank(store.shape(number), lung)).framed(store.frame).ignored for number in range(4)]
    partial = replace(store, ignored=np.stack([*ignored, *store.planes[4:]]))
    turn = [{"name": "HorizontalFlip", "p": 1.0}, {"name": "Affine", "rotate": [30, 30], "p": 1.0}]
    index = next(number for number in range(4) if store.padding(number).any())
    sample = TrainingImages(partial, Augmentation(spec, transforms=turn))[index, 0]
    left_out = bitplane.unpack(sample["ignored"], len(spec.classes))
    assert left_out[..., 1].all(), "the left lung is where the right one was"
    for other in (0, 2, 3):
        assert 0 < left_out[..., other].mean() < 0.9


@pytest.fixture
def answered(chest):
    """The chests' test images, and their answer."""
    spec, _ = chest
    images = find_test_images(spec)
    names, frame = [image.name for image in images], spec.frame
    return TestImages(images, frame), spec.path / "answer.csv", names, spec.classes, frame


def test_the_answer_gives_each_test_image_its_masks_at_the_original_size(answered):
    images, path, names, classes, frame = answered
    rows = {(row[0], row[1]): row[2] for row in (line.split(",") for line in path.read_text().splitlines())}
    truth = Answer(path, names, classes, frame)
    for position, name in enumerate(names):
        sample = images[position]
        found = truth(sample)
        assert found.shape == tuple(sample["shape"].tolist())
        for label, mask in zip(classes, found.masks, strict=True):
            assert (to_mask(mask, found.shape) == rle.decode(rows[name, label], found.shape)).all()


def test_an_answer_that_lacks_a_row_or_does_not_fit_is_named(answered, tmp_path):
    images, path, names, classes, frame = answered
    lines = path.read_text().splitlines()
    short, wrong = tmp_path / "short.csv", tmp_path / "wrong.csv"
    short.write_text("\n".join(lines[:3] + lines[4:]))
    with pytest.raises(BonepipeError, match=rf"short\.csv: no row of {names[0]}, {classes[2]}; an absent class"):
        Answer(short, names, classes, frame)
    wrong.write_text("\n".join([*lines[:2], f"{names[0]},{classes[1]},99999 9,Public", *lines[3:]]))
    with pytest.raises(BonepipeError, match=rf"wrong\.csv: line 3: {names[0]}, {classes[1]}: .*beyond"):
        Answer(wrong, names, classes, frame)(images[0])


@pytest.fixture(scope="module")
def fine(phantom_root, tmp_path_factory):
    """Hands of 256 pixels at half their size, drawn at all of it."""
    spec = build(compose([f"data.root={phantom_root}", "data.size=128", "data.supersample=2"]), "data")
    return spec, open_store(train_images(spec), spec, tmp_path_factory.mktemp("store"))


def native(spec, store, index):
    """An image of the store and its masks `[C, H, W]` at the original size."""
    image = next(image for image in train_images(spec) if image.name == store.names[index])
    return image.read(), np.stack([to_mask(mask, store.shape(index)) for mask in store.truth(index)])


def test_a_label_is_the_share_of_its_pixel_that_a_class_covers(fine):
    spec, store = fine
    sample = TrainingImages(store, Augmentation(spec))[3, 0]
    image, masks = native(spec, store, 3)
    coverage = bitplane.coverage_torch(torch.from_numpy(sample["planes"])[None], store.class_count)[0]
    shares = masks.reshape(-1, 128, 2, 128, 2).mean((2, 4))
    np.testing.assert_allclose(coverage, shares, atol=1e-6)
    assert ((shares > 0) & (shares < 1)).sum() > 0
    np.testing.assert_array_equal(sample["image"], resize_grey(image, (128, 128)))


def test_sub_pixels_are_augmented_with_their_image(fine):
    spec, store = fine
    flip = {"name": "HorizontalFlip", "p": 1.0}
    plain, flipped = (TrainingImages(store, Augmentation(spec, transforms=recipe))[3, 0] for recipe in ((), [flip]))
    coverage = [
        bitplane.coverage_torch(torch.from_numpy(sample["planes"])[None], store.class_count)[0].numpy()
        for sample in (plain, flipped)
    ]
    np.testing.assert_array_equal(coverage[1], coverage[0][..., ::-1])
    np.testing.assert_array_equal(flipped["image"], plain["image"][:, ::-1])


@pytest.mark.parametrize(
    "crop",
    [
        {"name": "CenterCrop", "height": 64, "width": 64},
        {"name": "CenterCrop", "height": 0.5, "width": 0.5},
        {"name": "Crop", "x_min": 32, "y_min": 32, "x_max": 96, "y_max": 96},
        {"name": "CropAndPad", "px": [-32, -32, -32, -32], "keep_size": False},
    ],
    ids=str,
)
def test_sizes_in_a_recipe_are_those_that_the_model_sees(fine, crop):
    spec, store = fine
    whole = TrainingImages(store, Augmentation(spec))[3, 0]["image"]
    crop = [{**crop, "p": 1.0}, {"name": "Resize", "interpolation": 0}]
    part = TrainingImages(store, Augmentation(spec, transforms=crop))[3, 0]["image"]
    assert np.abs(part[::2, ::2].astype(int) - whole[32:96, 32:96]).mean() < 6


def test_pixel_weights_and_what_does_not_count_have_the_size_that_the_model_sees(fine, tmp_path):
    spec, store = fine
    wide = replace(spec, size=(96, 128))  # square images leave its sides black
    images = TrainingImages(open_store(train_images(wide), wide, tmp_path), Augmentation(wide), pixel_weights=weights)
    sample = images[0, 0]
    assert sample["weight"].shape == (1, 96, 128)
    ignored = bitplane.coverage_torch(torch.from_numpy(sample["ignored"])[None], store.class_count)[0]
    assert ignored.shape == (29, 96, 128)
    assert ignored[:, :, :16].min() == 1
    assert ignored[:, :, 16:112].max() == 0


def weights(planes):
    return np.ones(planes.shape[:2], np.float32)
