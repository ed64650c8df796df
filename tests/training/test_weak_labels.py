from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bonepipe.data.store import Store
from bonepipe.labels import bitplane, polygon, rle
from bonepipe.training import weak_labels

SQUARES = [(0, 8, 8), (1, 40, 30)]  # class, top, left; 20 pixels a side


@pytest.fixture
def store(tmp_path):
    """One image of 72 x 72 pixels, 144 x 144 originally: a dark and a bright square; the third class is absent."""
    image, outlines = np.zeros((72, 72), np.uint8), []
    for number, top, left in SQUARES:
        image[top : top + 20, left : left + 20] = 100 + 100 * number
        corners = [[left, top], [left + 19.5, top], [left + 19.5, top + 19.5], [left, top + 19.5]]
        outlines.append((number, np.array(corners) * 2))
    outlines = [(number, points.round().astype(np.int32)) for number, points in outlines]
    return Store(
        folder=tmp_path, names=("one.png",), images=image[None], shapes=np.array([[144, 144]]), class_count=3,
        planes=bitplane.resize(polygon.rasterise(outlines, (144, 144), 3), (72, 72))[None],
        points=np.concatenate([points for _, points in outlines]), starts=np.array([0, 4, 8]),
        classes=np.array([0, 1]), owners=np.array([0, 0]),
    )  # fmt: skip


class Knows(nn.Module):
    """A classifier whose maps are high where the image has the class's grey value, at a quarter of the resolution."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def maps(self, images):
        grey = nn.functional.avg_pool2d(images * 255, 4)
        return torch.cat([4 - (grey - value).abs() / 20 for value in (100, 200, 300)], 1)


def test_maps_become_masks_by_their_own_maximum():
    maps = np.zeros((3, 8, 8), np.float32)
    maps[0, 2:4, 2:4], maps[1, 5:7, 5:7], maps[2] = 10, 0.1, -1
    masks = weak_labels.masks_of_maps(maps, (8, 8), 0.5)
    np.testing.assert_array_equal(masks[0], maps[0] > 0)
    np.testing.assert_array_equal(masks[1], maps[1] > 0)
    assert not masks[2].any()
    maps[0, 2, 2] = 4.9
    assert weak_labels.masks_of_maps(maps, (8, 8), 0.5)[0].sum() == 3
    assert weak_labels.masks_of_maps(maps, (8, 8), 0.4)[0].sum() == 4


def test_cells_that_reach_beyond_the_image_do_not_shift_the_others():
    """Of 125 pixels at stride 8 the last cell shows five."""
    maps = np.zeros((1, 16, 16), np.float32)
    maps[0, 14, 2] = 1  # pixels 112 to 119 and 16 to 23
    rows, columns = np.nonzero(weak_labels.masks_of_maps(maps, (125, 125), 0.9)[0])
    assert (rows.mean(), columns.mean()) == (115.5, 19.5)


def test_a_pixel_goes_to_the_class_that_claims_it_most():
    maps = np.zeros((2, 4, 6), np.float32)
    maps[0, :, :4] = [10, 10, 8, 6]
    maps[1, :, 2:] = [0.05, 0.09, 0.1, 0.1]
    masks = weak_labels.masks_of_maps(maps, (4, 6), 0.5)
    assert masks[0][0].tolist() == [True, True, True, False, False, False]
    assert masks[1][0].tolist() == [False, False, False, True, True, True]


def test_smoothing_takes_single_points_away():
    maps = np.zeros((1, 32, 32), np.float32)
    maps[0, 4:16, 4:16], maps[0, 28, 28] = 1, 1
    assert weak_labels.masks_of_maps(maps, (32, 32), 0.5)[0, 28, 28]
    smooth = weak_labels.masks_of_maps(maps, (32, 32), 0.5, 2.0)[0]
    assert not smooth[28, 28]
    assert smooth[10, 10]


def test_the_slid_classifier_is_blind_where_no_window_shows_the_class(store):
    """Against the definition: a pixel counts if some window around it has a positive mean."""
    model = Knows()
    images = torch.from_numpy(store.images)
    maps = weak_labels.activation_maps(model, images, 0.0, 1.0, (24, 24))[0]
    raw = model.maps(images[:, None] / 255)[0].detach()
    assert maps.shape == raw.shape == (3, 18, 18)
    for number in range(3):
        seen = np.zeros((18, 18), bool)
        for top in range(13):
            for left in range(13):
                if raw[number, top : top + 6, left : left + 6].mean() > 0:
                    seen[top : top + 6, left : left + 6] = True
        expected = np.where(seen, raw[number].numpy(), 0)
        np.testing.assert_allclose(maps[number].numpy(), expected, atol=1e-4)
    assert not maps[2].any()


def test_weak_masks_are_scored_at_the_original_size(store):
    settings = {"mean": 0.0, "std": 1.0, "crop": (24, 24), "threshold": 0.5, "smooth": 0.0}
    (found,) = weak_labels.weak_masks(Knows(), store, [0], **settings)
    assert found.name == "one.png"
    planes = polygon.rasterise(
        [(label, store.points[4 * label : 4 * label + 4]) for label in (0, 1)], (144, 144), 3
    )  # fmt: skip
    truth = bitplane.unpack(planes, 3)
    for number, text in enumerate(found.texts):
        mask = rle.decode(text, (144, 144))
        overlap = (mask & truth[..., number]).sum()
        expected = (2 * overlap + 1e-4) / (mask.sum() + truth[..., number].sum() + 1e-4)
        assert found.dice[number] == pytest.approx(expected, abs=1e-9)
    assert found.dice[:2].min() > 0.75
    assert found.texts[2] == ""


def test_weak_masks_of_a_padded_image_are_those_of_the_image(store):
    settings = {"mean": 0.0, "std": 1.0, "crop": (24, 24), "threshold": 0.5, "smooth": 0.0}
    beside = (0, 0), (0, 0), (20, 20)
    images, planes = np.pad(store.images, beside), np.pad(store.planes, (*beside, (0, 0)))
    padded = replace(store, images=images, planes=planes, fit="pad")
    (plain,), (found,) = (weak_labels.weak_masks(Knows(), each, [0], **settings) for each in (store, padded))
    assert found.dice == pytest.approx(plain.dice, abs=0.02)
    (wrong,) = weak_labels.weak_masks(Knows(), replace(padded, fit="stretch"), [0], **settings)
    assert wrong.dice[:2].max() < 0.75
