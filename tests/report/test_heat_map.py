import numpy as np
import pytest

from bonepipe.report.heat_map import _ranks, draw

CLASSES = ["Radius", "Ulna $x_1$", "손목뼈"]
DICE = np.array([[0.9, 0.8, 0.1], [0.7, 0.95, 0.3]])


def test_classes_are_listed_from_the_worst_with_their_mean_and_the_worst_cell_is_framed():
    (axes,) = draw(CLASSES, ["fold-0", "fold-1"], DICE).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["손목뼈", "Radius", "Ulna $x_1$"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["fold-0", "fold-1", "mean"]
    numbers = np.array([float(text.get_text()) for text in axes.texts]).reshape(3, 3)
    assert numbers == pytest.approx(np.array([[0.1, 0.3, 0.2], [0.9, 0.7, 0.8], [0.8, 0.95, 0.875]]), abs=6e-4)
    (frame,) = axes.patches
    assert (round(frame.get_x()), round(frame.get_y())) == (0, 0)


def test_a_fold_without_a_class_leaves_a_hole():
    dice = DICE.copy()
    dice[1, 0] = np.nan
    figure = draw(CLASSES, ["fold-0", "fold-1"], dice)
    figure.canvas.draw()
    assert "nan" in [text.get_text() for text in figure.axes[0].texts]


def test_colours_are_ranks():
    assert _ranks(np.array([[0.2, 0.9], [0.2, np.nan]])).tolist()[0] == pytest.approx([1 / 3, 5 / 6])
