import numpy as np

from bonepipe.labels.cutout import Box, empty, from_mask
from bonepipe.report.label_errors import CONTEXT, FRAME, OUTLINE, picture, region

SHAPE = (200, 240)
RED, BLUE = (220, 30, 30), (40, 40, 250)


def square(top, left, side):
    mask = np.zeros(SHAPE, bool)
    mask[top : top + side, left : left + side] = True
    return from_mask(mask)


def drawn(annotated, predicted, doubtful, outlines=((), ())):
    grey = np.full(SHAPE, 90, np.uint8)
    names, colours = ("left", "right"), (RED, BLUE)
    return picture("1  low 0.30", grey, annotated, predicted, outlines, doubtful, names, colours, height=200)


def near(image, colour, slack=30):
    return (np.abs(image.astype(int) - colour) < slack).all(axis=2)


def test_the_place_is_a_square_about_the_masks_inside_the_image():
    box = region([square(100, 150, 20), square(110, 160, 20)], SHAPE)
    assert box.height == box.width == round(30 * 1.8)
    assert (box.top, box.left) == (115 - 27, 165 - 27)
    assert region([square(0, 0, 20)], SHAPE) == Box(0, 0, 36, 36)
    assert region([square(180, 220, 20)], SHAPE) == Box(164, 204, 200, 240)
    assert region([empty()], SHAPE) == Box(0, 0, *SHAPE)


def test_of_many_masks_the_middle_is_shown():
    near_wrist = [square(100 + 8 * i, 100 + 8 * j, 6) for i in range(3) for j in range(3)]
    box = region([*near_wrist, square(0, 0, 10), square(5, 220, 10)], SHAPE)
    assert box.height < 60
    assert box.top > 80


def test_classes_in_doubt_are_filled_and_the_others_outlined():
    left, right = square(80, 60, 40), square(90, 110, 30)
    strip = drawn([left, right], [right, left], [0])
    width = strip.shape[1]
    place, annotation, prediction = strip[70:, 240:440], strip[70:, 440:640], strip[70:, 640:]
    assert width == 240 + 3 * 200
    fill = 0.6 * 90 + 0.4 * np.array(RED)
    assert near(annotation, fill, 6).sum() > 2000
    assert near(annotation, CONTEXT).any()
    assert not near(annotation, 0.6 * 90 + 0.4 * np.array(BLUE), 12).any()
    assert near(prediction, fill, 6).sum() > 1000
    assert not near(place, fill, 6).any()
    assert near(strip[70:, :240], FRAME, 5).any()


def test_outlines_are_shown_as_they_were_drawn():
    left = square(80, 60, 40)
    inner = np.array([[70, 90], [90, 90], [90, 110], [70, 110]])
    plain = drawn([left, empty()], [left, empty()], [0])
    ringed = drawn([left, empty()], [left, empty()], [0], outlines=([inner], ()))
    changed = (plain != ringed).any(axis=2)
    assert ringed[changed].mean() > plain[changed].mean() + 50
    assert near(ringed, OUTLINE, 60).any()
    rows, columns = np.nonzero(changed)
    assert columns.min() >= 440
    assert columns.max() < 640
    scale = 200 / round(40 * 1.8)
    assert np.ptp(columns) == np.ptp(rows)
    assert abs(np.ptp(columns) - 20 * scale) < 4


def test_a_missing_annotation_leaves_its_panel_plain():
    strip = drawn([empty(), empty()], [square(80, 60, 40), empty()], [0])
    annotation = strip[70:, 440:640]
    assert (annotation == 90).all()
