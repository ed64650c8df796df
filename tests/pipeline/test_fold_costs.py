import time

import torch

from bonepipe.pipeline import fold_costs
from bonepipe.pipeline.fold_costs import Stopwatch


def test_the_stopwatch_times_what_predicts_and_passes_it_on():
    def predict(images):
        time.sleep(0.02 * len(images))
        return images * 2

    watch = Stopwatch(predict)
    assert torch.equal(watch(torch.ones(2, 1, 1)), 2 * torch.ones(2, 1, 1))
    watch.batches = [(1, 100.0)]  # the first one does not count where there are others
    for count in (2, 3):
        watch(torch.ones(count, 1, 1))
    assert 0.02 <= watch.seconds_an_image < 0.1
    watch.batches = [(4, 2.0)]
    assert watch.seconds_an_image == 0.5


def test_costs_are_added_to_each_other_and_damage_costs_nothing(tmp_path):
    assert fold_costs.read(tmp_path) == {}
    fold_costs.note(tmp_path, peak_memory=5)
    fold_costs.note(tmp_path, seconds_an_image=0.5)
    assert fold_costs.read(tmp_path) == {"peak_memory": 5, "seconds_an_image": 0.5}
    (tmp_path / fold_costs.COSTS).write_text("[1")
    assert fold_costs.read(tmp_path) == {}
    fold_costs.note(tmp_path, peak_memory=6)
    assert fold_costs.read(tmp_path) == {"peak_memory": 6}


def test_a_damaged_history_leaves_its_time_unknown(tmp_path):
    assert fold_costs.of_fold(tmp_path) == {}
    fold_costs.note(tmp_path, peak_memory=2**29)
    for content in ("", "epoch\n", "epoch,seconds\n0,abc\n", "step\n1\n"):
        (tmp_path / "metrics.csv").write_text(content)
        assert fold_costs.of_fold(tmp_path) == {"cost/peak_memory_gib": 0.5}
    (tmp_path / "metrics.csv").write_text("epoch,seconds\n0,1.5\n1,2\n")
    assert fold_costs.of_fold(tmp_path)["cost/training_s"] == 3.5


def test_costs_of_all_folds_are_those_that_are_known():
    rows = [{"cost/training_s": 1.0, "cost/inference_ms": 4.0}, {"cost/training_s": 2.0}, {"fold": 2}]
    assert fold_costs.of_all(rows) == {"cost/training_s": 3.0, "cost/inference_ms": 4.0}
    assert fold_costs.of_all([]) == {}
