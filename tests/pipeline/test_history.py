"""What is read of a training from the files of its fold."""

import numpy as np
import pytest
import torch

from bonepipe.errors import BonepipeError
from bonepipe.pipeline.history import read_history
from bonepipe.training.fit import save_weights


def write(folder, lines, **chosen):
    (folder / "metrics.csv").write_text("\n".join(["epoch,val/dice,lr", *lines]) + "\n")
    save_weights(torch.nn.Linear(1, 1), folder / "weights.safetensors", {"chosen": chosen} if chosen else {})
    return read_history(folder, 7)


def test_epochs_without_validation_are_left_out(tmp_path):
    found = write(tmp_path, ["0,,1", "1,0.25,1", "2,,1", "3,0.5,1"], source="best epoch", epoch=4, dice=0.5)
    assert (found.epochs.tolist(), found.dice.tolist(), found.images) == ([1, 3], [0.25, 0.5], 7)
    assert found.average is None


def test_a_fold_that_predicts_with_its_average_has_its_dice(tmp_path):
    assert write(tmp_path, ["0,0.5,1"], source="average", epoch=3, dice=0.75).average == 0.75
    assert write(tmp_path, ["0,0.5,1"]).average is None  # weights that nobody noted anything of


@pytest.mark.parametrize(
    ("lines", "reason"), [([], "no validation"), (["0,nan,1"], "no validation"), (["x,1,1"], "cannot be read")]
)
def test_what_cannot_be_used_is_named(tmp_path, lines, reason):
    with pytest.raises(BonepipeError, match=f"metrics.csv: .*{reason}"):
        write(tmp_path, lines)


def test_an_average_without_its_dice_is_named(tmp_path):
    with pytest.raises(BonepipeError, match=r"weights\.safetensors: does not say which Dice .*train the fold again"):
        write(tmp_path, ["0,0.5,1"], source="average", epoch=3)


def test_a_damaged_last_row_of_numbers_counts_as_none(tmp_path):
    found = write(tmp_path, ["0,0.5,1", "1,inf,1"])
    np.testing.assert_array_equal(found.dice, [0.5])
