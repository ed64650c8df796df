import numpy as np
import pytest

from bonepipe.inference.thresholds import ThresholdChoice
from bonepipe.report import threshold_curves as picture

CLASSES = ["Lunate", "뼈", "Ulna", "Radius", "Capitate", "Hamate", "Pisiform"]
PEAKS = np.array([100, 128, 200, 128, 60, 150, 128])


def curves():
    """Dice `[C, 256]`: parabolas with a peak a class, the last class worst."""
    return 0.95 - 0.02 * np.arange(7)[:, None] - ((np.arange(256) - PEAKS[:, None]) / 400) ** 2


def choice(kept=(True, False, True, False, True, False, False)):
    thresholds = np.where(kept, PEAKS / 256, 0.5)
    dice = curves()[np.arange(7), np.rint(thresholds * 256).astype(int)][None]
    return ThresholdChoice(thresholds, np.array(kept), np.full(7, 0.01), np.full(7, 0.001), dice, dice)


def drawn(by_stratum=None):
    mean = curves()
    folds = np.stack([mean - 0.03, mean + 0.03])
    return picture.draw(CLASSES, mean, folds, choice(), by_stratum)


def panel(image, place):
    """The area of a panel's curves, from the grid of panels alone."""
    row, column = divmod(place, 6)
    left, right = 1600 * column // 6, 1600 * (column + 1) // 6
    top, bottom = (76 + 190 * number for number in (row, row + 1))
    return image[top + 32 : bottom - 24, left + 46 : right - 14]


def of_colour(image, colour):
    return (image == np.array(colour, np.uint8)).all(-1)


def order():
    return np.argsort(choice().dice[0], kind="stable")


def test_every_class_has_a_panel_with_its_threshold_worst_first():
    image = drawn()
    assert image.shape == (76 + 2 * 190, 1600, 3)
    assert image.dtype == np.uint8
    assert order()[0] == 6
    for place, label in enumerate(order()):
        part = panel(image, place)
        marked = of_colour(part, picture.CHOSEN).sum(0)
        full = np.flatnonzero(marked > 0.8 * part.shape[0])
        if choice().kept[label]:
            assert full / (part.shape[1] - 1) == pytest.approx([PEAKS[label] / 256], abs=0.005)
        else:
            assert marked.sum() == 0
            assert of_colour(part, picture.FAINT)[:, (part.shape[1] - 1) // 2].sum() > 0.3 * part.shape[0]


def test_the_curve_is_highest_where_its_class_is_best():
    image = drawn()
    for place, label in enumerate(order()):
        part = panel(image, place)
        rows, columns = np.nonzero(of_colour(part, picture.MEAN))
        peak = columns[rows == rows.min()].mean() / (part.shape[1] - 1)
        assert peak == pytest.approx(PEAKS[label] / 256, abs=0.06)
        tinted = part[..., 2].astype(int) - part[..., 0] > 20  # a smooth line of one pixel has no pure colour
        assert tinted[: rows.min() - 4].any(), "the better fold is above"


def test_a_steeper_class_looks_steeper():
    """All panels span the same range of Dice."""
    mean = np.stack([0.9 - ((np.arange(256) - 128) / width) ** 2 for width in (300, 600)])
    half = ThresholdChoice(np.full(2, 0.5), np.zeros(2, bool), *[np.zeros(2)] * 2, *[mean[:, 128][None]] * 2)
    image = picture.draw(["steep", "flat"], mean, mean[None], half)
    drops = []
    for place in (0, 1):
        rows, columns = np.nonzero(of_colour(panel(image, place), picture.MEAN))
        drops.append(np.median(rows[np.abs(columns - 123) < 2]) - rows.min())  # threshold 0.6
    assert drops[0] == pytest.approx(4 * drops[1], rel=0.3)


def test_a_stratum_with_a_threshold_of_its_own_is_marked():
    kept = np.arange(7) == 3
    own = ThresholdChoice(np.where(kept, 0.25, choice().thresholds), kept, *[np.zeros(7)] * 2, *[np.ones((1, 7))] * 2)
    image = drawn({"rotated": own})
    for place, label in enumerate(order()):
        marked = of_colour(panel(image, place), picture.STRATUM)
        assert marked.any() == (label == 3)
        if label == 3:
            assert marked.sum(0).argmax() / (marked.shape[1] - 1) == pytest.approx(0.25, abs=0.01)


def test_a_single_class_and_a_single_fold_are_drawn_too():
    half = ThresholdChoice(np.array([0.5]), np.array([False]), *[np.zeros(1)] * 2, *[np.ones((1, 1))] * 2)
    assert picture.draw(["one"], np.ones((1, 256)), np.ones((1, 1, 256)), half).shape == (76 + 190, 1600, 3)
