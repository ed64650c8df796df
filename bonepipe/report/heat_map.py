"""Dice of each class in each fold as a picture: a class that is hard everywhere is a row, a bad fold is a column."""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

INK, WORST = "#262b33", 5  # cells that are framed
COLOURS = LinearSegmentedColormap.from_list("dice", ["#e5843f", "#f6d9b8", "#f4f6f8", "#b5d8ee", "#62b0dc"])


def draw(classes: Sequence[str], folds: Sequence[str], dice: np.ndarray) -> Figure:
    """Draw a cell a class and fold, worst class first, with its mean Dice; the worst cells are framed.

    Colours are spread over the ranks of the cells, so that one class which fails does not make all others alike.

    Args:
        classes: their names.
        folds: names of the columns.
        dice: `[F, C]`; NaN where a fold has no image.
    """
    order = np.argsort(np.nanmean(dice, axis=0), kind="stable")
    cells = np.column_stack([dice[:, order].T, np.nanmean(dice, axis=0)[order]])  # the last column is the mean
    width = 2.2 + 0.14 * max(map(len, classes)) + 0.95 * cells.shape[1]
    figure = Figure((width, 1.7 + 0.3 * len(classes)), dpi=110, layout="constrained")
    figure.suptitle("Dice out of fold at the thresholds chosen, worst class first", color=INK, weight="bold", size=12)
    axes = figure.add_subplot()
    axes.imshow(_ranks(cells), cmap=COLOURS, aspect="auto", vmin=0, vmax=1)
    axes.set_xticks(range(cells.shape[1]), [*folds, "mean"], color=INK)
    axes.set_yticks(range(len(classes)), [classes[index] for index in order], color=INK, parse_math=False)
    axes.tick_params(length=0, top=True, bottom=False, labeltop=True, labelbottom=False)
    axes.spines[:].set_visible(False)
    axes.axvline(len(folds) - 0.5, color="white", linewidth=5)
    for (row, column), value in np.ndenumerate(cells):
        weight = "bold" if column == len(folds) else "normal"
        axes.text(column, row, f"{value:.3f}", ha="center", va="center", size=8.5, color=INK, weight=weight)
    for row, column in _worst(cells[:, : len(folds)]):
        axes.add_patch(Rectangle((column - 0.47, row - 0.45), 0.94, 0.9, fill=False, edgecolor="#a00000", linewidth=2))
    axes.set_xlabel("framed: the worst; colours by rank", color=INK, size=8)
    return figure


def _ranks(cells: np.ndarray) -> np.ndarray:
    """Each cell's rank among all, 0 to 1, equal ones alike; NaN stays."""
    known = np.sort(cells[~np.isnan(cells)])
    ranks = (np.searchsorted(known, cells, "left") + np.searchsorted(known, cells, "right")) / (2 * len(known))
    return np.where(np.isnan(cells), np.nan, ranks)


def _worst(cells: np.ndarray) -> list[tuple[int, int]]:
    """Row and column of the worst cells, at most a tenth of all, and at least one."""
    count = min(WORST, max(1, cells.size // 10))
    flat = np.argsort(np.where(np.isnan(cells), np.inf, cells), axis=None, kind="stable")[:count]
    return [(int(row), int(column)) for row, column in zip(*np.unravel_index(flat, cells.shape), strict=True)]
