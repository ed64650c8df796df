from dataclasses import replace

import numpy as np
import pytest

from bonepipe.config import build, compose
from bonepipe.labels.cutout import Box, Cutout, empty, from_mask
from bonepipe.report import examples, overlay


@pytest.fixture(scope="module")
def spec():
    made = build(compose(["data=hand"], uses=["data"]), "data")
    return replace(made, classes=("Radius", "Lunate"), closeup=("Lunate",))


def masks():
    radius, lunate = np.zeros((200, 300), bool), np.zeros((200, 300), bool)
    radius[100:150, 40:80] = lunate[60:80, 60:90] = True
    return [from_mask(radius), from_mask(lunate)]


def test_a_row_shows_the_part_with_masks_its_errors_and_the_closeup_again(spec):
    said = [masks()[0], empty()]
    sheet = examples.picture([("worst", np.full((200, 300), 90, np.uint8), masks(), said)], spec, height=100)
    part = examples.around(masks(), (200, 300))
    close = examples.around(masks()[1:], (200, 300))
    widths = [round(box.width * 100 / box.height) for box in (part, close)]
    assert sheet.shape[1] == 4 * widths[0] + 3 * widths[1]
    missed = (sheet == np.array(overlay.MISSED)).all(-1)
    assert missed[68:168, 3 * widths[0] : 4 * widths[0]].any()
    assert missed[68:168, -widths[1] :].any()
    assert not missed[68:168, : 3 * widths[0]].any()
    assert missed[168:].any()  # the legend


def test_around_keeps_a_margin_inside_the_image_and_takes_all_where_nothing_is():
    box = Cutout(Box(0, 10, 100, 60), np.ones((100, 50), bool))
    assert examples.around([box], (200, 300)) == Box(0, 5, 105, 65)
    assert examples.around([empty()], (200, 300)) == Box(0, 0, 200, 300)
