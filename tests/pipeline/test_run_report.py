"""Reports of real runs, opened in a browser."""

import json
import re
import shutil

import numpy as np
import pytest
from browser import opened

from bonepipe.cli import main
from bonepipe.errors import BonepipeError
from bonepipe.pipeline import run_report
from bonepipe.pipeline.run_report import read

HEADINGS = ["Dice by class", "Best and worst", "Kinds of mistakes", "Thresholds", "Calibration", "Learning", "Costs"]


def tell(folder):
    """Add what a training and a cross-validation leave to a drawn run."""
    for fold in (0, 1):
        rows = [
            f"{epoch},{0.9 - 0.1 * epoch},{'' if epoch % 2 else 0.1 * epoch + 0.01 * fold},2.5,3,7,1"
            for epoch in range(8)
        ]
        head = "epoch,train/loss,val/dice,seconds,time/data_wait_ms,time/forward_backward_ms,time/rest_ms"
        (folder / f"fold-{fold}" / "metrics.csv").write_text("\n".join([head, *rows]) + "\n")
        costs = {"device": "cpu", "peak_memory": 2.0**30, "seconds_an_image": 0.25}
        (folder / f"fold-{fold}" / "costs.json").write_text(json.dumps(costs))
    scores = {"oof_dice": 0.9, "public": 0.88, "strata": {
        "rotated": {"images": 3, "share": 0.2, "test_share": 0.6, "dice": 0.8},
        "straight": {"images": 17, "share": 0.8, "test_share": 0.4, "dice": 0.92}}}  # fmt: skip
    (folder / "scores.json").write_text(json.dumps(scores))


@pytest.fixture(scope="module")
def reported(drawn_run, tmp_path_factory):
    """A run's folder with its report."""
    place = tmp_path_factory.mktemp("reported") / "copy"
    shutil.copytree(drawn_run[0], place)
    folder = place / "runs" / "demo"
    tell(folder)
    assert main(["report", str(folder)]) == 0
    return folder


def test_the_report_opens_and_every_part_speaks(reported, browser):
    with opened(browser, (reported / "report.html").as_uri()) as here:
        assert here.page.locator("h2").all_text_contents() == [*HEADINGS, "Cross-validation and leaderboard"]
        assert here.draw_all() > 10
        assert here.unloaded() == []
        silent = "[...document.querySelectorAll('.part')].filter(p => !p.querySelector('.says'))"
        assert here.page.evaluate(f"{silent}.length") == 0
        assert here.problems == []


def test_the_menu_of_thresholds_shows_another_class(reported, browser):
    with opened(browser, (reported / "report.html").as_uri()) as here:
        here.draw_all()
        curve = "document.querySelector('.updatemenu-container').closest('.plot')"
        place = f"({curve}._fullData.findIndex(trace => trace.visible === true))"
        assert here.page.evaluate(place) == 0
        here.show(".updatemenu-header").click()
        here.page.locator(".updatemenu-dropdown-button").nth(2).click()
        here.until(f"{place} === 6")
        assert here.problems == []


def test_what_is_read_is_what_lies_there(reported, drawn_run):
    results = read(reported, pictures=False)
    table = {}
    for fold in (0, 1):
        for line in (reported / f"fold-{fold}" / "oof_dice.csv").read_text().splitlines()[1:]:
            image, label, dice = line.split(",")
            table[image, label] = float(dice)
    expected = [[table[name, label] for label in results.classes] for name in results.names]
    assert results.dice == pytest.approx(np.array(expected), abs=1e-6)
    assert results.by_fold.mean(0) == pytest.approx(results.dice.mean(0), abs=0.05)
    assert results.thresholds["thresholds"]["Radius"] == 0.52
    assert results.model["cost/parameters"] > 1e5
    mean, folds = results.curves
    assert mean[:, 128] == pytest.approx(results.dice.mean(0))
    assert folds.shape == (2, 29, 256)


def test_a_report_whose_files_are_as_they_were_is_kept_and_another_is_not(reported, capsys):
    path = reported / "report.html"
    before = path.stat().st_mtime_ns
    assert main(["report", str(reported)]) == 0
    assert "done already" in capsys.readouterr().err
    assert path.stat().st_mtime_ns == before
    scores = json.loads((reported / "scores.json").read_text())
    (reported / "scores.json").write_text(json.dumps({**scores, "private": 0.87}))
    assert main(["report", str(reported)]) == 0
    assert path.stat().st_mtime_ns > before
    assert "0.8700" in path.read_text()


def test_several_runs_stand_side_by_side(reported, browser, tmp_path):
    other = shutil.copytree(reported, tmp_path / "runs" / "wider")
    for fold in (0, 1):
        config = other / f"fold-{fold}" / "config.yaml"
        config.write_text(re.sub(r"lr: [0-9.e-]+", "lr: 0.123", config.read_text(), count=1))
    path = tmp_path / "both.html"
    assert main(["report", str(reported), str(other), "-o", str(path)]) == 0
    with opened(browser, path.as_uri()) as here:
        here.draw_all()
        text = here.page.locator("main").inner_text()
        assert "optimizer.lr" in text
        assert "0.123" in text
        assert "+0.0000 over 20 common images" in text
        assert here.problems == []


def test_without_the_dataset_the_rest_is_shown_and_the_reason_told(reported, tmp_path, phantom_root, capsys):
    folder = shutil.copytree(reported, tmp_path / "runs" / "demo")
    for path in folder.glob("**/config.yaml"):
        path.write_text(re.sub(r"root: .*", "root: /gone", path.read_text(), count=1))
    results = read(folder)
    assert results.mistakes is None
    assert "no pictures" in results.missing
    assert main(["report", str(folder)]) == 0
    assert "Best and worst" in (folder / "report.html").read_text()  # that with pictures is kept
    (folder / "report.html").unlink()
    assert main(["report", str(folder)]) == 0
    assert "no pictures" in (folder / "report.html").read_text()
    root = tmp_path / "mounted later"
    root.mkdir()
    assert main(["report", str(folder), f"data.root={root}"]) == 0
    assert "no pictures" in (folder / "report.html").read_text()
    shutil.copytree(phantom_root, root, dirs_exist_ok=True)
    assert main(["report", str(folder), f"data.root={root}"]) == 0
    assert "Best and worst" in (folder / "report.html").read_text()
    capsys.readouterr()
    assert main(["report", str(folder), f"data.root={phantom_root}"]) == 0
    assert "done already" in capsys.readouterr().err, "the same files at another place"
    annotation = next((root / "train" / "outputs_json").rglob("*.json"))
    annotation.write_text(annotation.read_text().replace("Radius", "Ulna"))
    assert main(["report", str(folder), f"data.root={root}"]) == 0
    assert "done already" not in capsys.readouterr().err


def test_a_folder_without_predictions_is_refused(tmp_path, drawn_run):
    folder = shutil.copytree(drawn_run[0] / "runs" / "demo", tmp_path / "demo")
    for path in folder.glob("fold-*/histograms.npz"):
        path.unlink()
    with pytest.raises(BonepipeError, match="nothing is predicted out of fold yet"):
        run_report.write_report(folder)
    assert main(["report", str(tmp_path / "nothing")]) == 1


def test_scores_of_other_predictions_are_not_shown(reported, tmp_path, capsys):
    folder = shutil.copytree(reported, tmp_path / "runs" / "demo")
    whole = read(folder, pictures=False)
    assert whole.scores
    assert not whole.stale
    shutil.rmtree(folder / "fold-1")
    capsys.readouterr()
    rest = read(folder, pictures=False)
    assert "demo: Scores and thresholds are left out" in capsys.readouterr().err
    assert rest.total == pytest.approx(rest.dice.mean())
    assert rest.total != whole.total
    assert not rest.thresholds
    assert main(["report", str(folder)]) == 0
    assert "they are of other predictions" in (folder / "report.html").read_text()


def test_a_root_with_commas_is_quoted_as_everywhere(reported, tmp_path, phantom_root):
    folder = shutil.copytree(reported, tmp_path / "runs" / "demo")
    root = shutil.copytree(phantom_root, tmp_path / "my, data")
    assert main(["report", str(folder), f'data.root="{root}"']) == 0
    assert "Best and worst" in (folder / "report.html").read_text()
    assert "no pictures" not in (folder / "report.html").read_text()
    assert main(["report", str(folder), str(reported), f"data.root={phantom_root}"]) == 2


def test_the_page_of_several_runs_lies_beside_the_folder_where_one_is(reported, tmp_path, monkeypatch):
    folder = shutil.copytree(reported, tmp_path / "runs" / "demo")
    shutil.copytree(reported, tmp_path / "runs" / "other")
    before = (folder / "report.html").read_bytes() if (folder / "report.html").is_file() else None
    monkeypatch.chdir(folder)
    assert main(["report", ".", "../other"]) == 0
    assert (tmp_path / "runs" / "report.html").is_file()
    assert before == ((folder / "report.html").read_bytes() if (folder / "report.html").is_file() else None)
