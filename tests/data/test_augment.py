import pickle

import cv2
import numpy as np
import pytest

from bonepipe.data.augment import Augmentation
from bonepipe.data.spec import DataSpec
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
    "crop": [{"name": "RandomResizedCrop", "size": [64, 64], "p": 1.0} | NEAREST],
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
        ({"name": "RandomResizedCrop"}, "size"),
        ({"name": "Affine", "rotat": 3}, "Affine takes no 'rotat'; it takes .*rotate"),
        ({"name": "OneOf", "p": 1.0}, "OneOf needs a list of transforms"),
        ({"name": "OneOf", "transforms": [{"name": "Flop"}]}, "no 'Flop'"),
        ({"name": "HorizontalFlip", "p": 3.0}, "p"),
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
