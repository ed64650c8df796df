import warnings

import numpy as np
import pytest
from matplotlib.colors import same_color

from bonepipe.inference.thresholds import ThresholdChoice
from bonepipe.report import threshold_curves as picture

CLASSES = ["Lunate", "Scaphoid", "Ulna", "Radius", "Capitate", "Hamate", "Pisiform"]
PEAKS = np.array([100, 128, 200, 128, 1, 150, 128])


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


def lines(axes, colour):
    """The lines of a panel in a colour, as points `[K, 2]`."""
    return [line.get_xydata() for line in axes.lines if same_color(line.get_color(), colour)]


def order():
    return np.argsort(choice().dice[0], kind="stable").tolist()


def test_every_class_has_a_panel_with_its_threshold_worst_first():
    figure = drawn()
    assert order()[0] == 6
    assert [axes.get_title("left") for axes in figure.axes] == [CLASSES[label] for label in order()]
    for axes, label in zip(figure.axes, order(), strict=True):
        marked = lines(axes, picture.CHOSEN)
        at = PEAKS[label] / 256
        if choice().kept[label]:
            upright, dot = marked
            assert upright == pytest.approx(np.array([[at, 0], [at, 1]]))
            assert dot == pytest.approx(np.array([[at, curves()[label].max()]]))
            assert axes.get_title("right") == f"{at:.3f}  +0.0100"
        else:
            assert marked == []
            assert axes.get_title("right") == "+0.0100"
            assert any(np.allclose(line, [[0.5, curves()[label, 128]]]) for line in lines(axes, picture.FAINT))
    assert figure.axes[order().index(4)].get_title("right").startswith("0.004 ")


def test_the_curves_are_the_mean_and_the_folds():
    for axes, label in zip(drawn().axes, order(), strict=True):
        (mean,) = lines(axes, picture.MEAN)
        assert mean == pytest.approx(np.stack([np.arange(13, 256) / 256, curves()[label, 13:]], 1))
        for fold, offset in zip(lines(axes, picture.FOLD), (-0.03, 0.03), strict=True):
            assert fold[:, 1] == pytest.approx(mean[:, 1] + offset)
        low, high = axes.get_ylim()
        assert low < curves()[label].max() < high


def test_all_panels_span_the_same_range_of_dice():
    """A steeper class looks steeper."""
    spans = [np.ptp(axes.get_ylim()) for axes in drawn().axes]
    assert spans == pytest.approx([spans[0]] * 7)


def test_a_stratum_with_a_threshold_of_its_own_is_marked():
    kept = np.arange(7) == 3
    own = ThresholdChoice(np.where(kept, 0.25, choice().thresholds), kept, *[np.zeros(7)] * 2, *[np.ones((1, 7))] * 2)
    for axes, label in zip(drawn({"rotated": own}).axes, order(), strict=True):
        marked = lines(axes, picture.STRATUM)
        texts = [text.get_text().strip() for text in axes.texts]
        assert (len(marked), texts) == ((1, ["rotated 0.250"]) if label == 3 else (0, []))
        if label == 3:
            assert marked[0][:, 0] == pytest.approx([0.25, 0.25])


def test_names_are_drawn_as_they_are(tmp_path, monkeypatch):
    """matplotlib takes what stands between two dollar signs for a formula, and stops where it is none."""
    monkeypatch.setattr(picture, "COLUMNS", 1)
    mean = curves()[:1]
    only = ThresholdChoice(
        *(np.array([value]) for value in (0.4, True, 0.01, 0.001)), mean[None, :, 9], mean[None, :, 9]
    )
    figure = picture.draw(["$\\no{$"], mean, mean[None], only, {"$\\no{$": only})
    figure.savefig(tmp_path / "x.png")
    assert figure.axes[0].get_title("left") == "$\\no{$"


def test_the_legend_names_what_is_drawn_once():
    (legend,) = drawn().legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "each of 2 folds", "all images", "0.5, where no gain exceeds the noise",
        "chosen threshold and its cross-fitted gain over 0.5",
    ]  # fmt: skip


def test_a_single_class_and_a_single_fold_are_drawn_too(tmp_path):
    half = ThresholdChoice(np.array([0.5]), np.array([False]), *[np.zeros(1)] * 2, *[np.ones((1, 1))] * 2)
    figure = picture.draw(["one"], np.ones((1, 256)), np.ones((1, 1, 256)), half)
    assert len(figure.axes) == 1
    assert lines(figure.axes[0], picture.FOLD) == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(tmp_path / "one.png")
