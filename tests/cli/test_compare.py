import json
import math
import statistics

import pytest

from bonepipe import cli
from bonepipe import config as configs

CLASSES = ("Radius", "Ulna")


def write_fold(folder, overrides, table):
    """A finished fold: its resolved config, and a table image -> Dice of both classes."""
    configs.save(configs.compose(["experiment=debug", *overrides]), folder / "config.yaml")
    rows = [
        f"{image},{label},{dice}" for image, pair in table.items() for label, dice in zip(CLASSES, pair, strict=True)
    ]
    (folder / "oof_dice.csv").write_text("\n".join(["image_name,class,dice", *rows]) + "\n")


BEFORE = {"a.png": (0.5, 0.8), "b.png": (0.6, 0.9), "c.png": (0.9, 0.7)}
AFTER = {"a.png": (0.6, 0.8), "b.png": (0.8, 0.9), "c.png": (0.9, 0.6)}


@pytest.fixture
def runs(tmp_path):
    """Two runs of two folds each, one setting apart."""
    for name, table, more in (("one", BEFORE, []), ("two", AFTER, ["optimizer.lr=0.5"])):
        parts = [{k: table[k] for k in ("a.png", "b.png")}, {"c.png": table["c.png"]}]
        for fold, part in enumerate(parts):
            write_fold(tmp_path / name / f"fold-{fold}", [f"name={name}", f"fold={fold}", *more], part)
    (tmp_path / "one" / "scores.json").write_text(json.dumps({"oof_dice": 0.75, "folds": [0.7]}))
    (tmp_path / "two" / "scores.json").write_text(json.dumps({"oof_dice": 0.8, "test_dice": 0.9}))
    return tmp_path


def compared(capsys, a, b):
    assert cli.main(["compare", str(a), str(b), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_dice_is_compared_image_by_image(runs, capsys):
    found = compared(capsys, runs / "one", runs / "two")
    assert found["images"] == 3
    changes = {"Radius": [0.1, 0.2, 0.0], "Ulna": [0.0, 0.0, -0.1]}
    for name, values in changes.items():
        assert found["per_class"][name]["change"] == pytest.approx(statistics.mean(values))
        assert found["per_class"][name]["standard_error"] == pytest.approx(statistics.stdev(values) / math.sqrt(3))
    both = [0.05, 0.1, -0.05]
    assert found["dice"]["a"] == pytest.approx((0.65 + 0.75 + 0.8) / 3)
    assert found["dice"]["change"] == pytest.approx(statistics.mean(both))
    assert found["dice"]["standard_error"] == pytest.approx(statistics.stdev(both) / math.sqrt(3))


def test_the_one_setting_that_differs_is_named(runs, capsys):
    found = compared(capsys, runs / "one", runs / "two")
    assert found["settings"] == {"optimizer.lr": {"a": 1e-3, "b": 0.5}}  # neither name nor fold
    assert found["scores"] == {"oof_dice": {"a": 0.75, "b": 0.8}}
    assert cli.main(["compare", str(runs / "one"), str(runs / "two")]) == 0
    printed = capsys.readouterr().out
    assert "optimizer.lr: 0.001 -> 0.5" in printed
    assert "one change: optimizer.lr" in printed
    assert "oof_dice: 0.7500 -> 0.8000 (+0.0500)" in printed
    rows = [line.split() for line in printed.splitlines() if line.startswith(("Radius", "Ulna", "all classes"))]
    assert [row[0] for row in rows] == ["Ulna", "Radius", "all"]  # the most lost first
    assert rows[1][1:] == ["0.6667", "0.7667", "+0.1000", "0.0577"]


def test_several_changes_are_called_several(runs, capsys):
    write_fold(runs / "three" / "fold-0", ["loss=bce", "trainer.epochs=9"], BEFORE)
    assert cli.main(["compare", str(runs / "one"), str(runs / "three")]) == 0
    printed = capsys.readouterr().out
    assert "2 changes (loss, trainer.epochs)" in printed
    assert "change one at a time" in printed
    found = compared(capsys, runs / "one", runs / "three")
    assert found["changes"] == ["loss", "trainer.epochs"]  # the loss's own settings are no changes of their own
    assert {"loss._target_", "loss.gamma"} <= set(found["settings"])
    assert found["dice"]["change"] == 0


def test_folds_are_compared_over_the_images_that_they_share(runs, capsys):
    found = compared(capsys, runs / "one", runs / "two" / "fold-1")
    assert found["images"] == 1
    assert found["images_of_one_run_only"] == 2
    assert found["per_class"]["Ulna"]["standard_error"] is None
    assert cli.main(["compare", str(runs / "one" / "fold-0"), str(runs / "two" / "fold-1")]) == 1
    assert "share no image" in capsys.readouterr().err


def test_equal_settings_are_said_to_be_equal(runs, capsys):
    write_fold(runs / "again", ["name=again"], AFTER)
    assert cli.main(["compare", str(runs / "one"), str(runs / "again")]) == 0
    assert "no setting differs" in capsys.readouterr().out


def test_a_folder_without_results_is_refused(runs, capsys):
    assert cli.main(["compare", str(runs / "one"), str(runs / "nowhere")]) == 1
    assert "nowhere: no such folder" in capsys.readouterr().err
    (runs / "empty" / "fold-0").mkdir(parents=True)
    assert cli.main(["compare", str(runs / "one"), str(runs / "empty")]) == 1
    assert "no finished fold" in capsys.readouterr().err
    (runs / "one" / "fold-0" / "oof_dice.csv").write_text("image_name,class,dice\na.png,Radius,high\n")
    assert cli.main(["compare", str(runs / "one"), str(runs / "two")]) == 1
    assert "oof_dice.csv: cannot be read" in capsys.readouterr().err


def test_a_config_of_an_earlier_version_can_be_compared(runs, capsys):
    path = runs / "one" / "fold-0" / "config.yaml"
    config = configs.read(path)
    del config["transfer"]
    configs.save(config, path)
    assert "transfer" in compared(capsys, runs / "one", runs / "two")["changes"]


def test_settings_that_follow_the_predictions_are_settings_too(runs, capsys):
    """They are the run's; its folds may have been trained under others."""
    write_fold(runs / "again" / "fold-0", ["name=again"], BEFORE)
    write_fold(runs / "again", ["name=again", "thresholds.margin=0"], {})
    (runs / "again" / "oof_dice.csv").unlink()
    assert compared(capsys, runs / "one", runs / "again")["changes"] == ["thresholds.margin"]
