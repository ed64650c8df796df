"""Curves, bones and rays against formulas."""

import cv2
import numpy as np
import pytest
import yaml

from bonepipe.config import conf_dir
from bonepipe.data.phantom import attenuation
from bonepipe.data.phantom.anatomy import tube_outline, tube_sizes
from bonepipe.data.phantom.classes import CLASSES, RAYS
from bonepipe.data.phantom.curves import clip_to_box, closed_spline, resample, wobble
from bonepipe.data.phantom.person import draw_person, generator
from bonepipe.data.phantom.plan import make_plan
from bonepipe.data.phantom.pose import FIELD, Bone, draw_pose, lean, place_hand
from bonepipe.data.phantom.sample import draw_sample
from bonepipe.report import overlay

SQUARE = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 10.0], [0.0, 10.0]])


def area(outline):
    x, y = outline.T
    return abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2


def circle(radius, count=90):
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def test_every_class_has_a_colour_and_every_ray_its_labels():
    given = yaml.safe_load((conf_dir() / "data" / "hand.yaml").read_text())["palette"]
    palette = overlay.palette(29, given)
    assert len(CLASSES) == len(set(CLASSES)) == len(set(map(tuple, palette))) == 29
    assert sorted(label for ray in RAYS for label in ray) == sorted(CLASSES[:19])
    assert [CLASSES.index(label) for label in RAYS[4]] == [18, 17, 16, 15]


def test_spline_goes_through_its_control_points():
    curve = closed_spline(SQUARE, samples=5)
    assert curve.shape == (20, 2)
    np.testing.assert_allclose(curve[::5], SQUARE)


def test_spline_of_a_circle_is_the_circle():
    assert area(closed_spline(circle(5, 24))) == pytest.approx(np.pi * 25, rel=0.002)


def test_resample_spaces_points_evenly():
    points = resample(circle(10, 400), 2.0)
    steps = np.hypot(*(np.roll(points, -1, 0) - points).T)
    np.testing.assert_allclose(steps, 2.0, rtol=0.02)


def test_wobble_has_the_asked_deviation():
    rng = np.random.default_rng(0)
    shifts = [np.hypot(*wobble(circle(10), 0.3, (2, 9), rng).T) - 10 for _ in range(400)]
    assert np.std(shifts) == pytest.approx(0.3, rel=0.1)


@pytest.mark.parametrize(
    ("low", "high", "expected"), [((2, 3), (8, 20), 42), ((-1, -1), (11, 11), 100), ((20, 0), (30, 5), 0)]
)
def test_clipping_cuts_the_area(low, high, expected):
    clipped = clip_to_box(SQUARE, np.array(low, float), np.array(high, float))
    assert (area(clipped) if len(clipped) else 0) == pytest.approx(expected)


def test_lean_turns_up_towards_the_little_finger():
    np.testing.assert_allclose(lean(np.array([0.0, 1.0]), 90), [1, 0], atol=1e-12)


@pytest.mark.parametrize("label", CLASSES[:19])
def test_tubular_bones_have_their_size(label):
    tube = tube_sizes()[label]
    kind = (
        "distal"
        if label in [ray[-1] for ray in RAYS]
        else "metacarpal"
        if label in [ray[0] for ray in RAYS]
        else "phalanx"
    )
    outline = tube_outline(kind, tube)
    assert np.ptp(outline[:, 1]) == pytest.approx(tube.length, rel=0.04)
    middle = np.abs(outline[:, 1] - tube.length / 2) < tube.length * 0.12
    assert 2 * np.abs(outline[middle, 0]).min() == pytest.approx(tube.shaft, rel=0.12)
    assert np.ptp(outline[:, 0]) == pytest.approx(max(tube.base, tube.head), rel=0.04)
    assert not crosses_itself(outline)


def crosses_itself(outline):
    """Filled twice as wound once: an outline that crosses itself has a smaller area than its filled shape."""
    pixels = np.round(outline * 40 + 800).astype(np.int32)
    canvas = np.zeros((4000, 1600), np.uint8)
    cv2.fillPoly(canvas, [pixels], 1)
    contour = max(cv2.findContours(canvas, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[-2], key=len)
    return abs(cv2.contourArea(contour) - area(pixels.astype(float))) > 0.02 * area(pixels.astype(float))


def test_hands_share_their_shape_and_mirror_their_pose():
    person = draw_person(0, 7)
    right, left = (place_hand(person, draw_pose(left, False, generator(0, 7, 1))) for left in (False, True))
    for label in CLASSES:
        a, b = right.bones[label].outline, left.bones[label].outline
        np.testing.assert_allclose(area(a), area(b))
    centres = [np.array([hand.bones[label].outline.mean(axis=0) for label in CLASSES]) for hand in (right, left)]
    mirrored = centres[1] * (-1, 1)
    np.testing.assert_allclose(np.diff(centres[0], axis=0), np.diff(mirrored, axis=0), atol=1e-9)


def test_men_have_larger_bones_than_women():
    people = [draw_person(0, number) for number in range(1, 120)]
    lengths = {sex: np.mean([p.tubes["finger-11"].length for p in people if p.male is sex]) for sex in (True, False)}
    assert lengths[False] < 0.97 * lengths[True]
    assert 0.3 < np.mean([p.male for p in people]) < 0.7


def test_a_tube_attenuates_like_a_tube():
    """In the middle of a straight hollow shaft the integral is that of two walls and the marrow between them."""
    size, mm = 1024, FIELD / 1024
    half, long = 6.0, 80.0
    corners = [[-half, 0], [half, 0], [half, long], [-half, long]]
    outline = np.array(corners) + np.array([100.0, 100.0])
    bone = Bone("finger-11", outline, np.array([100.0, 100.0]), np.array([100.0, 180.0]), True)
    total = np.zeros((size, size), np.float32)
    attenuation.add_bone(total, bone, np.zeros_like(total), cortex=1.0)
    wall = 2.3 * 1.0
    expected = (
        2
        * attenuation.DEPTH
        * (wall * (attenuation.CORTICAL - attenuation.SOFT) + (half - wall) * (attenuation.MARROW - attenuation.SOFT))
    )
    row = total[round(140 / mm)]
    assert row[round(100 / mm)] == pytest.approx(expected, rel=0.05)
    assert row.max() > 1.3 * row[round(100 / mm)]  # the walls seen edge on
    assert row[round(90 / mm)] == 0


def test_bone_is_brighter_than_flesh_and_flesh_than_air():
    visit = make_plan(1, 0, 0).visits[0]
    image, polygons = draw_sample(visit, 0, 512, 0)
    bones = np.zeros_like(image)
    for polygon in polygons.values():
        cv2.fillPoly(bones, [polygon], 1)
    near = cv2.dilate(bones, np.ones((9, 9), np.uint8))
    far = cv2.dilate(bones, np.ones((61, 61), np.uint8))
    bone, flesh = image[bones > 0].mean(), image[(near > 0) & (bones == 0)].mean()
    air = np.median(image[far == 0])
    assert bone > 1.4 * flesh > 1.4 * 5 * max(air, 1)


@pytest.mark.parametrize("size", [256, 1024])
def test_the_outline_follows_the_bone_at_every_size(size):
    """The fall of brightness across the outline is steepest on the outline, not a pixel or two beside it."""
    visit = make_plan(1, 0, 0).visits[0]
    image, polygons = draw_sample(visit, 0, size, 0)
    inside = np.zeros_like(image)
    for label in CLASSES[:19]:
        cv2.fillPoly(inside, [polygons[label]], 1)
    # Distance of a pixel's middle from the border between inside and outside.
    inner, outer = (cv2.distanceTransform(part, cv2.DIST_L2, 5) - 0.5 for part in (inside, 1 - inside))
    depth = np.floor(np.where(inside > 0, inner, -outer))
    profile = [image[depth == step].mean() for step in range(-5, 5)]
    assert np.isfinite(profile).all()
    # Filling includes the outline's own pixels, so the true edge runs through the middle of the first pixel inside:
    # the two steepest steps are those into it and out of it.
    assert set(np.argsort(np.diff(profile))[-2:]) == {4, 5}
