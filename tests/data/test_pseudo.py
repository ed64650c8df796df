from dataclasses import replace
from functools import partial

import cv2
import numpy as np
import pytest

from bonepipe.data import pseudo
from bonepipe.data.augment import Augmentation
from bonepipe.data.batches import TrainingImages
from bonepipe.data.catalog import test_images as find_test_images
from bonepipe.data.catalog import train_images
from bonepipe.data.datamodule import FoldDataModule
from bonepipe.data.spec import DataSpec
from bonepipe.data.store import open_store
from bonepipe.errors import BonepipeError
from bonepipe.labels import bitplane, rle

CLASSES = ("Left Lung", "Right Lung", "Cardiomediastinum", "Airways", "Ground Glass Opacities")
SWAPS = {"horizontal": [("Left Lung", "Right Lung")]}


def block(shape, top, left):
    mask = np.zeros(shape, bool)
    mask[top : top + 30, left : left + 25] = True
    return mask


def covered(mask):
    """Where a mask covers at least half of the pixels of 64 x 64."""
    return cv2.resize(mask.astype(np.float32), (64, 64), interpolation=cv2.INTER_AREA) > 0.4999


@pytest.fixture(scope="module")
def spec(chest_root, tmp_path_factory):
    """Pseudo-labels of two test images: a block is sure and the pixels around it are not, at another place a class."""
    path = tmp_path_factory.mktemp("pseudo") / "pseudo.csv"
    form = {"name": "chest", "root": str(chest_root), "classes": CLASSES, "size": 64, "metadata": None, "swaps": SWAPS}
    rows = []
    for image, shape in zip(find_test_images(DataSpec(**form))[:2], ((96, 120), (128, 128)), strict=True):
        for number, label in enumerate(CLASSES):
            sure, around = block(shape, 5 * number, 8 * number), block(shape, 5 * number + 8, 8 * number + 4)
            rows.append((image.name, label, rle.encode(sure), rle.encode(around & ~sure) if number else ""))
    pseudo.write(path, rows)
    return DataSpec(**form, pseudo=str(path), pseudo_weight=0.25)


@pytest.fixture(scope="module")
def images(spec):
    return [*train_images(spec), *pseudo.pseudo_images(spec)]


@pytest.fixture(scope="module")
def store(spec, images, tmp_path_factory):
    return open_store(images, spec, tmp_path_factory.mktemp("store"))


def test_only_the_named_test_images_join(spec, images):
    assert [image.split for image in images] == ["train"] * 12 + ["pseudo"] * 2
    assert [image.name for image in images[12:]] == [image.name for image in find_test_images(spec)[:2]]
    assert all(image.annotation is None for image in images[12:])


def test_sure_pixels_are_labels_and_ambiguous_ones_do_not_count(spec, store):
    for row, shape in ((12, (96, 120)), (13, (128, 128))):
        assert store.shape(row) == shape
        labels, ignored = (bitplane.unpack(planes[row], 5) for planes in (store.planes, store.ignored))
        for number in range(5):
            sure, around = block(shape, 5 * number, 8 * number), block(shape, 5 * number + 8, 8 * number + 4)
            assert (labels[..., number] == covered(sure)).all()
            assert (ignored[..., number] == covered((around & ~sure) & (number > 0))).all()
    assert not store.ignored[:12].any()


@pytest.fixture
def batches(stored_cohort):
    """Make the batch of an annotated image and the two with pseudo-labels."""
    return partial(batch_of, stored_cohort)


def batch_of(stored_cohort, spec, store, transforms, shares=None, workers=0):
    cohort, recipe = stored_cohort(store, [3, 12, 13], [0], shares), Augmentation(spec, transforms=transforms)
    data = FoldDataModule(cohort, 0, recipe, batch_size=3, workers=workers, seed=1)
    data.setup("fit")
    data.sampler.set_epoch(0)
    (batch,) = data.train_dataloader()
    order = np.argsort(batch["index"].numpy())
    return {key: value.numpy()[order] for key, value in batch.items()}


def test_a_batch_carries_ignored_pixels_and_shares(spec, store, batches):
    shares = np.array([1.0] * 12 + [0.25] * 2, np.float32)
    batch = batches(spec, store, (), shares)
    assert batch["share"].tolist() == [1, 0.25, 0.25]
    assert batch["share"].dtype == np.float32
    assert (batch["planes"] == store.planes[[3, 12, 13]]).all()
    assert (batch["ignored"] == store.ignored[[3, 12, 13]]).all()
    assert set(batches(spec, store, (), shares, workers=1)) == set(batch)


def test_ignored_pixels_are_warped_as_the_labels_are(spec, store, batches):
    """Where a class's labels and ignored pixels touch before, they do so after; flips swap the lungs in both."""
    flipped = batches(spec, store, [{"name": "HorizontalFlip", "p": 1.0}])
    for key, planes in (("planes", store.planes), ("ignored", store.ignored)):
        for row, index in enumerate((3, 12, 13)):
            expected = bitplane.unpack(planes[index], 5)[:, ::-1, [1, 0, 2, 3, 4]]
            assert (bitplane.unpack(flipped[key][row], 5) == expected).all()
    recipe = [{"name": "Affine", "rotate": [17, 17], "scale": [1.2, 1.2], "p": 1.0}, {"name": "ElasticTransform"}]
    apart = replace(store, planes=store.planes & ~store.ignored)  # half of a pixel may be the one, half the other
    warped = batches(spec, apart, recipe)
    both = warped["planes"] & warped["ignored"]
    assert warped["ignored"][1:].any((1, 2)).all()
    assert not both.any()
    assert (warped["ignored"][1:] != store.ignored[[12, 13]]).any()


def test_more_images_than_an_image_has_rows(spec, store):
    """A store of 84 images at 64 pixels: the last one's ignored pixels are its own."""
    layers = {name: np.concatenate([getattr(store, name)] * 6) for name in ("images", "planes", "ignored")}
    many = TrainingImages(replace(store, **layers), Augmentation(spec, transforms=[{"name": "HorizontalFlip", "p": 1}]))
    few = TrainingImages(store, many.augmentation)
    last, same = many[83, 5], few[13, 5]
    assert last["ignored"].any()
    for key in ("image", "planes", "ignored"):
        np.testing.assert_array_equal(last[key], same[key])


def test_a_class_that_counts_nowhere_counts_in_no_border_that_turning_brings_into_view(spec, store):
    nowhere = np.zeros((64, 64, 5), bool)
    nowhere[..., [1, 3]] = True
    ignored = np.array(store.ignored)
    ignored[3] = bitplane.pack(nowhere)
    turned = Augmentation(spec, transforms=[{"name": "Affine", "rotate": [40, 40], "p": 1.0}])
    sample = TrainingImages(replace(store, ignored=ignored), turned)[3, 0]
    np.testing.assert_array_equal(bitplane.unpack(sample["ignored"], 5), nowhere)
    partly = TrainingImages(store, turned)[13, 0]["ignored"]  # one that is ambiguous in places is turned with the rest
    assert partly.any()
    assert not bitplane.unpack(partly, 5).all((0, 1)).any()


def written(tmp_path, *rows):
    path = tmp_path / "pseudo.csv"
    pseudo.write(path, rows)
    return path


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("a.png", "left lung", "", ""), r"line 2: unknown class 'left lung'; did you mean 'Left Lung'"),
        (("a.png", "Airways", "5", ""), r"line 2: column rle: .*no length"),
        (("a.png", "Airways", "", "5 x"), r"line 2: column ambiguous: run 1: 'x' is not an integer"),
        (("a.png", "Left Lung", "", ""), r"a\.png has no row of Right Lung"),
    ],
)
def test_bad_pseudo_labels_are_named(tmp_path, row, message):
    with pytest.raises(BonepipeError, match=message):
        pseudo.read(written(tmp_path, row), CLASSES)


def test_classes_that_are_not_learned_may_be_missing(tmp_path):
    """As in a file that a run wrote that specialises."""
    path = written(tmp_path, ("a.png", "Airways", "3 2", "7 1"))
    label = pseudo.read(path, ["Airways"], ["Left Lung", "Right Lung"])["a.png"]
    assert (label.sure, label.ambiguous) == (("3 2", "", ""), ("7 1", "", ""))


@pytest.mark.parametrize("learned", [CLASSES[3:], CLASSES[:2]])
def test_a_run_that_specialises_takes_pseudo_labels_of_all_classes(spec, store, tmp_path, learned):
    """As a cascade's second stage does: the file comes from models of all classes."""
    others = tuple(label for label in CLASSES if label not in learned)
    special = replace(spec, classes=learned, others=others, swaps={})
    images = [*train_images(special), *pseudo.pseudo_images(special)]
    own = open_store(images, special, tmp_path)
    numbers = [CLASSES.index(label) for label in learned]
    for row in (12, 13):
        for planes, of_all in ((own.planes, store.planes), (own.ignored, store.ignored)):
            expected = bitplane.unpack(of_all[row], 5)[..., numbers]
            assert expected.any() and (bitplane.unpack(planes[row], len(learned)) == expected).all()


def test_pseudo_labels_of_unknown_images_or_beyond_the_image_are_refused(spec, tmp_path):
    form = {"name": "chest", "root": spec.root, "classes": CLASSES, "size": 64, "metadata": None}
    path = written(tmp_path, *(("strange.png", label, "", "") for label in CLASSES))
    with pytest.raises(BonepipeError, match=r"strange\.png is not a test image"):
        pseudo.pseudo_images(DataSpec(**form, pseudo=str(path)))
    name = find_test_images(spec)[0].name
    path = written(tmp_path, *((name, label, "99999 9", "") for label in CLASSES))
    other = DataSpec(**form, pseudo=str(path))
    with pytest.raises(BonepipeError, match=rf"pseudo\.csv: {name}, class 0: .*beyond"):
        open_store(pseudo.pseudo_images(other), other, tmp_path)
    with pytest.raises(BonepipeError, match=r"none\.csv: cannot be read .*`bonepipe pseudo` writes it"):
        pseudo.read(tmp_path / "none.csv", CLASSES)


@pytest.mark.parametrize("weight", [0, 1.5])
def test_a_weight_outside_its_range_is_refused(weight):
    with pytest.raises(ValueError, match="pseudo_weight"):
        DataSpec(name="x", root="x", classes=("a",), size=64, pseudo_weight=weight)


def test_an_image_that_is_not_in_the_test_set_is_named_with_the_nearest(spec, tmp_path):
    path = tmp_path / "pseudo.csv"
    pseudo.write(path, [("scan12.png", label, "", "") for label in CLASSES])
    with pytest.raises(BonepipeError, match=r"scan12\.png is not a test image of .*; did you mean 'scan012\.png'"):
        pseudo.pseudo_images(replace(spec, pseudo=str(path)))


def test_a_label_twice_is_refused(spec, tmp_path):
    path = tmp_path / "pseudo.csv"
    pseudo.write(path, [("scan012.png", label, "", "") for label in (*CLASSES, CLASSES[0])])
    with pytest.raises(BonepipeError, match=r"line 7: scan012\.png, Left Lung again, first at line 2"):
        pseudo.read(path, CLASSES)
