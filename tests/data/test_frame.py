"""Where an image of any shape lies in the frame that a model sees, and the way back."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonepipe.data.frame import Frame
from bonepipe.data.image import resize_grey
from bonepipe.labels import bitplane, upsample
from bonepipe.labels.cutout import Box

SIDES = st.integers(1, 3000)
SHAPES = st.tuples(st.integers(32, 600), st.integers(32, 600))


@given(st.tuples(SIDES, SIDES), SHAPES)
def test_an_image_lies_whole_centred_and_in_its_own_aspect(image, shape):
    box = Frame(shape, "pad").box(image)
    assert box.top + box.bottom == shape[0] and box.left + box.right == shape[1]
    assert 0 <= box.top < box.bottom and 0 <= box.left < box.right
    scale = min(shape[0] / image[0], shape[1] / image[1])
    for length, side in zip((box.height, box.width), image, strict=True):
        assert abs(length - side * scale) < 1.001 or length <= 2  # hardly there, but never gone
    assert box.height == shape[0] or box.width == shape[1]


@given(st.tuples(SIDES, SIDES), SHAPES)
def test_stretching_fills_the_frame_and_so_does_the_frames_own_aspect(image, shape):
    assert Frame(shape, "stretch").box(image) == Box(0, 0, *shape)
    assert Frame(shape).fit == "stretch"  # what a config means that does not say
    assert Frame(shape, "pad").box((3 * shape[0], 3 * shape[1])) == Box(0, 0, *shape)
    assert Frame((shape[0], shape[0]), "pad").box((image[0], image[0])) == Box(0, 0, shape[0], shape[0])


def blob(shape, seed):
    """A smooth mask that fills about a third of an image, and the image."""
    rng = np.random.default_rng(seed)
    waves = cv2.resize(rng.normal(0, 1, (5, 5)).astype(np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC)
    return waves > 0.4, ((waves - waves.min()) / np.ptp(waves) * 255).astype(np.uint8)


@pytest.mark.parametrize("size", [(64, 64), (96, 48), (65, 80)])
@pytest.mark.parametrize("image", [(200, 200), (100, 200), (211, 97), (40, 30), (300, 50)])
def test_pixels_and_maps_find_their_place_and_their_way_back(image, size):
    mask, grey = blob(image, 0)
    frame = Frame(size, "pad")
    (top, left, bottom, right), shown = frame.box(image), frame.place(grey, resize_grey)
    assert shown.shape == size
    expected = np.pad(resize_grey(grey, (bottom - top, right - left)), ((top, top), (left, left)))
    assert (shown == expected).all()
    assert (frame.content(shown, image) == expected[top:bottom, left:right]).all()
    planes = frame.place(bitplane.pack(mask[..., None]), bitplane.resize)
    maps = np.moveaxis(bitplane.unpack(planes, 1), -1, 0).astype(np.float32)
    back = upsample.upsample(frame.content(maps, image)[0], image) >= 0.5
    dice = 2 * (back & mask).sum() / (back.sum() + mask.sum())
    assert dice > 0.97 - 4 / min(bottom - top, right - left)
    wrong = upsample.upsample(maps[0], image) >= 0.5
    squeezed = 2 * (wrong & mask).sum() / (wrong.sum() + mask.sum())
    assert (dice > squeezed + 0.1) == (max(top / size[0], left / size[1]) > 0.05)


@pytest.mark.parametrize("size", [(64, 64), (65, 80)])
def test_a_mirrored_or_turned_image_lies_in_the_mirrored_or_turned_place(size):
    frame, white = Frame(size, "pad"), np.full((101, 33), 255, np.uint8)
    shown, turned = frame.place(white, resize_grey), Frame(size[::-1], "pad").place(white.T.copy(), resize_grey)
    assert (shown == shown[::-1]).all() and (shown == shown[:, ::-1]).all()
    assert (np.rot90(shown) == turned).all()
