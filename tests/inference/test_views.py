import pytest
import torch

from bonepipe.data.spec import DataSpec
from bonepipe.errors import BonepipeError
from bonepipe.inference.views import Views

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


def test_views_that_the_model_did_not_see_are_refused():
    views = Views(PLAIN, transforms=[FLIP, {"name": "Rotate90", "angles": [0, 90]}])
    views.check(["HorizontalFlip", "RandomRotate90"], "weights")
    views.check({"D4"}, "weights")
    with pytest.raises(BonepipeError, match=r"fold-1/weights.*Rotate90.*HorizontalFlip, Affine.*tta=none.*tta\.force"):
        views.check(["HorizontalFlip", "Affine"], "fold-1/weights")
    with pytest.raises(BonepipeError, match=r"HorizontalFlip.*none"):
        views.check([], "weights")
    Views(PLAIN, transforms=[FLIP], force=True).check([], "weights")
    Views(PLAIN).check([], "weights")


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


def test_scaled_views_keep_pixel_centres_aligned():
    ramp = torch.linspace(0, 1, 32).expand(1, 1, 32, 32)
    for _, forth, back in Views(PLAIN, transforms=[{"name": "Scale", "scales": [1, 1.5]}]):
        middle = (slice(None), slice(None), slice(2, -2), slice(2, -2))
        torch.testing.assert_close(back(forth(ramp))[middle], ramp[middle], rtol=0, atol=1e-6)
