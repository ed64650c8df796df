import cv2
import numpy as np
import pytest

from bonepipe.errors import BonepipeError
from bonepipe.pipeline.leaderboard import agreements
from bonepipe.report import scatter
from bonepipe.report.leaderboard import Entry


def runs_of(*scores):
    return [Entry(f"run{i}", {"oof_dice": x, "oof_dice_weighted": x - 0.01}, {"public": y}) for i, (x, y) in scores]


def coloured(panel, colour):
    """Centres x, y of the dots of a colour below the heading."""
    mask = (np.abs(panel[scatter.TOP :].astype(int) - colour).max(2) < 12).astype(np.uint8)
    return sorted((x, y + scatter.TOP) for x, y in cv2.connectedComponentsWithStats(mask)[3][1:].tolist())


def test_dots_lie_where_the_scores_say():
    """Equal scales: as far apart in pixels as in Dice, higher scores to the right and above."""
    entries = runs_of(*enumerate([(0.90, 0.88), (0.92, 0.89), (0.95, 0.93)]))
    panel = scatter.picture(entries, agreements(entries))
    assert panel.dtype == np.uint8
    plain, weighted = (coloured(panel, scatter.COLOURS[key]) for key in ("oof_dice", "oof_dice_weighted"))
    assert len(plain) == len(weighted) == 3
    pixel = (plain[2][0] - plain[0][0]) / 0.05
    assert pixel > 2000
    for dots, offset in ((plain, 0), (weighted, -0.01)):
        for (x, y), (cv, board) in zip(dots, [(0.90, 0.88), (0.92, 0.89), (0.95, 0.93)], strict=True):
            assert x - plain[0][0] == pytest.approx((cv + offset - 0.90) * pixel, abs=2)
            assert plain[0][1] - y == pytest.approx((board - 0.88) * pixel, abs=2)


def test_a_panel_a_leaderboard_and_none_without_scores():
    one = [Entry("a", {"oof_dice": 0.9}, {"public": 0.9})]
    two = [Entry("a", {"oof_dice": 0.9}, {"public": 0.9, "private": 0.8})]
    single, double = (scatter.picture(entries, agreements(entries)) for entries in (one, two))
    assert double.shape[1] == 2 * single.shape[1]
    bare = [Entry("a", {"oof_dice": 0.9})]
    assert scatter.picture(bare, agreements(bare)) is None


@pytest.mark.parametrize("start", [0.0, 0.8731, 0.2])
@pytest.mark.parametrize("span", [0.0052, 0.057, 0.26, 0.99])
def test_ticks_are_round_even_and_inside(start, span):
    values, texts = zip(*scatter.ticks(start, span), strict=True)
    assert 2 <= len(values) <= 7
    assert all(start - 1e-9 <= value <= start + span + 1e-9 for value in values)
    assert np.ptp(np.diff(values)) < 1e-9
    assert [float(text) for text in texts] == pytest.approx(values, abs=1e-9)
    assert len({len(text) for text in texts}) == 1


def test_a_plot_is_written_whole_or_refused(tmp_path):
    entries = runs_of(*enumerate([(0.90, 0.88), (0.92, 0.89)]))
    path = tmp_path / "deep" / "plot.png"
    scatter.save(path, entries, agreements(entries))
    np.testing.assert_array_equal(cv2.imread(str(path))[..., ::-1], scatter.picture(entries, agreements(entries)))
    with pytest.raises(BonepipeError, match="no run has scores of both sides"):
        scatter.save(tmp_path / "none.png", [], {})
    assert [file.name for file in tmp_path.rglob("*.png")] == ["plot.png"]
