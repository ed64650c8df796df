import datetime
import json

import cv2
import pytest

from bonepipe import cli


@pytest.fixture
def runs(tmp_path):
    """Four runs: three with scores on both sides, one without leaderboard."""
    table = {
        "good": {"oof_dice": 0.95, "oof_dice_weighted": 0.93, "public": 0.92, "private": 0.91},
        "fair": {"oof_dice": 0.90, "oof_dice_weighted": 0.89, "public": 0.88, "private": 0.89},
        "poor": {"oof_dice": 0.80, "oof_dice_weighted": 0.81, "public": 0.83, "private": 0.80},
        "fresh": {"oof_dice": 0.99},
    }
    for name, scores in table.items():
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "scores.json").write_text(json.dumps(scores))
    (tmp_path / "runs" / ".store").mkdir()
    return tmp_path / "runs"


def test_a_score_is_recorded_beside_the_computed_one(runs, capsys):
    path = runs / "good" / "scores.json"
    before = json.loads(path.read_text())
    assert cli.main(["leaderboard", str(runs / "good"), "--public", "0.951"]) == 0
    assert "leaderboard public 0.9510" in capsys.readouterr().out
    assert cli.main(["leaderboard", str(runs / "good"), "--private", "0.947"]) == 0
    today = datetime.date.today().isoformat()
    after = json.loads(path.read_text())
    assert after.pop("leaderboard") == {"public": 0.951, "private": 0.947, "date": today}
    assert after == before


def test_the_table_and_its_correlations(runs, capsys):
    assert cli.main(["leaderboard", str(runs / "good"), "--public", "0.96"]) == 0
    capsys.readouterr()
    assert cli.main(["leaderboard", str(runs)]) == 0
    printed = capsys.readouterr().out
    rows = [line.split() for line in printed.splitlines()]
    assert rows[1:4] == [
        ["good", "0.9500", "0.9300", "0.9600", "0.9100*"],
        ["fair", "0.9000", "0.8900", "0.8800*", "0.8900*"],
        ["poor", "0.8000", "0.8100", "0.8300*", "0.8000*"],
    ]
    assert "*: computed with an answer file, not recorded" in printed
    assert "missing: fresh" in printed
    assert cli.main(["leaderboard", str(runs), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["left_out"] == ["fresh"]
    assert found["runs"][0] == {
        "name": "good", "oof_dice": 0.95, "oof_dice_weighted": 0.93, "public": 0.96, "private": 0.91,
        "recorded": ["public"],
    }  # fmt: skip
    pairs = {(one["cv"], one["leaderboard"]): one for one in found["agreement"]}
    assert len(pairs) == 4
    # Deviations of OOF from its mean in units of 1 / 600: 40, 10, -50; of the public scores in 1 / 300: 21, -3, -18.
    expected = (40 * 21 - 10 * 3 + 50 * 18) / ((40**2 + 10**2 + 50**2) * (21**2 + 3**2 + 18**2)) ** 0.5
    assert pairs["oof_dice", "public"]["pearson"] == pytest.approx(expected)
    assert pairs["oof_dice", "public"]["spearman"] == 1
    assert pairs["oof_dice_weighted", "private"]["difference"] == pytest.approx((0.02 + 0 + 0.01) / 3)


def test_two_runs_are_said_to_be_too_few(runs, capsys):
    assert cli.main(["leaderboard", str(runs / "good"), str(runs / "poor")]) == 0
    printed = capsys.readouterr().out
    assert "-: a correlation over fewer than 3 runs, or of equal scores, means nothing" in printed
    assert [line.split()[-2:] for line in printed.splitlines() if line.startswith("OOF")] == [["-", "-"]] * 2


def test_a_picture_is_drawn(runs, tmp_path):
    target = tmp_path / "new" / "scatter.png"
    assert cli.main(["leaderboard", str(runs), "-o", str(target)]) == 0
    assert cv2.imread(str(target)).shape[1] > 1000
    assert [path.name for path in target.parent.iterdir()] == ["scatter.png"]


def test_runs_of_one_name_are_told_apart(runs, tmp_path, capsys):
    other = tmp_path / "others" / "good"
    other.mkdir(parents=True)
    (other / "scores.json").write_text((runs / "good" / "scores.json").read_text())
    assert cli.main(["leaderboard", str(runs), str(other), str(other), "--json"]) == 0
    names = [run["name"] for run in json.loads(capsys.readouterr().out)["runs"]]
    assert sorted(names) == sorted([str(other), str(runs / "good"), "fair", "poor"])


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (["good", "--public", "95.1"], 2, "--public 95.1: a Dice lies from 0 to 1; 95.1 percent are 0.951"),
        (["good", "--private", "nan"], 2, "--private nan"),
        (["good", "fair", "--public", "0.9"], 2, "record the scores of one run"),
        (["good", "-o", "x.gif"], 2, "--output x.gif: name a .png or .jpg file"),
        (["fresh", "-o", "x.png"], 1, "x.png: not drawn: no run has scores of both sides"),
        (["nowhere", "--public", "0.9"], 1, "nowhere: no such folder; name a run"),
        (["nowhere"], 1, "nowhere: no such folder; name runs (runs/NAME)"),
        ([".store"], 1, ".store: no scores.json here or one folder below; `bonepipe train-all` first"),
        ([".store", "--public", "0.9"], 1, "scores.json: no such file; `bonepipe train-all` writes it"),
    ],
)
def test_wrong_words_and_folders_are_refused(runs, monkeypatch, capsys, words, code, reason):
    monkeypatch.chdir(runs)
    assert cli.main(["leaderboard", *words]) == code
    assert reason in capsys.readouterr().err
    assert not (runs / "x.png").exists()


def test_without_any_leaderboard_score_the_way_to_one_is_told(runs, capsys):
    assert cli.main(["leaderboard", str(runs / "fresh")]) == 0
    printed = capsys.readouterr().out
    assert "no run has scores of both sides" in printed
    assert "bonepipe leaderboard runs/NAME --public DICE" in printed
