import json
import math
import random

import numpy as np
import pytest

from bonepipe.errors import BonepipeError
from bonepipe.pipeline import leaderboard
from bonepipe.pipeline.leaderboard import agreement, agreements
from bonepipe.report.leaderboard import Agreement, Entry


def pearson_by_hand(xs, ys):
    mx, my = sum(xs) / len(xs), sum(ys) / len(ys)
    top = sum((x - mx) * (y - my) for x, y in zip(xs, ys, strict=True))
    return top / math.sqrt(sum((x - mx) ** 2 for x in xs) * sum((y - my) ** 2 for y in ys))


def ranks_by_hand(values):
    """The mean rank of equal values."""
    return [sum(other < v for other in values) + (1 + sum(other == v for other in values)) / 2 for v in values]


@pytest.mark.parametrize("count", [3, 5, 40])
def test_correlations_are_those_of_the_formulas(count):
    rng = random.Random(count)
    cv = [round(rng.uniform(0.9, 0.95), 2 if count == 40 else 4) for _ in range(count)]  # with ties
    board = [0.5 * value + 0.4 + rng.gauss(0, 0.01) for value in cv]
    found = agreement(cv, board)
    r = pearson_by_hand(cv, board)
    assert found.runs == count
    assert found.pearson == pytest.approx(r, abs=1e-12)
    assert found.spearman == pytest.approx(pearson_by_hand(ranks_by_hand(cv), ranks_by_hand(board)), abs=1e-12)
    assert found.difference == pytest.approx(sum(abs(a - b) for a, b in zip(cv, board, strict=True)) / count)
    if count > 3:  # Fisher 1921: atanh(r) has the deviation 1 / sqrt(n - 3)
        half = 1.959963984540054 / math.sqrt(count - 3)
        assert found.low == pytest.approx(math.tanh(math.atanh(r) - half))
        assert found.high == pytest.approx(math.tanh(math.atanh(r) + half))


def test_a_correlation_that_means_nothing_is_none():
    assert agreement([], []) == Agreement(0)
    for cv, board in (([0.9, 0.8], [0.7, 0.9]), ([0.9, 0.9, 0.9], [0.7, 0.8, 0.9]), ([0.7, 0.8, 0.9], [0.8] * 3)):
        found = agreement(cv, board)
        assert (found.pearson, found.spearman, found.low, found.high) == (None,) * 4
        assert found.difference == pytest.approx(np.abs(np.subtract(cv, board)).mean())


def test_each_pair_of_scores_is_taken_over_the_runs_that_have_both():
    runs = [
        Entry("a", {"oof_dice": 0.9, "oof_dice_weighted": 0.8}, {"public": 0.7}),
        Entry("b", {"oof_dice": 0.8}, {"public": 0.6, "private": 0.5}),
        Entry("c", {"oof_dice": 0.7}, {}),
        Entry("d", {}, {"public": 0.6}),
    ]
    found = agreements(runs)
    assert {key: one.runs for key, one in found.items()} == {
        ("oof_dice", "public"): 2, ("oof_dice", "private"): 1, ("oof_dice_weighted", "public"): 1,
    }  # fmt: skip
    assert [run.complete for run in runs] == [True, True, False, False]


def test_recorded_scores_stand_beside_computed_ones_and_outrank_them(tmp_path):
    path = tmp_path / "scores.json"
    path.write_text(json.dumps({"oof_dice": 0.9, "public": 0.8, "private": 0.7}))
    leaderboard.record(path, {"public": 0.85}, "2024-01-02")
    leaderboard.record(path, {"private": 0.75}, "2024-01-03")
    content = json.loads(path.read_text())
    assert content.pop("leaderboard") == {"public": 0.85, "private": 0.75, "date": "2024-01-03"}
    assert content == {"oof_dice": 0.9, "public": 0.8, "private": 0.7}
    entry = leaderboard.read_entry(tmp_path)
    assert entry.board == {"public": 0.85, "private": 0.75}
    assert entry.recorded == {"public", "private"}
    assert entry.cv == {"oof_dice": 0.9}
    assert list(leaderboard.kept(path)) == ["leaderboard"]
    assert leaderboard.kept(tmp_path / "none.json") == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"scores\.json: cannot be read .*`bonepipe train-all` writes it anew"),
        ("[1]", r"scores\.json: holds no scores"),
        ('{"oof_dice": "high"}', r"scores\.json: oof_dice='high': expected a number"),
        ('{"leaderboard": {"public": true}}', r"scores\.json: leaderboard\.public=True: expected a number"),
        ('{"public": NaN}', r"scores\.json: public=nan: expected a number"),
        ('{"leaderboard": 3}', r"scores\.json: leaderboard: expected an object with public and private"),
    ],
)
def test_a_file_that_holds_no_scores_is_named(tmp_path, content, message):
    (tmp_path / "scores.json").write_text(content)
    with pytest.raises(BonepipeError, match=message):
        leaderboard.read_entry(tmp_path)
<<<<<<< HEAD
=======


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
>>>>>>> h6
