import numpy as np
import pytest

from bonepipe.report.ablation import Line, gain, table


def test_the_verdict_needs_more_than_the_noise_of_the_seeds():
    # Student's t at 97.5% with two degrees of freedom is 4.3027.
    assert gain(np.array([0.01, 0.02, 0.03])) == ("+0.0200 ± 0.0248", "no difference beyond the noise")
    assert gain(np.array([0.019, 0.02, 0.021]))[1] == "gains"
    assert gain(np.array([-0.019, -0.02, -0.021]))[1] == "costs"


def test_gains_are_taken_seed_by_seed_and_empty_columns_left_out():
    costs = {"seconds": 60.0, "core_seconds": 90.0}
    results = {
        "base": [{"oof_dice": dice, **costs} for dice in (0.5, 0.7, 0.9)],
        "more": [{"oof_dice": dice, **costs} for dice in (0.52, 0.72, 0.92)],
    }
    lines = [Line("", "base", "", None), Line("loss", "more", "loss=bce loss.smooth=2", "base")]
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table(lines, results, True).splitlines()]
    assert rows[0] == ["group", "row", "settings", "OOF", "OOF gain", "verdict", "over", "minutes", "core-minutes"]
    assert rows[2] == ["", "base", "", "0.7000 ± 0.2000", "", "", "", "1.0", "1.5"]
    assert rows[3][:3] == ["loss", "more", "`loss=bce` `loss.smooth=2`"]
    assert rows[3][4].startswith("+0.0200 ± 0.0000")
    assert rows[3][5] == "gains"
    assert "verdict" not in table(lines, results, False)


@pytest.mark.parametrize("key", ["public", "test_dice"])
def test_scores_of_a_leaderboard_have_columns(key):
    results = {"a": [{key: 0.5, "seconds": 1, "core_seconds": 1}]}
    assert "0.5000" in table([Line("", "a", "", None)], results, False)
