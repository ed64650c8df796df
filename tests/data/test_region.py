"""Where a region lies, what it shows, and how the store keeps it."""

import json
import pickle
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
import yaml

from bonepipe.config import conf_dir
from bonepipe.data import store as stores
from bonepipe.data.catalog import train_images
from bonepipe.data.image import read_grey
from bonepipe.data.region import Region, cut, iou, jittered, smallest_box
from bonepipe.data.spec import DataSpec
from bonepipe.labels import bitplane, cutout
from bonepipe.labels.cutout import Box

CARPALS = ("Trapezium", "Trapezoid", "Capitate", "Hamate", "Scaphoid", "Lunate", "Triquetrum", "Pisiform")


def spec_of(root, **settings):
    node = yaml.safe_load((conf_dir() / "data/hand.yaml").read_text())
    fixed = {"name": "hand", "root": str(root), "classes": tuple(node["classes"]), "metadata": None}
    return DataSpec(**fixed, **{"size": 64, "region": Region(classes=CARPALS), **settings})


@pytest.fixture(scope="module")
def wrists(phantom_root, tmp_path_factory):
    """Three images and their store."""
    spec = spec_of(phantom_root)
    images = train_images(spec)[:3]
    return spec, images, stores.open_store(images, spec, tmp_path_factory.mktemp("store"))


def full_masks(image, spec):
    """Every class's mask at full size, uint8 [C, H, W], by the annotation alone."""
    result = np.zeros((len(spec.classes), *read_grey(image.path).shape), np.uint8)
    for entry in json.loads(image.annotation.read_text())["annotations"]:
        cv2.fillPoly(result[spec.classes.index(entry["label"])], [np.array(entry["points"])], 1)
    return result


def padded(image, box, room=400):
    """The part of an image in a box, from the image with a wide black frame."""
    framed = np.pad(image, ((room, room), (room, room)))
    return framed[box.top + room : box.bottom + room, box.left + room : box.right + room]


@pytest.mark.parametrize("shape", [(64, 64), (96, 64), (48, 80)])
@pytest.mark.parametrize("box", [Box(10, 20, 50, 41), Box(3, 5, 9, 60), Box(0, 0, 1, 1)])
def test_a_crop_has_the_models_proportions_and_holds_box_and_margin(box, shape):
    crop = Region(classes=("a",), margin=0.25).crop(box, shape)
    height = max(box.height, box.width * shape[0] / shape[1]) * 1.5
    assert height <= crop.height <= height + 1
    assert abs(crop.width - height * shape[1] / shape[0]) <= 1 + shape[1] / shape[0]
    assert abs(crop.top + crop.bottom - box.top - box.bottom) <= 1
    assert abs(crop.left + crop.right - box.left - box.right) <= 1
    assert iou(crop, box) == pytest.approx(box.height * box.width / (crop.height * crop.width))


@pytest.mark.parametrize("box", [Box(2, 3, 9, 12), Box(-3, -4, 5, 6), Box(6, 6, 14, 19), Box(-2, -2, 30, 30)])
def test_a_cut_is_black_beyond_the_image(box):
    image = np.random.default_rng(0).integers(1, 255, (12, 15, 2), np.uint8)
    framed = np.pad(image, ((40, 40), (40, 40), (0, 0)))
    assert (cut(image, box) == framed[box.top + 40 : box.bottom + 40, box.left + 40 : box.right + 40]).all()
    assert not cut(image, Box(20, 20, 25, 30)).any()


def test_a_mask_comes_back_from_its_crop():
    mask = np.zeros((90, 70), np.bool_)
    mask[20:41, 5:30] = np.random.default_rng(1).random((21, 25)) < 0.5
    crop = Region(classes=("a",), margin=0.4).crop(smallest_box(mask), (64, 64))
    assert crop.left < 0
    piece = cutout.from_mask(cut(mask.view(np.uint8), crop).astype(bool))
    back = piece.box._replace(
        top=piece.box.top + crop.top, left=piece.box.left + crop.left,
        bottom=piece.box.bottom + crop.top, right=piece.box.right + crop.left,
    )  # fmt: skip
    assert (cutout.to_mask(cutout.Cutout(back, piece.mask), mask.shape) == mask).all()


def test_no_pixel_has_no_box():
    assert smallest_box(np.zeros((4, 5), np.bool_)) is None


def test_iou_of_boxes_by_counting_pixels():
    a, b = Box(2, 3, 10, 9), Box(5, 1, 12, 7)
    pixels = [{(y, x) for y in range(box.top, box.bottom) for x in range(box.left, box.right)} for box in (a, b)]
    assert iou(a, b) == pytest.approx(len(pixels[0] & pixels[1]) / len(pixels[0] | pixels[1]))
    assert iou(a, Box(20, 20, 22, 22)) == 0


def test_jitter_stays_inside_and_shifts_by_up_to_its_share():
    region, shape = Region(classes=("a",), jitter=0.2), (64, 96)
    wide = region.wide_shape(shape)
    boxes = [jittered(shape, wide, seed) for seed in range(300)]
    assert boxes == [jittered(shape, wide, seed) for seed in range(300)]
    assert all(min(b.top, b.left) >= 0 and b.bottom <= wide[0] and b.right <= wide[1] for b in boxes)
    assert {(box.height, box.width) for box in boxes} == {shape}
    for side, middles in (
        (64, [b.top + 32 - wide[0] / 2 for b in boxes]),
        (96, [b.left + 48 - wide[1] / 2 for b in boxes]),
    ):
        assert np.abs(middles).max() <= 0.2 * side + 1
        assert min(middles) < -0.17 * side < 0.17 * side < max(middles)
    assert jittered(shape, shape, 5) == Box(0, 0, *shape)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"classes": ()}, "at least one class"),
        ({"margin": -0.1}, "margin=-0.1"),
        ({"margin": float("nan")}, "margin=nan"),
        ({"jitter": 0.6}, "jitter=0.6"),
    ],
)
def test_a_region_that_cannot_be_is_refused(settings, reason):
    with pytest.raises(ValueError, match=reason):
        Region(**{"classes": ("a",), **settings})


def test_a_regions_unknown_class_suggests_the_nearest(phantom_root):
    with pytest.raises(ValueError, match=r"data\.region\.classes: unknown class 'Pisform'; did you mean 'Pisiform'"):
        spec_of(phantom_root, region=Region(classes=("Pisform",)))


def test_a_store_of_crops_holds_pixels_labels_and_truth_of_the_crops(wrists):
    spec, images, store = wrists
    for index, image in enumerate(images):
        grey, masks, crop = read_grey(image.path), full_masks(image, spec), store.crop(index)
        bones = masks[[spec.classes.index(name) for name in CARPALS]].any(0)
        rows, columns = np.nonzero(bones)
        tight = Box(rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
        assert crop == spec.region.crop(tight, (64, 64))
        assert store.shape(index) == (crop.height, crop.width)
        method = cv2.INTER_AREA if crop.height >= 64 else cv2.INTER_LINEAR
        assert (store.images[index] == cv2.resize(padded(grey, crop), (64, 64), interpolation=method)).all()
        labels = bitplane.unpack(store.planes[index], len(masks))
        for number, (mask, true) in enumerate(zip(masks, store.truth(index), strict=True)):
            part = padded(mask, crop)
            wrong = cutout.to_mask(true, part.shape) != part.astype(bool)
            if spec.classes[number] in CARPALS:
                assert not wrong.any()
            assert wrong.sum() <= 2 * crop.height // 10  # OpenCV draws an outline that leaves the crop a little off
            method = cv2.INTER_AREA if crop.height >= 64 else cv2.INTER_NEAREST_EXACT
            small = cv2.resize(part.astype(np.float32), (64, 64), interpolation=method)
            assert (labels[..., number] == (small > 0.4999)).all()


def test_a_crop_at_its_own_size_holds_the_original_pixels(wrists, tmp_path):
    spec, images, store = wrists
    side = store.shape(0)[0]
    native = replace(spec, size=side)
    again = stores.open_store(images[:1], native, tmp_path)
    assert (again.images[0] == padded(read_grey(images[0].path), again.crop(0))).all()
    drawn = again.drawn(0, 3)
    drawn.images[:] = 0  # a copy: augmentation may write into it
    assert again.wide.images.any()


def test_the_store_of_a_region_is_keyed_apart(wrists, tmp_path):
    spec, images, _ = wrists
    plain = replace(spec, region=None)
    others = [replace(spec.region, margin=0.3), replace(spec.region, jitter=0.0), Region(classes=CARPALS[:3])]
    specs = [plain, spec, *(replace(spec, region=region) for region in others)]
    keys = [stores.key(images, with_region, tmp_path) for with_region in specs]
    assert len(set(keys)) == 5


def test_training_draws_a_part_of_the_wide_crop_and_validation_the_crop(wrists, tmp_path):
    spec, images, store = wrists
    one, same, other = (store.drawn(0, seed) for seed in (1, 1, 2))
    assert one.images.shape == (64, 64)
    assert one.planes.shape == store.planes[0].shape
    assert (one.images == same.images).all()
    assert (one.images != other.images).any()
    wide = padded(read_grey(images[0].path), spec.region.wide(store.crop(0)))
    method = cv2.INTER_AREA if wide.shape[0] >= store.wide.images.shape[1] else cv2.INTER_LINEAR
    assert (store.wide.images[0] == cv2.resize(wide, store.wide.images.shape[:0:-1], interpolation=method)).all()
    box = jittered((64, 64), store.wide.images.shape[1:], 1)
    assert (one.images == store.wide.images[0][box.slices]).all()
    assert (one.planes == store.wide.planes[0][box.slices]).all()
    still = stores.open_store(images, replace(spec, region=replace(spec.region, jitter=0.0)), tmp_path)
    assert still.wide is None
    assert (still.drawn(0, 1).images == store.images[0]).all()


def test_a_store_of_crops_travels_to_loader_processes(wrists):
    store = wrists[2]
    other = pickle.loads(pickle.dumps(store))
    assert (other.drawn(1, 7).images == store.drawn(1, 7).images).all()
    assert other.crop(2) == store.crop(2)


def test_an_image_without_the_classes_shows_nothing(phantom_root, tmp_path):
    root = shutil.copytree(phantom_root, tmp_path / "data")
    spec = spec_of(root)
    images = train_images(spec)[:2]
    content = json.loads(images[1].annotation.read_text())
    content["annotations"] = [entry for entry in content["annotations"] if entry["label"] not in CARPALS]
    images[1].annotation.write_text(json.dumps(content))
    store = stores.open_store(images, spec, tmp_path / "store")
    assert store.lacking() == [1]
    assert store.crop(1) is None
    assert store.crop(0) is not None


def corrected(spec, images, path, *rows):
    lines = [f"{images[0].name},{label},{action},{value}" for label, action, value in rows]
    path.write_text("\n".join(["image_name,class,action,value", *lines]) + "\n")
    return replace(spec, corrections=str(path))


@pytest.mark.parametrize("jitter", [0.0, 0.05])
def test_corrections_move_the_crops_of_training_and_never_those_of_validation(phantom_root, tmp_path, jitter):
    """What is drawn as Pisiform is the Radius, and the reverse: the corrected region is another one."""
    spec = spec_of(phantom_root, region=Region(classes=("Pisiform",), jitter=jitter))
    images = train_images(spec)[:2]
    swapped = ("Pisiform", "permute", "Radius"), ("Radius", "permute", "Pisiform")
    mended = corrected(spec, images, tmp_path / "corrections.csv", *swapped)
    plain, store = (stores.open_store(images, each, tmp_path / "store") for each in (spec, mended))
    for index in range(2):
        assert store.crop(index) == plain.crop(index)
        assert store.shape(index) == plain.shape(index)
        assert (store.images[index] == plain.images[index]).all()
        for ours, theirs in zip(store.truth(index), plain.truth(index), strict=True):
            assert ours.box == theirs.box and (ours.mask == theirs.mask).all()
    masks, pisiform = full_masks(images[0], spec), spec.classes.index("Pisiform")
    radius = masks[spec.classes.index("Radius")].astype(bool)
    source = spec.region.crop(smallest_box(radius), (64, 64))
    assert source != plain.crop(0)
    wide = padded(read_grey(images[0].path), spec.region.wide(source))
    drawn = store.drawn(0, 1)
    place = jittered((64, 64), spec.region.wide_shape((64, 64)), 1)
    assert (drawn.images == stores.resize_grey(wide, spec.region.wide_shape((64, 64)))[place.slices]).all()
    share = bitplane.unpack(drawn.planes, len(masks))[..., pisiform].mean()
    assert share == pytest.approx(radius.sum() / (source.height * source.width), rel=0.1)
    assert (store.drawn(1, 1).images == plain.drawn(1, 1).images).all()


def test_a_region_that_only_a_correction_brings_is_trained_on_and_not_validated(phantom_root, tmp_path):
    root = shutil.copytree(phantom_root, tmp_path / "data")
    spec = spec_of(root, region=Region(classes=("Pisiform",)))
    images = train_images(spec)[:2]
    content = json.loads(images[0].annotation.read_text())
    content["annotations"] = [entry for entry in content["annotations"] if entry["label"] != "Pisiform"]
    images[0].annotation.write_text(json.dumps(content))
    mended = corrected(spec, images, tmp_path / "corrections.csv", ("Pisiform", "replace", "9000 40"))
    store = stores.open_store(images, mended, tmp_path / "store")
    assert (store.lacking(), store.lacking(training=True)) == ([0], [])
    assert store.drawn(0, 1).planes.any()
    assert stores.open_store(images, spec, tmp_path / "store").lacking(training=True) == [0]


def test_labels_that_are_not_learned_are_passed_over(phantom_root, tmp_path):
    """Corrections may name them all the same: here what is drawn as Pisiform is the Radius, and the reverse."""
    whole = spec_of(phantom_root, region=None)
    images = train_images(whole)[:1]
    corrections = tmp_path / "corrections.csv"
    rows = [f"{images[0].name},{a},permute,{b}" for a, b in (("Pisiform", "Radius"), ("Radius", "Pisiform"))]
    corrections.write_text("\n".join(["image_name,class,action,value", *rows]) + "\n")
    few = replace(
        whole, classes=("Pisiform", "Lunate"), palette=(), corrections=str(corrections),
        others=tuple(name for name in whole.classes if name not in ("Pisiform", "Lunate")),
    )  # fmt: skip
    plain, store = (stores.open_store(images, spec, tmp_path / "store") for spec in (whole, few))
    assert store.planes.shape[-1] == 1
    wanted = [whole.classes.index(name) for name in ("Radius", "Lunate")]
    labels = bitplane.unpack(plain.planes[0], len(whole.classes))[..., wanted]
    assert (bitplane.unpack(store.planes[0], 2) == labels).all()
    areas = [cutout.area(mask) for mask in plain.truth(0)]
    assert [cutout.area(mask) for mask in store.truth(0)] == [
        areas[whole.classes.index(name)] for name in ("Pisiform", "Lunate")
    ]
