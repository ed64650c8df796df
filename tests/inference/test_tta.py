from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from bonepipe import config as configs
from bonepipe.config import conf_dir
from bonepipe.data.spec import DataSpec
from bonepipe.errors import BonepipeError
from bonepipe.inference.fold_model import FoldModel, mean_probabilities
from bonepipe.inference.tta import Views, seen_in_training
from bonepipe.labels import upsample

PLAIN = DataSpec(name="hand", root="nowhere", classes=("Radius", "Ulna", "Lunate"), size=32)
CHEST = DataSpec(
    name="chest",
    root="nowhere",
    classes=("left lung", "heart", "right lung"),
    size=32,
    swaps={"horizontal": [("left lung", "right lung")]},
)
FLIP, UPSIDE_DOWN = {"name": "HorizontalFlip"}, {"name": "VerticalFlip"}


def pixelwise(images):
    """A model of three classes that looks at single pixels, so that it turns and flips with its image."""
    return torch.cat([images, images**2, 1 - images], 1)


def picture():
    return torch.rand(2, 1, 6, 9, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("transforms", "count"),
    [
        ([], 1),
        ([FLIP], 2),
        ([UPSIDE_DOWN], 2),
        ([FLIP, UPSIDE_DOWN], 4),
        ([{"name": "Rotate90", "angles": [0, 90, 180, 270]}], 4),
        ([FLIP, {"name": "Rotate90", "angles": [0, 90]}], 4),
    ],
)
def test_every_view_comes_back_to_where_it_was(transforms, count):
    views = Views(PLAIN, transforms=transforms)
    images, seen = picture(), []
    for weight, forth, back in views:
        assert weight == pytest.approx(1 / count)
        seen.append(forth(images))
        torch.testing.assert_close(back(pixelwise(seen[-1])), pixelwise(images), rtol=0, atol=0)
    assert len(views) == len(seen) == count
    different = {(tuple(view.shape), tuple(view.flatten().tolist())) for view in seen}
    assert len(different) == count


def test_a_flip_is_the_mirror_image():
    images = picture()
    (_, same, _), (_, mirror, _) = sorted(
        Views(PLAIN, transforms=[FLIP]), key=lambda view: not torch.equal(view[1](images), images)
    )
    assert torch.equal(same(images), images)
    assert torch.equal(mirror(images), images[..., list(range(8, -1, -1))])


def test_classes_trade_places_in_a_mirrored_image():
    images = picture()
    maps = torch.rand(2, 3, 6, 9)
    swapped = 0
    for _, forth, back in Views(CHEST, transforms=[FLIP, UPSIDE_DOWN]):
        column = list(range(8, -1, -1)) if forth(images)[0, 0, 0, 0] in images[0, 0, [0, 5], 8] else list(range(9))
        row = list(range(5, -1, -1)) if forth(images)[0, 0, 0, 0] in images[0, 0, 5, [0, 8]] else list(range(6))
        expected = maps[:, :, row][..., column]
        if column[0] == 8:  # only the horizontal flip swaps left and right
            expected = expected[:, [2, 1, 0]]
            swapped += 1
        assert torch.equal(back(maps), expected)
    assert swapped == 2


def test_weights_are_shares_in_the_order_of_the_combinations():
    transforms = [{"name": "Add", "values": [0, 0.5]}, {"name": "Multiply", "factors": [1, 2, 3]}]
    views = Views(PLAIN, transforms=transforms, weights=[1, 0, 3, 2, 2, 2], force=True)
    one = torch.ones(1, 1, 1, 1)
    assert [(round(weight * 10), forth(one).item()) for weight, forth, _ in views] == [
        (1, 1), (0, 2), (3, 3), (2, 1.5), (2, 3), (2, 4.5),
    ]  # fmt: skip


@pytest.mark.parametrize("weights", [[1], [1, 2, 3], [0, 0], [2, -1], []])
def test_weights_that_do_not_fit_are_refused(weights):
    with pytest.raises(ValueError, match="need 2 of them"):
        Views(PLAIN, transforms=[FLIP], weights=weights)


@pytest.mark.parametrize(
    ("view", "message"),
    [
        ({"name": "Rotate90", "angles": [0, 45]}, "angle 45 is no multiple of 90"),
        ({"name": "Scale", "scales": [1, 0]}, "scale 0 is not above 0"),
        ({"name": "Scale", "scales": [-1.5]}, "scale -1.5 is not above 0"),
    ],
)
def test_views_that_ttach_would_take_and_spoil_are_refused(view, message):
    with pytest.raises(ValueError, match=message):
        Views(PLAIN, transforms=[view], force=True)


def test_views_that_the_model_did_not_see_are_refused():
    views = Views(PLAIN, transforms=[FLIP, {"name": "Rotate90", "angles": [0, 90]}])
    views.check({"HorizontalFlip": [], "Rotate90": []}, "weights")
    saw = r"it saw HorizontalFlip, Scale 0\.85 to 1\.15"
    with pytest.raises(BonepipeError, match=rf"fold-1/weights: .* has Rotate90, .*{saw}.*tta=none.*tta\.force=true"):
        views.check({"HorizontalFlip": [], "Scale": [0.85, 1.15]}, "fold-1/weights")
    with pytest.raises(BonepipeError, match=r"HorizontalFlip, which .*it saw images as they are"):
        views.check({}, "weights")
    Views(PLAIN, transforms=[FLIP], force=True).check({}, "weights")
    Views(PLAIN).check({}, "weights")


@pytest.mark.parametrize(
    ("scales", "beyond"),
    [
        ([0.9, 1.1], None),
        ([0.9], None),
        ([1.0, 0.95, 1], None),
        ([0.85, 1.1], "0.85"),
        ([1.0, 1.125, 0.5, 0.95], "1.125, 0.5"),
        ([2], "2"),
    ],
)
def test_scales_have_to_lie_between_those_of_training(scales, beyond):
    node = {"name": "Scale", "scales": scales}
    views = Views(PLAIN, transforms=[node])
    views.check({"Scale": []}, "weights of an earlier version")
    if beyond is None:
        views.check({"Scale": [0.9, 1.1]}, "weights")
    else:
        with pytest.raises(BonepipeError, match=rf"has Scale {beyond}, which .*Scale 0\.9 to 1\.1\).*tta\.force=true"):
            views.check({"Scale": [0.9, 1.1]}, "weights")
    Views(PLAIN, transforms=[node], force=True).check({"Scale": [0.9, 1.1]}, "weights")


def test_the_image_itself_asks_for_no_scale_in_training():
    """Enlarged images were all that this model saw; the plain one is among the views all the same."""
    Views(PLAIN, transforms=[{"name": "Scale", "scales": [1, 1.3]}]).check({"Scale": [1.2, 1.4]}, "weights")


def test_sizes_ask_for_any_scale():
    views = Views(PLAIN, transforms=[{"name": "Resize", "sizes": [[40, 60]]}])
    views.check({"Scale": [0.9, 1.1]}, "weights")
    with pytest.raises(BonepipeError, match="has Resize, which"):
        views.check({"HorizontalFlip": []}, "weights")


# What earlier versions accepted, by the names of the augmentations in the weights file.
BY_NAME = {
    "HorizontalFlip": ["HorizontalFlip", "D4", "SquareSymmetry"],
    "VerticalFlip": ["VerticalFlip", "D4", "SquareSymmetry"],
    "Rotate90": ["RandomRotate90", "D4", "SquareSymmetry"],
    "Scale": ["Affine", "RandomScale", "ShiftScaleRotate"],
    "Resize": ["Affine", "RandomScale", "ShiftScaleRotate"],
    "Add": ["RandomBrightnessContrast"],
    "Multiply": ["RandomBrightnessContrast"],
}
NODES = {
    "Rotate90": {"angles": [90]},
    "Scale": {"scales": [3]},
    "Resize": {"sizes": [[8, 8]]},
    "Add": {"values": [1]},
    "Multiply": {"factors": [2]},
}


@pytest.mark.parametrize("view", BY_NAME)
@pytest.mark.parametrize("name", sorted({name for names in BY_NAME.values() for name in names} | {"GaussNoise"}))
def test_weights_of_earlier_versions_are_taken_at_their_word(view, name):
    views = Views(PLAIN, transforms=[{"name": view, **NODES.get(view, {})}])
    seen = seen_in_training({"augmentations": ["CLAHE", name], "fold": 0})
    if name in BY_NAME[view]:
        views.check(seen, "weights")
    else:
        with pytest.raises(BonepipeError, match=f"has {view}, which the model did not see"):
            views.check(seen, "weights")


@pytest.mark.parametrize(
    ("transforms", "message"),
    [
        ([{"name": "HorizontalFlop"}], "no view 'HorizontalFlop'; did you mean 'HorizontalFlip'"),
        ([{"angles": [90]}], "no view 'None'"),
        ([{"name": "FiveCrops", "crop_height": 8, "crop_width": 8}], "no view 'FiveCrops'"),
        ([{"name": "HorizontalFlip", "p": 0.5}], "view HorizontalFlip: .*'p'"),
        ([{"name": "Rotate90"}], "view Rotate90: .*angles"),
    ],
)
def test_mistakes_in_the_config_are_named(transforms, message):
    with pytest.raises(ValueError, match=message):
        Views(PLAIN, transforms=transforms)


class Same(nn.Module):
    """A network whose probabilities are the grey values of its image, one class or three."""

    def __init__(self, classes=1):
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(()))
        self.powers = torch.arange(1.0, classes + 1).view(1, -1, 1, 1)

    def forward(self, images):
        return (images**self.powers).logit(1e-6)


def probabilities(views, grey, classes=1):
    """What the views make of grey bytes `[h, w]` under a network that changes nothing, float64 `[C, h, w]`."""
    member = FoldModel(Path("w"), Same(classes), {})
    return mean_probabilities([member], views, torch.from_numpy(grey)[None], 0.0, 1.0)[0].double().numpy()


def scaled(factor, **more):
    """Nothing but the view at one scale."""
    node = {"name": "Scale", "scales": [1.0, factor], **more}
    return Views(PLAIN, transforms=[node], weights=[0, 1])


SIZES = [(64, 64), (47, 53), (61, 75), (160, 90)]
FACTORS = [0.75, 0.9, 1.1, 1.25]
NEAREST = {"interpolation": "nearest", "align_corners": None}  # ttach's own defaults


def smooth_blob(shape):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    middle, width = (0.37 * shape[0], 0.55 * shape[1]), min(shape) / 9
    return np.rint(250 * np.exp(-((rows - middle[0]) ** 2 + (columns - middle[1]) ** 2) / (2 * width**2))).astype(
        np.uint8
    )


def centroid(map_):
    rows, columns = np.indices(map_.shape)
    return np.array([(rows * map_).sum(), (columns * map_).sum()]) / map_.sum()


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("factor", FACTORS)
def test_a_scaled_view_brings_a_ramp_back_as_it_was(shape, factor):
    """Bilinear interpolation is exact on a ramp, so that any shift would show in every pixel."""
    down, across = np.indices(shape)
    for ramp in (down, across, down + across):
        grey = ramp.astype(np.uint8)
        assert grey.max() == ramp.max()
        (found,) = probabilities(scaled(factor), grey)
        np.testing.assert_allclose(found[3:-3, 3:-3] * 255, ramp[3:-3, 3:-3], rtol=0, atol=1e-3)


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("factor", FACTORS)
def test_a_scaled_view_leaves_a_blob_where_it_was(shape, factor):
    grey = smooth_blob(shape)
    (plain,), (found,) = probabilities(Views(PLAIN), grey), probabilities(scaled(factor), grey)
    assert np.abs(centroid(found) - centroid(plain)).max() < 0.01
    assert np.abs(found - plain).max() < 0.04
    (nearest,) = probabilities(scaled(factor, **NEAREST), grey)
    assert np.abs(centroid(nearest) - centroid(plain)).min() > 0.1, "ttach's default would pass this test"


def test_resized_views_come_back_at_the_size_of_the_image():
    views = Views(PLAIN, transforms=[{"name": "Resize", "sizes": [[40, 60], [64, 64]]}])
    grey = smooth_blob((48, 50))
    (plain,), (found,) = probabilities(Views(PLAIN), grey), probabilities(views, grey)
    assert np.abs(centroid(found) - centroid(plain)).max() < 0.01


def option(name):
    """The settings of conf/tta/NAME.yaml."""
    node = yaml.safe_load((conf_dir() / "tta" / f"{name}.yaml").read_text())
    return {key: value for key, value in node.items() if key != "_target_"}


UPRIGHT = DataSpec(
    name="any",
    root="nowhere",
    classes=("left", "middle", "right"),
    size=32,
    swaps={"horizontal": [("left", "right")], "vertical": [("middle", "right")]},
)


@pytest.mark.parametrize("shape", [(48, 40), (37, 45)])
def test_twelve_views_equal_a_loop_over_them(shape):
    """Flips by indexing, sizes by the interpolation that masks are made with, classes swapped by hand."""
    grey, settings = smooth_blob(shape), option("twelve")
    weights = list(range(1, 13))
    maps, number = np.zeros((3, *shape)), 0
    for across in (False, True):
        for down in (False, True):
            for factor in (1.0, 0.9, 1.1):
                turned = np.ascontiguousarray(grey[:: -1 if down else 1, :: -1 if across else 1] / np.float32(255))
                size = int(shape[0] * factor), int(shape[1] * factor)
                seen = upsample.upsample(turned, size)
                back = [upsample.upsample(np.maximum(seen**power, 1e-6), shape) for power in (1, 2, 3)]
                view = np.stack(back)[:, :: -1 if down else 1, :: -1 if across else 1]
                if down:
                    view = view[[0, 2, 1]]
                if across:
                    view = view[[2, 1, 0]]
                maps += weights[number] / sum(weights) * view
                number += 1
    views = Views(UPRIGHT, **{**settings, "weights": weights})
    assert len(views) == number == 12
    np.testing.assert_allclose(probabilities(views, grey, 3), maps, rtol=0, atol=1e-5)
    straight = Views(replace(UPRIGHT, swaps={}), **{**settings, "weights": weights})
    assert np.abs(probabilities(straight, grey, 3) - maps).max() > 0.05, "swapped classes would make no difference"


def shown(augment):
    """What a recipe of conf/augment shows a model."""
    return configs.build(configs.compose([f"augment={augment}"]), "augment", PLAIN).shows


def test_the_twelve_views_ask_for_training_with_all_of_them():
    views = Views(PLAIN, **option("twelve"))
    seen = shown("both_flips")
    views.check(seen, "weights")
    for missing in ("HorizontalFlip", "VerticalFlip", "Scale"):
        with pytest.raises(BonepipeError, match=f"has {missing}, which"):
            views.check({kind: span for kind, span in seen.items() if kind != missing}, "weights")
    with pytest.raises(BonepipeError, match="VerticalFlip, which the model did not see"):
        views.check(shown("geometric"), "weights")
    with pytest.raises(BonepipeError, match=r"Scale 0\.9, 1\.1, which"):
        views.check({**seen, **shown("light")}, "weights")
