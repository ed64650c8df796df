import csv
import math

import cv2
import numpy as np
import pytest

from bonepipe.data.catalog import read_catalog
from bonepipe.data.image import read_grey
from bonepipe.data.phantom.plan import make_plan
from bonepipe.data.phantom.sample import draw_sample
from bonepipe.data.spec import DataSpec
from bonepipe.data.strata import StrataSpec
from bonepipe.data.wrist import bend_angle, silhouette

LIMIT = StrataSpec().bend


def drawn(forearm, hand, size=400):
    """A glove of three fingers: forearm and hand lean to the right by these angles, degrees, about the wrist."""
    image = np.full((size, size), 4, np.uint8)
    wrist = np.array([size / 2, size * 0.66])
    for lean, parts in (
        (hand, [(0.0, -0.17, 0.16, 0.13), *((x, -0.4, 0.035, 0.2) for x in (-0.09, 0.0, 0.09))]),
        (forearm, [(0.0, 0.2, 0.09, 0.25)]),
    ):
        angle = math.radians(lean)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        for x, y, across, along in parts:
            centre = wrist + turn @ (np.array([x, y]) * size)
            axes = (round(across * size), round(along * size))
            cv2.ellipse(image, np.rint(centre).astype(int).tolist(), axes, lean, 0, 360, 120, -1)
    return image


@pytest.mark.parametrize(("forearm", "hand"), [(0, 0), (8, 8), (0, 20), (-8, 14), (-5, 25), (6, -15)])
def test_the_angle_of_a_drawn_hand(forearm, hand):
    for image in (drawn(forearm, hand), drawn(-forearm, -hand)):
        assert bend_angle(image) == pytest.approx(abs(hand - forearm), abs=3.5)


def test_every_wrist_of_the_shared_phantom_is_told_right(phantom_root):
    """Train and test images, whose truth is in rotated.csv."""
    spec = DataSpec(name="hand", root=str(phantom_root), classes=("Radius",), size=64)
    images = read_catalog(spec)
    truth = [image.rotated for image in images]
    assert 4 <= sum(truth) < len(truth) / 2
    assert [bend_angle(read_grey(image.path)) >= LIMIT for image in images] == truth


def test_wrists_of_hands_never_looked_at_before():
    visits = [(visit, hand) for visit in make_plan(4, 8, seed=91).visits for hand in (0, 1)]
    angles = [bend_angle(draw_sample(visit, hand, 200, 91)[0]) for visit, hand in visits]
    assert [angle >= LIMIT for angle in angles] == [visit.rotated for visit, _ in visits]


def test_size_side_and_brightness_hardly_matter(phantom_root):
    with (phantom_root / "rotated.csv").open() as file:
        patient = next(csv.DictReader(file))["patient"]
    grey = read_grey(next(phantom_root.glob(f"*/DCM/{patient}/*.png")))
    angle = bend_angle(grey)
    large = cv2.resize(grey, (700, 700), interpolation=cv2.INTER_CUBIC)
    wide = np.pad(grey, ((0, 0), (60, 20)), constant_values=grey.min())
    for other in (grey[:, ::-1], large, wide, (grey * 0.6).astype(np.uint8)):
        assert bend_angle(np.ascontiguousarray(other)) == pytest.approx(angle, abs=2)


@pytest.mark.parametrize("shape", [(64, 64), (300, 200), (1, 5)])
def test_where_there_is_no_hand_there_is_no_angle(shape):
    assert math.isnan(bend_angle(np.zeros(shape, np.uint8)))
    assert math.isnan(bend_angle(np.full(shape, 255, np.uint8)))
    dot = np.zeros((64, 64), np.uint8)
    dot[30:36, 30:36] = 200
    assert math.isnan(bend_angle(dot))


def test_noise_never_crashes_it():
    rng = np.random.default_rng(0)
    for _ in range(30):
        height, width = rng.integers(1, 90, 2)
        picture = rng.integers(0, 256, (height, width)).astype(np.uint8)
        angle = bend_angle(np.where(rng.random((height, width)) < rng.random(), picture, 0).astype(np.uint8))
        assert math.isnan(angle) or 0 <= angle < 270


def test_the_silhouette_is_the_largest_part():
    image = np.zeros((100, 100), np.uint8)
    image[20:80, 30:60] = 100
    image[2:8, 80:96] = 255  # a side marker
    inside = silhouette(image)
    assert inside[50, 45]
    assert not inside[5, 88]
    assert inside.sum() == pytest.approx(60 * 30, rel=0.15)
