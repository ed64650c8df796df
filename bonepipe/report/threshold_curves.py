"""Dice at every threshold as small multiples, which tell a peak from the noise of a plateau."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bonepipe.inference.thresholds import ThresholdChoice
from bonepipe.labels.histogram import CHOOSABLE, HALF, THRESHOLDS

COLUMNS = 5  # panels a row
INK, FAINT = "#262b33", "#8a909a"
MEAN, FOLD, CHOSEN, STRATUM = "#0072b2", "#a9cbe3", "#d55e00", "#8f3f7f"  # told apart by the colour-blind
USUAL = slice(64, 193)  # thresholds from 0.25 to 0.75


def draw(
    classes: Sequence[str],
    mean: np.ndarray,
    folds: np.ndarray,
    choice: ThresholdChoice,
    by_stratum: Mapping[str, ThresholdChoice] | None = None,
) -> Figure:
    """Draw a panel a class, worst class first: mean Dice over the threshold, and where it was set.

    All panels span the same range of Dice, below the class's best, so that slopes compare.

    Args:
        classes: their names.
        mean: Dice `[C, 256]` at thresholds k / 256, mean over all images.
        folds: the same over each fold's images, `[F, C, 256]`.
        choice: the thresholds, and what they gain.
        by_stratum: thresholds that some strata have instead.
    """
    rows = -(-len(classes) // COLUMNS)
    width, height = 3.1 * COLUMNS, 2.1 * rows + 0.9  # inches
    figure = Figure((width, height), dpi=110)
    figure.suptitle("Dice out of fold at every threshold, worst class first", y=1 - 0.12 / height, color=INK,
                    weight="bold", size=13)  # fmt: skip
    span = float(np.clip(np.median(mean.max(1) - mean[:, USUAL].min(1)), 0.02, 1))  # what is far below is cut off
    for place, label in enumerate(np.argsort(choice.dice.mean(0), kind="stable").tolist(), 1):
        axes = figure.add_subplot(rows, COLUMNS, place)
        high = min(folds[:, label].max(), mean[label].max() + 0.3 * span) + 0.06 * span
        axes.set(xlim=(-0.02, 1.02), ylim=(high - 1.1 * span, high), xticks=(0, 0.25, 0.5, 0.75, 1))
        axes.tick_params(labelbottom=place + COLUMNS > len(classes))  # no panel below: all have the same thresholds
        axes.locator_params(axis="y", nbins=3)
        axes.set_title(classes[label], loc="left", y=1, color=INK, size=10, weight="bold",
                       parse_math=False)  # fmt: skip
        _curves(axes, mean[label], folds[:, label])
        _mark(axes, mean[label], float(choice.thresholds[label]), choice.gain[label], choice.kept[label])
        others = ((name, other.thresholds[label]) for name, other in (by_stratum or {}).items() if other.kept[label])
        for row, (name, threshold) in enumerate(others):
            axes.axvline(threshold, color=STRATUM, linestyle="--", label="chosen threshold of a stratum")
            words, side = f" {name} {threshold:.3f} ", "right" if threshold > HALF else "left"
            axes.text(threshold, 0.03 + 0.1 * row, words, transform=axes.get_xaxis_transform(), ha=side,
                      color=STRATUM, size=8, weight="bold", parse_math=False)  # fmt: skip
    drawn = (axes.get_legend_handles_labels() for axes in figure.axes)
    legend = {words: line for panel in drawn for line, words in zip(*panel, strict=True)}
    figure.legend(legend.values(), legend.keys(), loc="lower center", ncols=len(legend), frameon=False)
    # Margins in inches, the same for every panel: to measure all words and find them takes longer than to draw.
    figure.subplots_adjust(0.5 / width, 0.65 / height, 1 - 0.1 / width, 1 - 0.65 / height, wspace=0.18, hspace=0.33)
    return figure


def _curves(axes: Axes, mean: np.ndarray, folds: np.ndarray) -> None:
    """At the thresholds that can be chosen."""
    axes.grid(color="#e6e8ec")
    axes.tick_params(labelsize=8, colors=FAINT, length=0)
    axes.spines[:].set_visible(False)
    for fold in folds if len(folds) > 1 else ():
        axes.plot(THRESHOLDS[CHOOSABLE], fold[CHOOSABLE], color=FOLD, linewidth=1, label=f"each of {len(folds)} folds")
    axes.plot(THRESHOLDS[CHOOSABLE], mean[CHOOSABLE], color=MEAN, linewidth=2, label="all images")
    axes.axvline(HALF, color=FAINT, linewidth=1, linestyle=":")


def _mark(axes: Axes, mean: np.ndarray, threshold: float, gain: float, kept: bool) -> None:
    """The threshold on the mean curve, and what it gains over 0.5, in colour where it was kept."""
    colour, words = FAINT, "0.5, where no gain exceeds the noise"
    title = f"{round(gain, 4) + 0.0:+.4f}"  # adding 0 takes the sign off a zero
    if kept:
        colour, words = CHOSEN, "chosen threshold and its cross-fitted gain over 0.5"
        title = f"{threshold:.3f}  {title}"
        axes.axvline(threshold, color=colour, linewidth=1)
    axes.set_title(title, loc="right", y=1, color=colour, size=9, weight="bold" if kept else "normal")
    axes.plot(threshold, mean[round(threshold * len(mean))], "o", color=colour, markeredgecolor="white", label=words)
