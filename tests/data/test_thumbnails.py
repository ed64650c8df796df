import json

import cv2
import numpy as np
import pytest

from bonepipe.data.image import read_grey
from bonepipe.data.thumbnails import SIDE, Usual, copies, thumbnail


@pytest.fixture(scope="module")
def hands(phantom_root):
    return [read_grey(path) for path in sorted(phantom_root.glob("*/DCM/*/*.png"))]


@pytest.fixture(scope="module")
def thumbnails(hands):
    return np.array([thumbnail(grey) for grey in hands])


@pytest.mark.parametrize("size", [256, 2048])
def test_a_thumbnail_averages_the_parts(size):
    grey = np.random.default_rng(0).integers(0, 256, (size, 2 * size)).astype(np.uint8)
    parts = grey.reshape(SIDE, size // SIDE, SIDE, 2 * size // SIDE).mean((1, 3))
    assert thumbnail(grey).dtype == np.float32
    assert np.abs(thumbnail(grey) - parts).max() < (0.01 if size == 256 else 0.5)


def test_hands_of_different_people_and_both_hands_of_one_are_no_copies(thumbnails):
    assert len(thumbnails) == 28
    assert list(copies(thumbnails)) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda grey: cv2.imdecode(cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], cv2.IMREAD_GRAYSCALE),
        lambda grey: cv2.resize(grey, (150, 150), interpolation=cv2.INTER_AREA),
        lambda grey: np.clip(grey * 1.15 + 6, 0, 255).astype(np.uint8),
        lambda grey: np.rint(255 * (grey / 255) ** 0.85).astype(np.uint8),
        lambda grey: 255 - grey,
        lambda grey: grey,
    ],
    ids=["compressed", "smaller", "brighter", "gamma", "negative", "equal"],
)
def test_a_picture_saved_in_another_way_is_found(hands, thumbnails, change):
    again = np.array([thumbnail(change(grey)) for grey in hands])
    count = len(hands)
    assert list(copies(np.concatenate([thumbnails, again]))) == [(count + number, number) for number in range(count)]


def test_blank_images_are_no_copies_and_neither_negative():
    blank = np.array([thumbnail(np.full((64, 64), value, np.uint8)) for value in (0, 0, 255)])
    assert list(copies(blank)) == []
    assert not Usual.of(blank).negatives(blank).any()
    assert list(copies(np.zeros((0, SIDE, SIDE), np.float32))) == []


def test_negatives_are_told_from_the_rest_even_where_there_are_many(hands, thumbnails):
    usual = Usual.of(thumbnails)
    assert not usual.negatives(thumbnails).any()
    assert not usual.misexposed(thumbnails).any()
    mixed = thumbnails.copy()
    mixed[: len(hands) // 3] = 255 - mixed[: len(hands) // 3]
    usual = Usual.of(mixed)
    assert np.flatnonzero(usual.negatives(mixed)).tolist() == list(range(len(hands) // 3))
    assert not usual.misexposed(mixed).any(), "a negative is only called a negative"


@pytest.mark.parametrize(("gain", "expected"), [(0.25, True), (0.8, False), (1.25, False), (4, True)])
def test_exposures_far_from_the_usual_are_told(thumbnails, gain, expected):
    changed = np.minimum(thumbnails * gain, 255)
    assert Usual.of(thumbnails).misexposed(changed).mean() == expected


def test_what_is_usual_survives_json(thumbnails):
    usual = Usual.of(thumbnails)
    again = Usual.from_plain(json.loads(json.dumps(usual.plain())))
    assert np.abs(again.picture - usual.picture).max() <= 0.5
    assert again.range == usual.range
    assert len(json.dumps(usual.plain())) < 6000
