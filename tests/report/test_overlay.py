import numpy as np
import pytest

from bonepipe.labels.cutout import empty, from_mask
from bonepipe.report import overlay

RED, BLUE = (200, 0, 0), (0, 0, 250)


def square(shape, top, left, side):
    mask = np.zeros(shape, bool)
    mask[top : top + side, left : left + side] = True
    return from_mask(mask)


def test_a_mask_is_filled_inside_and_outlined_on_its_border():
    image = np.full((40, 50), 100, np.uint8)
    result = overlay.draw(image, [square((40, 50), 10, 15, 12), empty()], [RED, BLUE], opacity=0.25)
    assert result.shape == (40, 50, 3)
    assert result.dtype == np.uint8
    assert result[16, 21].tolist() == [125, 75, 75]  # 0.75 x 100 + 0.25 x colour
    np.testing.assert_allclose(result[10, 20], RED, atol=20)  # anti-aliased
    assert result[2, 2].tolist() == [100, 100, 100]
    assert (image == 100).all()
    assert not (result == np.array(BLUE)).all(-1).any()


def test_later_classes_are_drawn_over_earlier_ones():
    image = np.zeros((40, 40), np.uint8)
    result = overlay.draw(image, [square((40, 40), 5, 5, 20), square((40, 40), 10, 10, 20)], [RED, BLUE], 0.5)
    assert result[20, 20].tolist() == [50, 0, 125]  # half red, then half of that and half blue
    assert result[26, 26].tolist() == [0, 0, 125]
    np.testing.assert_allclose(result[5, 12], RED, atol=30)
    np.testing.assert_allclose(result[10, 20], BLUE, atol=60)


def test_masks_and_colours_must_match():
    with pytest.raises(ValueError, match="shorter"):
        overlay.draw(np.zeros((8, 8), np.uint8), [empty()], [])


def test_palette_gives_different_colours_or_those_given():
    colours = overlay.palette(29)
    assert len(set(colours)) == 29
    assert all(0 <= value <= 255 for colour in colours for value in colour)
    assert overlay.palette(2, [RED, BLUE]) == [RED, BLUE]


def test_titled_panels_stand_side_by_side_at_one_height():
    wide, tall = np.zeros((20, 40, 3), np.uint8), np.full((50, 25, 3), 200, np.uint8)
    result = overlay.titled([("wide", wide), ("tall", tall)], height=100)
    assert result.shape == (134, 200 + 50, 3)
    assert (result[60:, 210:] == 200).all()
    assert (result[:34, :200] > 100).any()  # the title
