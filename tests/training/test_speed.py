import time

import pytest
import torch

from bonepipe.data.batches import TrainingImages
from bonepipe.pipeline.speed import verdict
from bonepipe.training.fit import TrainerSpec, make_trainer
from bonepipe.training.speed import Repeated, StepClock, StepTimes, mean_times


class Slow(TrainingImages):
    """Images that take their time."""

    PAUSE = 0.02

    def __getitem__(self, draw):
        time.sleep(self.PAUSE)
        return super().__getitem__(draw)


@pytest.fixture
def times_of(make_module, tmp_path):
    """Train two epochs with a loader and give the split of the step's time."""

    def run(loader):
        clock = StepClock()
        spec = TrainerSpec(epochs=2, batch_size=4)
        module, trainer = make_module(), make_trainer(spec, [clock], "cpu", tmp_path)
        trainer.fit(module, loader)
        assert len(clock.epochs) == 2
        return clock.summary()

    return run


def test_the_split_of_a_step_adds_up():
    marks = [(0.0, 0.1, 0.6, 0.7), (0.7, 0.9, 1.6, 1.7)]
    times = mean_times(marks, images=6)
    assert times.wait == pytest.approx(0.15)
    assert times.compute == pytest.approx(0.6)
    assert times.rest == pytest.approx(0.1)
    assert times.step == pytest.approx(0.85)
    assert times.images_per_second == pytest.approx(3 / 0.85)
    assert (
        str(times)
        == "3.5 images/s, step 850.0 ms: data wait 150.0 (18%), forward+backward 600.0 (71%), rest 100.0 (12%)"
    )


def test_a_slow_loader_shows_as_data_wait_and_a_repeated_batch_does_not(make_store, make_data, times_of):
    data = make_data(make_store(10))
    data.training = Slow(data.training.store, data.augmentation)
    loader = data.train_dataloader()
    slow, repeated = times_of(loader), times_of(Repeated(loader, "cpu"))
    pause = Slow.PAUSE * data.batch_size
    assert slow.wait > 0.9 * pause
    assert repeated.wait < 0.5 * pause
    assert slow.step == pytest.approx(slow.wait + slow.compute + slow.rest)
    assert slow.images_per_second < repeated.images_per_second


def test_a_repeated_batch_is_as_many_batches_as_the_loader_has(make_store, make_data):
    loader = make_data(make_store(10)).train_dataloader()
    repeated = Repeated(loader, "cpu")
    batches = list(repeated)
    assert len(batches) == len(repeated) == len(loader) > 1
    assert all(torch.equal(batch["image"], batches[0]["image"]) for batch in batches)


def test_the_first_epoch_counts_only_if_there_is_no_other():
    clock = StepClock()
    assert clock.summary() is None
    clock.epochs = [StepTimes(9, 9, 9, 1)]
    assert clock.summary().wait == 9
    clock.epochs += [StepTimes(1, 2, 3, 4), StepTimes(3, 2, 1, 4), StepTimes(2, 2, 2, 4)]
    assert clock.summary() == StepTimes(2, 2, 2, 4)


def test_the_verdict_names_the_slower_side():
    free, slow = StepTimes(0.0, 0.1, 0.0, 4), StepTimes(0.1, 0.1, 0.0, 4)
    assert "costs 50%" in verdict(slow, free) and "trainer.workers" in verdict(slow, free)
    assert "network sets the pace" in verdict(free, free)
