import pytest

from bonepipe.errors import BonepipeError
from bonepipe.training.tracking.history import AXES, extremes, read_rows, told_rows

EPOCHS = [{"epoch": float(e), "step": 2.0 * e + 2, "val/dice": dice} for e, dice in enumerate([0.1, 0.6, 0.3])]
STEPS = [{"epoch": float(e), "images_seen": 8.0 * e + seen, "loss": 1.0} for e in range(3) for seen in (4, 8)]


def test_the_steps_of_an_epoch_come_before_it_and_epochs_count_from_one():
    rows = list(told_rows(EPOCHS, STEPS))
    assert [(row.get("epoch"), row.get("images_seen")) for row in rows] == [
        (None, 4), (None, 8), (1, None), (None, 12), (None, 16), (2, None), (None, 20), (None, 24), (3, None),
    ]  # fmt: skip
    assert rows[0] == {"images_seen": 4, "steps/loss": 1.0}
    assert rows[2] == {"epoch": 1, "trainer/global_step": 2, "val/dice": 0.1}


def test_what_is_told_at_first_is_the_beginning_of_what_is_told_in_the_end():
    whole = list(told_rows(EPOCHS, STEPS))
    for done in range(4):
        for known in (2 * done, 2 * done + 1, 6):  # steps of an epoch that is not finished may be there already
            first = list(told_rows(EPOCHS[:done], STEPS[:known]))
            assert first == whole[: len(first)]
            assert len(first) == 3 * done


def test_every_told_metric_has_an_axis():
    globs = [name.removesuffix("*") for name in AXES if name.endswith("*")]
    keys = {
        key for row in told_rows([{**EPOCHS[0], "train/loss": 1.0, "lr": 0.1, "seconds": 1.0}], STEPS) for key in row
    }
    assert all(key in AXES or any(key.startswith(glob) for glob in globs) for key in keys)


def test_extremes_are_over_the_epochs_that_were_validated():
    assert extremes([*EPOCHS, {"epoch": 3.0, "step": 8.0, "train/loss": 2.0}]) == {
        "val/dice": {"max": 0.6, "last": 0.3},
        "train/loss": {"min": 2.0, "last": 2.0},
    }


def test_what_was_not_measured_is_not_read(tmp_path):
    path = tmp_path / "metrics.csv"
    assert read_rows(path) == []
    path.write_text("epoch,val/dice\n0,\n1,0.5\n")
    assert read_rows(path) == [{"epoch": 0.0}, {"epoch": 1.0, "val/dice": 0.5}]


def test_what_is_no_number_is_named(tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,val/dice\n0,high\n")
    with pytest.raises(BonepipeError, match=r"metrics\.csv: cannot be read \(could not convert .*'high'"):
        read_rows(tmp_path / "metrics.csv")
