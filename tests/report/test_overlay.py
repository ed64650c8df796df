import cv2
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


def luminance(colour):
    """Relative luminance (WCAG 2.2)."""
    linear = [(c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4) for c in np.array(colour) / 255]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_every_colour_shows_on_black():
    """Text needs a contrast of 4.5 (WCAG 2.2), graphics 3."""
    given = [*overlay.palette(29), overlay.MISSED, overlay.EXTRA, overlay.SWAPPED]
    assert min((luminance(colour) + 0.05) / 0.05 for colour in given) > 4


MACHADO = {  # Machado et al. 2009, severity 1: what protanopes and deuteranopes see, linear RGB
    "trichromats": np.eye(3),
    "protanopes": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopes": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
}


@pytest.mark.parametrize("eyes", MACHADO)
def test_neighbouring_classes_are_told_apart_by_all(eyes):
    colours = np.array(overlay.palette(29), np.float32)[None] / 255
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(MACHADO[eyes]).T, 0, 1)
    seen = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055).astype(np.float32)
    lab = cv2.cvtColor(seen, cv2.COLOR_RGB2LAB)[0]
    apart = [np.linalg.norm(lab[a] - lab[b]) for a in range(29) for b in range(max(0, a - 7), a)]
    assert min(apart) > 8  # CIE 1976; 2.3 is just noticeable


def test_errors_are_coloured_by_kind():
    image = np.full((40, 40), 200, np.uint8)
    truth, said = [square((40, 40), 5, 5, 10), square((40, 40), 5, 15, 10)], [square((40, 40), 5, 5, 8), empty()]
    said[1] = square((40, 40), 5, 13, 10)
    drawn = overlay.errors(image, truth, said)
    assert drawn[8, 8].tolist() == [110] * 3  # right, dimmed
    assert tuple(drawn[14, 8]) == overlay.MISSED
    assert tuple(drawn[8, 14]) == overlay.SWAPPED  # of the first, given to the second
    assert tuple(overlay.errors(image, [empty()], [square((40, 40), 5, 5, 10)])[8, 8]) == overlay.EXTRA


def test_a_legend_wraps_and_shows_every_colour():
    entries = [(f"class {number}", colour) for number, colour in enumerate(overlay.palette(29))]
    wide, narrow = overlay.legend(entries, 2000), overlay.legend(entries, 300)
    assert wide.shape[1] == 2000
    assert narrow.shape[0] > wide.shape[0]
    for strip in (wide, narrow):
        assert all((strip == np.array(colour)).all(-1).sum() > 100 for _, colour in entries)


def test_titled_panels_stand_side_by_side_at_one_height():
    wide, tall = np.zeros((20, 40, 3), np.uint8), np.full((50, 25, 3), 200, np.uint8)
    result = overlay.titled([("wide", wide), ("tall", tall)], height=100)
    assert result.shape == (134, 200 + 50, 3)
    assert (result[60:, 210:] == 200).all()
    assert (result[:34, :200] > 100).any()  # the title
