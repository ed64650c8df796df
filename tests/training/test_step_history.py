import csv

import numpy as np
import pytest

from bonepipe.training import step_history
from bonepipe.training.averaging import StochasticWeightAveraging
from bonepipe.training.fit import TrainerSpec, train_fold
from bonepipe.training.step_history import COLUMNS, summed_up
from bonepipe.training.tracking import Run


class Crash(Exception):
    """What a killed run looks like from within."""


class Crashing(StochasticWeightAveraging):
    """Averages nothing, and ends the run before the second batch of an epoch."""

    def __init__(self, epoch=None):
        super().__init__(start=1)
        self.epoch = epoch

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == (self.epoch, 1):
            raise Crash


def read(path):
    with path.open() as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]


@pytest.fixture
def train(make_store, make_module, make_data, tmp_path):
    """Train 11 images, in batches of 3, in a folder below tmp_path; gives the rows of steps.csv and metrics.csv."""
    store = make_store(13)

    def run(name, averaging=None, **settings):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        spec = TrainerSpec(**{"epochs": 3, "batch_size": 3, **settings})
        module, data = make_module(), make_data(store, batch_size=3)
        train_fold(
            module, data, averaging or Crashing(), spec, device="cpu", folder=folder, title=name, run=Run()
        )  # fmt: skip
        return read(folder / "steps.csv"), read(folder / "metrics.csv")

    return run


def test_rows_are_means_over_equally_many_batches():
    batches = [(4, 0.5)] * 9 + [(2, 0.25)]
    rows = summed_up(batches, [float(i) for i in range(10)], [0.1 * i for i in range(10)], seen=100)
    assert len(rows) == step_history.ROWS
    assert [row["images_seen"] for row in rows] == [108, 116, 120, 124, 128, 132, 136, 138]
    assert [row["loss"] for row in rows] == [0.5, 2.5, 4, 5, 6, 7, 8, 9]
    assert rows[0]["lr"] == pytest.approx(0.1)
    assert all(row["images_per_second"] == pytest.approx(8) for row in rows)
    (mixed,) = summed_up(batches[-1:], [3.0], [0.1], 0)
    assert mixed["images_seen"] == 2


def test_steps_add_up_to_their_epoch(train):
    steps, epochs = train("run")
    assert list(steps[0]) == list(COLUMNS)
    assert [row["images_seen"] for row in steps] == [3, 6, 9, 11, 14, 17, 20, 22, 25, 28, 31, 33]
    for epoch in epochs:
        own = [row for row in steps if row["epoch"] == epoch["epoch"]]
        images = [3, 3, 3, 2]
        assert np.average([row["loss"] for row in own], weights=images) == pytest.approx(epoch["train/loss"], rel=1e-5)
        assert own[-1]["lr"] == pytest.approx(epoch["lr"])
        assert all(row["images_per_second"] > 0 for row in own)


def test_accumulated_steps_have_the_loss_of_their_images(train):
    steps, epochs = train("run", accumulate=3)
    losses = [row["loss"] for row in steps[:4]]
    assert np.average(losses, weights=[3, 3, 3, 2]) == pytest.approx(epochs[0]["train/loss"], rel=1e-5)


def test_a_resumed_run_has_every_step_once(train):
    whole, _ = train("whole")
    with pytest.raises(Crash):
        train("broken", Crashing(2))
    resumed, _ = train("broken")

    def without_times(rows):
        return [{key: value for key, value in row.items() if key != "images_per_second"} for row in rows]

    assert without_times(resumed) == without_times(whole)
