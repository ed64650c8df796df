"""Cross-validation against the leaderboard, as a chart."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from bonepipe.errors import BonepipeError
from bonepipe.pipeline.leaderboard import agreements
from bonepipe.report import scatter
from bonepipe.report.leaderboard import Entry


def runs_of(*scores):
    return [Entry(f"run{i}", {"oof_dice": x, "oof_dice_weighted": x - 0.01}, {"public": y}) for i, (x, y) in scores]


def dots(axes, measure):
    """Points `[K, 2]` of a measure."""
    (line,) = (line for line in axes.lines if line.get_marker() == "o" and line.get_color() == scatter.COLOURS[measure])
    return line.get_xydata()


def test_dots_lie_where_the_scores_say():
    """Equal scales: as far apart on the paper as in Dice, with the line of equal scores at 45 degrees."""
    scores = [(0.90, 0.88), (0.92, 0.89), (0.95, 0.93)]
    entries = runs_of(*enumerate(scores))
    (axes,) = scatter.draw(entries, agreements(entries)).axes
    for measure, offset in (("oof_dice", 0), ("oof_dice_weighted", -0.01)):
        assert dots(axes, measure) == pytest.approx(np.add(scores, (offset, 0)))
    origin, right, up = axes.transData.transform([(0.9, 0.9), (0.91, 0.9), (0.9, 0.91)])
    assert right - origin == pytest.approx([up[1] - origin[1], 0])
    assert (right - origin)[0] > 50, "pixels"
    (equal,) = (line for line in axes.lines if line.get_linestyle() == "--")
    assert equal.get_slope() == 1
    assert equal.get_xy1()[0] == equal.get_xy1()[1]
    joints = [line.get_xydata() for line in axes.lines if len(line.get_xydata()) == 2 and line is not equal]
    assert joints == [pytest.approx(np.array([(x, y), (x - 0.01, y)])) for x, y in scores]


def test_runs_are_named_and_correlations_told():
    entries = runs_of(*enumerate([(0.90, 0.88), (0.92, 0.89), (0.95, 0.93)]))
    found = agreements(entries)
    (axes,) = scatter.draw(entries, found).axes
    assert [text.get_text() for text in axes.texts] == ["run0", "run1", "run2"]
    pearson = found["oof_dice", "public"].pearson
    told = [text.get_text() for text in axes.get_legend().get_texts()]
    assert told[0] == f"OOF: Pearson {pearson:.2f}, Spearman 1.00 over 3 runs"
    assert "public" in axes.get_title("left")


def test_a_name_is_drawn_as_it_is(tmp_path):
    """matplotlib takes what stands between two dollar signs for a formula, and stops where it is none."""
    entries = [replace(entry, name="$\\no{$") for entry in runs_of(*enumerate([(0.90, 0.88), (0.92, 0.89)]))]
    scatter.save(tmp_path / "x.png", entries, agreements(entries))
    (axes,) = scatter.draw(entries, agreements(entries)).axes
    assert {text.get_text() for text in axes.texts} == {"$\\no{$"}


def test_names_cover_neither_each_other_nor_points():
    rng = np.random.default_rng(0)
    entries = runs_of(*enumerate(rng.uniform(0.90, 0.91, (40, 2)).tolist()))
    (axes,) = scatter.draw(entries, agreements(entries)).axes
    boxes = [text.get_window_extent() for text in axes.texts]
    assert 3 < len(boxes) < 40, "those without room are left out"
    assert sum(box.count_overlaps(boxes) for box in boxes) == len(boxes), "each meets itself only"
    points = axes.transData.transform(np.vstack([dots(axes, measure) for measure in scatter.COLOURS]))
    assert not any(box.contains(*point) for box in boxes for point in points)


def test_a_panel_a_leaderboard_and_none_without_scores():
    one = [Entry("a", {"oof_dice": 0.9}, {"public": 0.9})]
    two = [Entry("a", {"oof_dice": 0.9}, {"public": 0.9, "private": 0.8})]
    single, double = (scatter.draw(entries, agreements(entries)) for entries in (one, two))
    assert [len(figure.axes) for figure in (single, double)] == [1, 2]
    assert double.bbox.width == 2 * single.bbox.width
    bare = [Entry("a", {"oof_dice": 0.9})]
    assert scatter.draw(bare, agreements(bare)) is None


@pytest.mark.parametrize("start", [0.0, 0.8731, 0.2])
@pytest.mark.parametrize("span", [0.0052, 0.057, 0.26, 0.99])
def test_the_plot_holds_all_scores(start, span):
    entries = runs_of((0, (start, start)), (1, (start + span, start + span / 3)))
    (axes,) = scatter.draw(entries, agreements(entries)).axes
    for scores, (low, high) in (
        (dots(axes, "oof_dice").T[0], axes.get_xlim()),
        ([start, start + span / 3], axes.get_ylim()),
    ):
        assert low < min(scores) <= max(scores) < high
        assert high - low == pytest.approx(np.diff(axes.get_xlim())[0])


def test_a_plot_is_written_whole_or_refused(tmp_path):
    entries = runs_of(*enumerate([(0.90, 0.88), (0.92, 0.89)]))
    path = tmp_path / "deep" / "plot.png"
    scatter.save(path, entries, agreements(entries))
    written, drawn = cv2.imread(str(path)), scatter.draw(entries, agreements(entries))
    assert written.shape[:2] == (round(drawn.bbox.height), round(drawn.bbox.width))
    assert len(np.unique(written.reshape(-1, 3), axis=0)) > 2
    with pytest.raises(BonepipeError, match="no run has scores of both sides"):
        scatter.save(tmp_path / "none.png", [], {})
    assert [file.name for file in tmp_path.rglob("*.png")] == ["plot.png"]
