import collections
import json
import pickle
import random
from pathlib import Path

import albumentations as A
import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bonepipe import config as configs
from bonepipe.data.augment import Augmentation
from bonepipe.data.spec import DataSpec
from bonepipe.errors import BonepipeError, UsageError
from bonepipe.labels import bitplane

CLASSES = tuple(f"class {i}" for i in range(29))
HAND = DataSpec(name="hand", root="x", classes=CLASSES, size=64)
SWAPS = {"horizontal": [("left", "right")]}
CHEST = DataSpec(name="chest", root="x", classes=("left", "right", "heart"), size=64, swaps=SWAPS)
AFFINE = {"name": "Affine", "rotate": [-30, 30], "scale": [0.85, 1.15], "shear": [-8, 8], "p": 1.0}
NEAREST = {"interpolation": cv2.INTER_NEAREST}
RECIPES = {
    "affine": [AFFINE | NEAREST],
    "flips": [{"name": "HorizontalFlip"}, {"name": "VerticalFlip"}, {"name": "Transpose"}, {"name": "RandomRotate90"}],
    "elastic": [{"name": "ElasticTransform", "alpha": 40, "sigma": 5, "p": 1.0} | NEAREST],
    "grid": [{"name": "GridDistortion", "p": 1.0} | NEAREST],
    "crop": [{"name": "RandomResizedCrop", "size": [64, 64], "p": 1.0, "interpolation": cv2.INTER_NEAREST_EXACT}],
    "perspective": [{"name": "Perspective", "p": 1.0} | NEAREST],
    "choice": [{"name": "OneOf", "p": 1.0, "transforms": [AFFINE | NEAREST, {"name": "HorizontalFlip"}]}],
}


def labelled(classes, seed=0):
    """An image of label numbers (0 background, c + 1 class c) in blocks, and the planes that say the same."""
    blocks = np.random.default_rng(seed).integers(0, classes + 1, (16, 16)).astype(np.uint8)
    image = np.kron(blocks, np.ones((4, 4), np.uint8))
    return image, bitplane.pack(image[..., None] == np.arange(1, classes + 1))


def labels_of(planes, classes):
    mask = bitplane.unpack(planes, classes)
    assert mask.sum(-1).max() <= 1
    return (mask * np.arange(1, classes + 1)).sum(-1)


@pytest.mark.parametrize("recipe", RECIPES)
def test_image_and_planes_move_together_and_no_label_is_invented(recipe):
    augment = Augmentation(HAND, transforms=RECIPES[recipe])
    image, planes = labelled(29)
    moved = 0
    for seed in range(8):
        new_image, new_planes = augment(image, planes, seed)
        assert (new_image.dtype, new_planes.dtype, new_planes.shape) == (np.uint8, np.uint8, (64, 64, 4))
        assert (labels_of(new_planes, 29) == new_image).all()
        moved += (new_image != image).any()
    assert moved >= 4


def test_planes_are_never_interpolated_though_the_recipe_asks():
    recipe = [AFFINE | {"mask_interpolation": cv2.INTER_LINEAR}]
    _, planes = labelled(29)
    _, moved = Augmentation(HAND, transforms=recipe)(np.zeros((64, 64), np.uint8), planes, 5)
    assert (moved == Augmentation(HAND, transforms=[AFFINE])(np.zeros((64, 64), np.uint8), planes, 5)[1]).all()
    labels_of(moved, 29)


def test_the_seed_alone_decides():
    recipe = [AFFINE, {"name": "RandomBrightnessContrast", "p": 0.5}, {"name": "GaussNoise", "p": 1.0}]
    augment = Augmentation(HAND, transforms=recipe)
    image, planes = labelled(29)
    first = augment(image, planes, 7)
    augment(image, planes, 8)
    for again in (augment(image, planes, 7), Augmentation(HAND, transforms=recipe)(image, planes, 7)):
        assert (again[0] == first[0]).all()
        assert (again[1] == first[1]).all()
    assert len({augment(image, planes, seed)[0].tobytes() for seed in range(20)}) == 20


def test_a_given_array_is_left_alone():
    image, planes = labelled(29)
    before = image.copy(), planes.copy()
    Augmentation(HAND, transforms=[{"name": "HorizontalFlip", "p": 1.0}, {"name": "Erasing", "p": 1.0}])(
        image, planes, 0
    )
    assert (image == before[0]).all()
    assert (planes == before[1]).all()


def test_an_empty_recipe_changes_nothing():
    image, planes = labelled(29)
    same = Augmentation(HAND)(image, planes, 3)
    assert (same[0] == image).all()
    assert (same[1] == planes).all()


def test_a_mirrored_chest_swaps_its_lungs():
    augment = Augmentation(CHEST, transforms=[{"name": "HorizontalFlip", "p": 1.0}])
    image, planes = labelled(3)
    new_image, new_planes = augment(image, planes, 0)
    assert (new_image == image[:, ::-1]).all()
    expected = bitplane.unpack(planes, 3)[:, ::-1][..., [1, 0, 2]]
    assert (bitplane.unpack(new_planes, 3) == expected).all()
    assert new_planes.shape == planes.shape


def test_an_upside_down_chest_keeps_its_classes():
    _, planes = labelled(3)
    augment = Augmentation(CHEST, transforms=[{"name": "VerticalFlip", "p": 1.0}])
    assert (augment(planes[..., 0], planes, 0)[1] == planes[::-1]).all()


def test_a_mirrored_hand_keeps_its_classes():
    _, planes = labelled(29)
    augment = Augmentation(HAND, transforms=[{"name": "HorizontalFlip", "p": 1.0}])
    assert (augment(planes[..., 0], planes, 0)[1] == planes[:, ::-1]).all()


def test_swaps_happen_exactly_when_the_image_is_mirrored():
    recipe = [{"name": "OneOf", "transforms": [{"name": "HorizontalFlip", "p": 0.5}, {"name": "NoOp"}], "p": 1.0}]
    augment = Augmentation(CHEST, transforms=recipe)
    image, planes = labelled(3)
    swapped = bitplane.pack(bitplane.unpack(planes, 3)[:, ::-1][..., [1, 0, 2]])
    mirrored = set()
    for seed in range(30):
        new_image, new_planes = augment(image, planes, seed)
        mirrored.add(flipped := bool((new_image != image).any()))
        assert (new_planes == (swapped if flipped else planes)).all()
    assert mirrored == {True, False}


@pytest.mark.parametrize("data", [HAND, CHEST])
def test_it_travels_to_loader_processes(data):
    augment = Augmentation(data, transforms=[{"name": "HorizontalFlip"}, AFFINE])
    image, planes = labelled(len(data.classes))
    other = pickle.loads(pickle.dumps(augment))
    assert other.names == augment.names == ["Affine", "HorizontalFlip"]
    for seed in range(4):
        assert (other(image, planes, seed)[1] == augment(image, planes, seed)[1]).all()


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        ({"name": "HorizontalFlop"}, "no 'HorizontalFlop'; did you mean 'HorizontalFlip'"),
        ({"p": 1.0}, "no 'None'"),
        ({"name": "Compose"}, "Compose: .*missing"),
        ({"name": "RandomCrop"}, r"^RandomCrop\.height: field required$"),
        ({"name": "RandomCrop", "height": 65, "width": 8}, r"RandomCrop\.height=65: .*larger than the image, 64 x 64"),
        ({"name": "CropNonEmptyMaskIfExists", "height": 8, "width": 99}, r"\.width=99: .*larger.*share such as 0\.75"),
        (
            {"name": "RandomCrop", "height": 1.5, "width": 0.5},
            r"height=1\.5: a share of the image lies between 0 and 1",
        ),
        (
            {"name": "RandomCrop", "height": 0.5, "width": 48},
            r"turns an image of 64 x 64 pixels into 32 x 48; end .*Res",
        ),
        ({"name": "RandomScale", "p": 1.0}, "RandomScale.* turns an image of 64 x 64 pixels"),
        ({"name": "GridDropout", "fill_mask": 7}, r"GridDropout\.fill_mask=7: labels are bit-planes.* null or 0"),
        ({"name": "CropNonEmptyMaskIfExists", "height": 8, "width": 8, "ignore_values": [1]}, "ignore_values.*be null"),
        ({"name": "Resize", "area_for_downscale": "image_mask"}, "area_for_downscale='image_mask'.* null or image"),
        ({"name": "Morphological"}, "Morphological grows and shrinks"),
        ({"name": "Affine", "rotat": 3}, "Affine takes no 'rotat'; did you mean 'rotate'.*it takes .*rotate"),
        ({"name": "OneOf", "p": 1.0}, "OneOf needs a list of transforms"),
        ({"name": "OneOf", "transforms": [{"name": "Flop"}]}, "no 'Flop'"),
        ({"name": "HorizontalFlip", "p": 3.0}, r"^HorizontalFlip\.p: "),
    ],
)
def test_nonsense_is_refused(node, reason):
    with pytest.raises(ValueError, match=reason):
        Augmentation(HAND, transforms=[node])


@pytest.mark.parametrize("name", ["D4", "Transpose", "SquareSymmetry"])
def test_unnamed_mirrors_are_refused_where_classes_swap(name):
    with pytest.raises(ValueError, match=f"{name} mirrors along either axis, and chest swaps"):
        Augmentation(CHEST, transforms=[{"name": name}])
    with pytest.raises(ValueError, match=name):
        Augmentation(CHEST, transforms=[{"name": "OneOf", "transforms": [{"name": name}]}])
    assert Augmentation(HAND, transforms=[{"name": name}]).names == [name]


CONF = Path(configs.conf_dir()) / "augment"
WHOLE = {path.stem: yaml.safe_load(path.read_text()) for path in CONF.glob("*.yaml")}
STORED = {name: node["transforms"] for name, node in WHOLE.items() if "transforms" in node}
NAMED = sorted(STORED.keys() - {"searched"})
SQUARE = DataSpec(name="square", root="x", classes=CLASSES, size=96)


def leaves(nodes):
    return [leaf for node in nodes for leaf in (leaves(node["transforms"]) if "transforms" in node else [node])]


LEAVES = {str(leaf): leaf for name in NAMED for leaf in leaves(STORED[name])}


def hand_like(shape, seed=0):
    """A grey picture with texture, and 29 overlapping discs as bool [29, h, w]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    centres, radii = rng.uniform(0.1, 0.9, (29, 2)) * shape, rng.uniform(4, 16, 29)
    masks = np.stack([(y - cy) ** 2 + (x - cx) ** 2 < r**2 for (cy, cx), r in zip(centres, radii, strict=True)])
    return (rng.integers(0, 90, shape) + 5 * masks.sum(0)).clip(0, 255).astype(np.uint8), masks


def plain(leaf, shape):
    """The transform straight from albumentations, nearest neighbours for masks, sides in pixels."""
    arguments = {key: value for key, value in leaf.items() if key != "name"} | {"p": 1.0}
    if leaf["name"] == "Resize":
        arguments |= {"height": shape[0], "width": shape[1]}
    for side, full in zip(("height", "width"), shape, strict=True):
        if isinstance(arguments.get(side), float):
            arguments[side] = round(arguments[side] * full)
    kind = getattr(A, leaf["name"])
    if leaf["name"] in ("Affine", "ElasticTransform", "GridDistortion"):
        arguments["mask_interpolation"] = cv2.INTER_NEAREST
    return kind(**arguments)


@pytest.mark.parametrize("leaf", LEAVES.values(), ids=lambda leaf: leaf["name"])
def test_each_transform_of_each_recipe_warps_every_class_as_its_own_mask(leaf):
    """Bit for bit: the planes move as 29 separate masks do in plain albumentations, and grey bytes stay bytes."""
    image, masks = hand_like(SQUARE.shape)
    planes = bitplane.pack(masks.transpose(1, 2, 0))
    crops = leaf["name"] in ("RandomCrop", "CropNonEmptyMaskIfExists")
    recipe = [leaf | {"p": 1.0}] + [{"name": "Resize", "interpolation": cv2.INTER_NEAREST_EXACT}] * crops
    augment, reference = Augmentation(SQUARE, transforms=recipe), A.Compose([plain(leaf, SQUARE.shape)])
    for seed in range(4):
        new_image, new_planes = augment(image, planes, seed)
        reference.set_random_state(np.random.default_rng(seed), random.Random(seed))
        expected = reference(image=image, mask=planes, masks=list(masks.astype(np.uint8)))
        separate = [cv2.resize(m, (96, 96), interpolation=cv2.INTER_NEAREST_EXACT) for m in expected["masks"]]
        np.testing.assert_array_equal(bitplane.unpack(new_planes, 29), np.stack(separate, -1).astype(bool))
        assert (new_image.shape, new_image.dtype) == (SQUARE.shape, np.uint8)
        if not crops:
            np.testing.assert_array_equal(new_image, expected["image"])


@pytest.mark.parametrize("name", NAMED)
def test_each_recipe_keeps_shapes_and_invents_no_label(name):
    augment = Augmentation(SQUARE, transforms=STORED[name])
    image, masks = hand_like(SQUARE.shape)
    only = masks & (np.cumsum(masks, 0) == 1)  # no overlaps: a byte that was blended would show two classes or others
    planes = bitplane.pack(only.transpose(1, 2, 0))
    results = [augment(image, planes, seed) for seed in range(12)]
    for new_image, new_planes in results:
        assert (new_image.shape, new_image.dtype, new_planes.shape) == (SQUARE.shape, np.uint8, planes.shape)
        assert set(np.unique(new_planes.view(np.uint32))) <= set(np.unique(planes.view(np.uint32)))
    assert len({new_image.tobytes() for new_image, _ in results}) >= {"none": 1, "flip": 2}.get(name, 4)


@pytest.mark.parametrize("name", sorted(set(NAMED) - {"orientation"}))
def test_each_recipe_serves_chests_that_are_not_square(name):
    data = DataSpec(name="chest", root="x", classes=("left", "right", "heart"), size=(64, 96), swaps=SWAPS)
    image, masks = hand_like(data.shape)
    new_image, new_planes = Augmentation(data, transforms=STORED[name])(
        image, bitplane.pack(masks[:3].transpose(1, 2, 0)), 1
    )
    assert (new_image.shape, new_planes.shape) == ((64, 96), (64, 96, 1))


def test_the_recipes_cover_the_list():
    listed = {
        "RandomCrop", "HorizontalFlip", "VerticalFlip", "RandomRotate90", "Transpose", "Affine", "GaussNoise", "CLAHE",
        "RandomBrightnessContrast", "ElasticTransform", "CoarseDropout", "GridDropout", "CropNonEmptyMaskIfExists",
    }  # fmt: skip
    assert listed <= {leaf["name"] for leaf in LEAVES.values()}


def test_transforms_happen_independently_of_one_another():
    """Flips along both axes, and flips beside a change of brightness: all four combinations are as frequent."""
    image, planes = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64) // 2, np.zeros((64, 64, 4), np.uint8)
    data = DataSpec(name="x", root="x", classes=("a",), size=64)
    bright = {"name": "RandomBrightnessContrast", "brightness_limit": (0.3, 0.3), "contrast_limit": (0, 0), "p": 0.5}
    for second in ({"name": "VerticalFlip", "p": 0.5}, bright):
        augment = Augmentation(data, transforms=[{"name": "HorizontalFlip", "p": 0.5}, second])
        seen = collections.Counter(augment(image, planes[..., :1], seed)[0].tobytes() for seed in range(400))
        assert len(seen) == 4
        assert stats.chisquare(list(seen.values())).pvalue > 0.001


def test_geometric_is_what_it_always_was():
    pipeline = A.Compose(
        [
            A.HorizontalFlip(p=0.5),
            A.Affine(
                rotate=(-30, 30), scale=(0.85, 1.15), translate_percent=(-0.06, 0.06), shear=(-8, 8), p=0.9,
                mask_interpolation=cv2.INTER_NEAREST,
            ),
            A.RandomBrightnessContrast(brightness_limit=0.15, contrast_limit=0.2, p=0.5),
        ]
    )  # fmt: skip
    image, masks = hand_like(SQUARE.shape)
    planes = bitplane.pack(masks.transpose(1, 2, 0))
    augment = Augmentation(SQUARE, transforms=STORED["geometric"])
    for seed in range(10):
        pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
        expected = pipeline(image=image, mask=planes)
        result = augment(image, planes, seed)
        np.testing.assert_array_equal(result[0], expected["image"])
        np.testing.assert_array_equal(result[1], expected["mask"])


@pytest.mark.parametrize(("epochs", "taken"), [(1, "short"), (149, "short"), (150, "long"), (400, "long")])
def test_the_default_recipe_is_the_one_for_the_number_of_passes(epochs, taken):
    config = configs.compose([f"trainer.epochs={epochs}", "data.size=96", "data.root=x"])
    chosen = configs.build(config, "augment", configs.build(config, "data"))
    expected = Augmentation(configs.build(config, "data"), transforms=WHOLE["by_passes"][taken])
    image, masks = hand_like((192, 192))  # at data.supersample times the size
    planes = bitplane.pack(masks.transpose(1, 2, 0))
    for seed in range(10):
        for one, other in zip(chosen(image, planes, seed), expected(image, planes, seed), strict=True):
            np.testing.assert_array_equal(one, other)
    assert chosen.shows == expected.shows


def test_both_recipes_are_those_of_their_names_and_refused_before_they_are_needed():
    assert (WHOLE["by_passes"]["short"], WHOLE["by_passes"]["long"]) == (STORED["light"], STORED["geometric"])
    config = configs.compose(["augment.long=[{name: Affin}]", "data.root=x"])
    with pytest.raises(UsageError, match="augment: albumentations has no 'Affin'; did you mean 'Affine'"):
        configs.build(config, "augment", configs.build(config, "data"))


@pytest.mark.parametrize("name", ["CoarseDropout", "GridDropout"])
def test_dropouts_hide_the_image_and_keep_its_labels_unless_told_otherwise(name):
    image, masks = hand_like(SQUARE.shape)
    image, planes = np.maximum(image, 1), bitplane.pack(masks.transpose(1, 2, 0))
    hidden, kept = Augmentation(SQUARE, transforms=[{"name": name, "p": 1.0}])(image, planes, 3)
    assert (kept == planes).all()
    assert 0.005 < (hidden == 0).mean() < 0.9
    again, dropped = Augmentation(SQUARE, transforms=[{"name": name, "p": 1.0, "fill_mask": 0}])(image, planes, 3)
    assert (again == hidden).all()
    np.testing.assert_array_equal(dropped, np.where((hidden == 0)[..., None], 0, planes))


def test_a_crop_around_labels_finds_the_one_that_there_is():
    planes = np.zeros((96, 96, 4), np.uint8)
    planes[80:84, 10:14, 3] = 1 << 4  # the last class, in the highest plane
    crop = {"name": "CropNonEmptyMaskIfExists", "height": 0.25, "width": 0.25}
    augment = Augmentation(SQUARE, transforms=[crop, {"name": "Resize"}])
    for seed in range(20):
        _, found = augment(planes[..., 3], planes, seed)
        assert bitplane.unpack(found, 29)[..., 28].any()
    empty = augment(planes[..., 3], np.zeros_like(planes), 0)[1]
    assert not empty.any()
    beside = np.zeros_like(planes)
    beside[:40] = 255  # nor is what does not count a label, nor what lies beside an image
    for seed in range(20):
        _, found = augment(planes[..., 3], np.concatenate([planes, beside, beside], axis=-1), seed)
        assert bitplane.unpack(found[..., :4], 29)[..., 28].any()


def test_labels_are_resized_with_aligned_centres():
    """A blob's centre stays within half a pixel when a crop is enlarged; unaligned neighbours would move it."""
    recipe = [{"name": "CenterCrop", "height": 0.25, "width": 0.25}, {"name": "Resize"}]
    image, planes = np.zeros((96, 96), np.uint8), np.zeros((96, 96, 4), np.uint8)
    planes[44:52, 44:52, 0] = 1  # the middle third of the crop
    moved = np.argwhere(Augmentation(SQUARE, transforms=recipe)(image, planes, 0)[1][..., 0])
    np.testing.assert_allclose(moved.mean(0), 47.5)


def test_a_recipe_that_changes_sizes_now_and_then_is_refused_at_once():
    crop = {"name": "RandomCrop", "height": 32, "width": 32, "p": 0.3}
    with pytest.raises(ValueError, match="into 32 x 32"):
        Augmentation(HAND, transforms=[crop])
    assert Augmentation(HAND, transforms=[crop, {"name": "Resize"}]).names == ["RandomCrop", "Resize"]


def test_a_change_of_size_that_only_the_image_shows_is_refused_then():
    augment = Augmentation(HAND, transforms=[{"name": "RandomRotate90", "p": 1.0}])
    with pytest.raises(BonepipeError, match=r"RandomRotate90.* turns an image of 24 x 64 pixels into 64 x 24"):
        for seed in range(8):
            augment(np.zeros((24, 64), np.uint8), np.zeros((24, 64, 4), np.uint8), seed)


@pytest.mark.parametrize("name", ["Transpose", "D4", "RandomRotate90"])
def test_turning_images_that_are_not_square_is_refused(name):
    wide = DataSpec(name="wide", root="x", classes=CLASSES, size=(64, 96))
    with pytest.raises(ValueError, match=f"{name} exchanges height and width, .*64 x 96"):
        Augmentation(wide, transforms=[{"name": name}])


def test_a_policy_file_is_a_recipe(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump({"transforms": [AFFINE, {"name": "HorizontalFlip", "p": 1.0}]}))
    augment = Augmentation(HAND, transforms=[{"name": "VerticalFlip", "p": 1.0}], file=str(path))
    assert augment.names == ["Affine", "HorizontalFlip", "VerticalFlip"]
    written = [{"name": "VerticalFlip", "p": 1.0}, AFFINE, {"name": "HorizontalFlip", "p": 1.0}]
    image, planes = labelled(29)
    path.unlink()  # loader processes must not need it
    for other in (augment, pickle.loads(pickle.dumps(augment)), Augmentation(HAND, transforms=written)):
        assert (other(image, planes, 5)[1] == augment(image, planes, 5)[1]).all()


@pytest.mark.parametrize(
    "content", [None, b"\xff\xfe", b"transforms: {a", b"transforms: 3", b"- 1", b"transforms: [a]"]
)
def test_a_policy_file_that_is_none_is_refused(tmp_path, content):
    path = tmp_path / "policy.yaml"
    if content is not None:
        path.write_bytes(content)
    reason = "no such policy; `bonepipe autoaugment" if content is None else "cannot be read|holds no list"
    with pytest.raises(ValueError, match=rf"policy\.yaml: .*{reason}"):
        Augmentation(HAND, file=str(path))


# What a recipe shows a model, against what it does to pictures.


def nested(node):
    """A transform on its own, and inside each kind of choice."""
    yield [node]
    yield [{"name": "OneOf", "p": 0.9, "transforms": [{"name": "NoOp"}, {"name": "Sequential", "transforms": [node]}]}]
    yield [{"name": "SomeOf", "n": 2, "transforms": [{"name": "NoOp"}, node]}]


def never(node):
    """The same, such that it never happens."""
    yield [node | {"p": 0}]
    yield [{"name": "Sequential", "p": 0.0, "transforms": [node]}]
    yield [{"name": "OneOf", "transforms": [node | {"p": 0.0}, {"name": "NoOp", "p": 1.0}], "p": 1.0}]
    yield [{"name": "SomeOf", "n": 2, "transforms": [node | {"p": 0.0}, {"name": "NoOp", "p": 1.0}], "p": 1.0}]


ROUND = DataSpec(name="round", root="x", classes=("disc",), size=128)


def factors(recipe, seeds=80):
    """By how much a disc in the middle grows under a recipe, by the square root of its area."""
    y, x = np.mgrid[:128, :128] - 63.5
    disc = (x**2 + y**2 < 34**2).astype(np.uint8)
    augment = Augmentation(ROUND, transforms=recipe)
    areas = [augment(disc * 200, disc[..., None], seed)[1].sum() for seed in range(seeds)]
    return np.sqrt(np.array(areas, float) / disc.sum())


def assert_scales_told(recipe):
    """What the recipe tells of scales is what it does: within the span, and not in a small part of it."""
    found, told = factors(recipe), Augmentation(ROUND, transforms=recipe).shows
    if "Scale" not in told:
        assert np.abs(found - 1).max() < 0.02
        return False
    low, high = told["Scale"]
    assert min(low, 1) - 0.01 < found.min() < low + 0.45 * (high - low) + 0.01
    assert max(high, 1) + 0.01 > found.max() > high - 0.45 * (high - low) - 0.01
    return True


@settings(max_examples=25, deadline=None)
@given(
    spans=st.lists(st.tuples(st.floats(0.5, 1), st.floats(1.001, 1.6)).map(list), min_size=1, max_size=2),
    ever=st.booleans(),
    pick=st.integers(0, 3),
)
def test_the_scales_that_a_recipe_tells_are_those_of_a_disc(spans, ever, pick):
    recipe = []
    for span in spans:
        node = {"name": "Affine", "scale": span, "rotate": [-20, 20], "keep_ratio": True, "p": 0.9}
        variants = list((nested if ever else never)(node))
        recipe += (
            [{"name": "OneOf", "p": 1.0, "transforms": variants[pick % len(variants)]}] if ever else variants[pick]
        )
    told = Augmentation(ROUND, transforms=recipe).shows.get("Scale")
    expected = [min(low for low, _ in spans), max(high for _, high in spans)]
    assert told == (pytest.approx(expected, abs=1e-5) if ever else None)
    if len(spans) == 1:
        assert assert_scales_told(recipe) == ever


PADDED = [
    {"name": "PadIfNeeded", "min_height": 128, "min_width": 128},
    {"name": "CenterCrop", "height": 128, "width": 128},
]


@pytest.mark.parametrize(
    ("recipe", "span"),
    [
        ([{"name": "Affine", "rotate": [-30, 30], "translate_percent": [-0.05, 0.05]}], None),
        ([{"name": "Affine", "scale": 1.0, "rotate": [-30, 30]}], None),
        ([{"name": "Affine", "scale": [0.8, 1.2], "keep_ratio": True, "p": 1.0}], [0.8, 1.2]),
        ([{"name": "Affine", "scale": 0.7, "balanced_scale": False, "p": 1.0}], [0.7, 0.7]),
        ([{"name": "ShiftScaleRotate", "scale_limit": 0.3, "shift_limit": 0, "p": 1.0}], [0.7, 1.3]),
        ([{"name": "ShiftScaleRotate", "scale_limit": 0, "shift_limit": 0, "p": 1.0}], None),
        ([{"name": "RandomScale", "scale_limit": 0.25, "p": 1.0}, *PADDED], [0.75, 1.25]),
        ([{"name": "RandomScale", "scale_limit": 0.25, "p": 1.0}, {"name": "Resize"}], None),
        ([{"name": "Affine", "scale": 1.5, "fit_output": True, "p": 1.0}, {"name": "Resize"}], None),
        ([{"name": "Affine", "scale": [0.8, 1.2], "keep_ratio": True, "p": 1.0}, {"name": "Resize"}], [0.8, 1.2]),
        ([{"name": "HorizontalFlip"}, {"name": "GaussNoise"}], None),
    ],
)
def test_transforms_that_may_scale_tell_whether_they_do(recipe, span):
    assert Augmentation(ROUND, transforms=recipe).shows.get("Scale") == span
    assert assert_scales_told(recipe) == (span is not None)


def test_only_scales_of_both_sides_together_are_told():
    def told(x, y):
        return Augmentation(HAND, transforms=[{"name": "Affine", "scale": {"x": x, "y": y}}]).shows.get("Scale")

    assert told([0.8, 1.1], [0.9, 1.3]) == [0.9, 1.1]
    assert told([0.8, 1.1], 1.0) is told([0.7, 0.8], [0.9, 1.3]) is None


ORIENTED = np.arange(64 * 64).reshape(64, 64) // 17 % 251
ORIENTATIONS = {
    "HorizontalFlip": ORIENTED[:, ::-1],
    "VerticalFlip": ORIENTED[::-1],
    "Rotate90": np.rot90(ORIENTED),
}


@pytest.mark.parametrize(
    "name", ["HorizontalFlip", "VerticalFlip", "RandomRotate90", "D4", "SquareSymmetry", "Transpose", "NoOp"]
)
def test_the_orientations_that_a_recipe_tells_are_those_it_makes(name):
    image, planes = ORIENTED.astype(np.uint8), np.zeros((64, 64, 4), np.uint8)
    for ever, variants in ((True, nested({"name": name, "p": 0.8})), (False, never({"name": name}))):
        for recipe in variants:
            augment = Augmentation(HAND, transforms=recipe)
            made = [augment(image, planes, seed)[0] for seed in range(200)]
            shown = {kind for kind, view in ORIENTATIONS.items() if any((one == view).all() for one in made)}
            assert set(augment.shows) == shown
            assert ever or not shown


def test_flips_that_swap_classes_tell_what_they_show():
    for name in ("HorizontalFlip", "VerticalFlip"):
        assert Augmentation(CHEST, transforms=[{"name": name}]).shows == {name: []}


@pytest.mark.parametrize("brightness", [0, 0.3, [0.1, 0.3]])
@pytest.mark.parametrize("contrast", [0, 0.2, [-0.2, 0]])
def test_greys_that_a_recipe_tells_are_those_it_makes(brightness, contrast):
    """Add moves two greys alike; Multiply stretches them about a third, so that neither alone will do."""
    node = {"name": "RandomBrightnessContrast", "brightness_limit": brightness, "contrast_limit": contrast}
    image, planes = np.full((64, 64), 90, np.uint8), np.zeros((64, 64, 4), np.uint8)
    image[:, 32:] = 120
    for recipe in nested(node | {"p": 1.0}):
        augment = Augmentation(HAND, transforms=recipe)
        made = [augment(image, planes, seed)[0].astype(int) for seed in range(40)]
        stretch = np.array([(one[0, 63] - one[0, 0]) / 30 for one in made])
        shift = np.array([one[0, 0] - 90 * factor for one, factor in zip(made, stretch, strict=True)])
        moves, stretches = np.abs(shift).max() > 8, np.abs(stretch - 1).max() > 0.05
        expected = {kind for kind, does in (("Add", moves), ("Multiply", moves and stretches)) if does}
        assert set(augment.shows) == expected
    for recipe in never(node):
        assert Augmentation(HAND, transforms=recipe).shows == {}


def test_what_is_shown_travels_and_survives_json():
    augment = Augmentation(HAND, transforms=STORED["both_flips"])
    expected = {"Add": [], "HorizontalFlip": [], "Multiply": [], "Scale": [0.85, 1.15], "VerticalFlip": []}
    assert (
        augment.shows == pickle.loads(pickle.dumps(augment)).shows == json.loads(json.dumps(augment.shows)) == expected
    )


def test_a_choice_of_nothing_is_refused():
    with pytest.raises(ValueError, match="OneOf: there is nothing to choose from, every p in it is 0"):
        Augmentation(HAND, transforms=[{"name": "OneOf", "transforms": [{"name": "HorizontalFlip", "p": 0.0}]}])
