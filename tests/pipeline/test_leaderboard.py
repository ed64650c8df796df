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
        ("[1]", r"scores\.json: cannot be read"),
        ('{"oof_dice": "high"}', r"scores\.json: oof_dice='high': expected a number"),
        ('{"leaderboard": {"public": true}}', r"scores\.json: leaderboard\.public=True: expected a number"),
        ('{"public": NaN}', r"scores\.json: public=nan: expected a number"),
        ('{"public": 1' + "0" * 400 + "}", r"scores\.json: public=10+\.\.\.0+: expected a number"),
        ('{"leaderboard": 3}', r"scores\.json: leaderboard: expected an object with public and private"),
    ],
)
def test_a_file_that_holds_no_scores_is_named(tmp_path, content, message):
    (tmp_path / "scores.json").write_text(content)
    with pytest.raises(BonepipeError, match=message):
        leaderboard.read_entry(tmp_path)
