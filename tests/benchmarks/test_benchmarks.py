"""What the benchmarks compare is equal; on small images, nothing is timed."""

import os
import time

import numpy as np
import pytest
import torch

from . import (
    baseline,
    first,
    growth,
    learned,
    steps_busy,
    steps_data,
    steps_files,
    steps_labels,
    steps_loss,
    steps_model,
)
from .material import Material, replicate
from .measure import Pair
from .table import Row, faster, write


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    return Material(tmp_path_factory.mktemp("bench"), 256, side=64, points=(4, 16, 60))


def test_samples_equal_the_baselines(material):
    assert "equal" in steps_data.check_labels(material, 64)
    assert steps_data.check_store(material, 64) == 2


def test_unpacked_targets_equal_numpys(material):
    from bonepipe import config as configs
    from bonepipe.data.batches import TrainingImages

    augmentation = configs.build(material.config(), "augment", material.spec(64))
    assert steps_data.check_unpack(TrainingImages(material.store(64), augmentation))


@pytest.mark.parametrize("index", [0, 3])
def test_what_is_kept_of_an_image_equals_that_of_full_frames(material, index):
    assert "equal" in steps_labels.check_comparison(material, index, 64)


def test_the_network_learns_from_point_to_point(material):
    store = material.store(32)
    dice = [
        steps_labels.compared(learned.logits_of(material, 0, 64, point), store, 0).dice.mean()
        for point in learned.POINTS
    ]
    assert dice[0] < dice[-1]
    assert dice[-1] > 0.2


def test_the_slowest_point_counts():
    pairs = {"early": Pair(1.0, 0.2, 5.0), "middle": Pair(1.0, 0.3, 3.0), "trained": Pair(2.0, 0.1, 20.0)}
    assert learned.slowest(pairs.__getitem__)[:2] == ("middle", pairs["middle"])


@pytest.mark.parametrize("index", [1, 4])
def test_texts_equal_those_of_full_frames(material, index):
    assert "equal" in steps_labels.check_encoding(material, index, 64)


def test_thresholds_equal_brute_force(material):
    checked, _ = steps_labels.check_thresholds(material, 2, 64, classes=29)
    assert "29 classes at 243 thresholds" in checked


def test_thresholds_are_chosen_from_the_files_of_folds(material):
    folder = steps_labels.make_histograms(material, 10)
    assert len(steps_labels.choose_thresholds(folder, material.spec(64).classes).thresholds) == 29


def test_votes_and_scores_equal_those_on_pixels(material):
    rows = 29 * 6
    assert steps_files.check_votes(material, 6, rows)
    assert steps_files.check_scores(material, 6, rows)


def test_unseen_masks_of_the_ensemble(material):
    members = steps_model.members_of(material, 64, 2)
    texts = steps_model.run_ensemble(material, 64, 3, members)
    assert len(texts) == 3
    assert steps_model.check_ensemble(material, 64, members, texts[0])


def test_lightning_and_bare_loop_train_alike(material):
    bare, whole = steps_model.train_both(material, 64, 2, 3)
    assert len(bare.seconds) == len(whole.seconds) == 2
    assert bare.losses[0] == pytest.approx(whole.losses[0], rel=1e-6)
    assert steps_model.loss_gap(bare, whole) < 1e-3


@pytest.mark.parametrize("name", steps_loss.PAIRS)
def test_losses_and_gradients_equal_the_plain_ones(name):
    assert "gradients" in steps_loss.check_loss(name, (2, 5, 64, 64))


def test_rivals_compute_at_the_lowest_priority_and_end(material):
    with steps_busy.beside(2) as rivals:
        end = time.monotonic() + 20
        while time.monotonic() < end and {os.getpriority(os.PRIO_PROCESS, rival.pid) for rival in rivals} != {19}:
            time.sleep(0.02)
        assert {os.getpriority(os.PRIO_PROCESS, rival.pid) for rival in rivals} == {19}
        assert steps_busy.step_seconds(str(material.folder), "256", "64", "2", "4") > 0
    assert all(rival.returncode for rival in rivals)


def test_the_first_step_of_a_training(material, tmp_path):
    words = ["experiment=demo", f"data.root={material.root}", "data.size=64", f"folds.file={tmp_path / 'folds.csv'}"]
    words += ["folds.count=2", "tracking=none", "device=cpu", f"runs={tmp_path}", "name=first"]
    times = first.first_step("train", "fold=0", *words)
    assert times["wall"] > 0 and times["cpu"] > 0
    assert not (tmp_path / "first" / "fold-0" / "metrics.csv").exists()  # of an epoch
    with pytest.raises(RuntimeError, match="exit code 2"):
        first.first_step("train", "fold=0", *words, "trainer.epoch=1")


def test_an_epoch_and_its_validation_are_told_apart(material):
    halves = steps_model.train_epoch(material, 10, 64, 2)
    assert halves.start < halves.trained < halves.validated


def test_replicated_datasets_are_complete(material):
    from bonepipe.data.catalog import test_images

    root = replicate(material, "test", 8)
    assert len(test_images(root)) == 8
    assert growth.build_store(str(material.folder), "256", "8") > 0


def test_the_baseline_agrees_with_itself():
    mask = np.random.default_rng(0).random((20, 20)) > 0.5
    text = baseline.encode(mask)
    np.testing.assert_array_equal(baseline.decode(text, 20), mask)
    assert baseline.score(text, text, 20) == pytest.approx(1)
    assert baseline.vote([text, text, ""], 20, 2) == text
    ones = torch.ones(1, 1, 4, 4)
    assert float(baseline.dice_coef(ones, ones)) == pytest.approx(1)


def test_the_table_keeps_what_people_wrote(tmp_path):
    path = tmp_path / "benchmarks.md"
    path.write_text("# By hand\n\n<!-- bench:start -->\nold\n<!-- bench:end -->\nbelow\n")
    write(path, [faster("step", Pair(1.0, 0.01, 100.0), 20, "equal"), Row("other", met=False)], "A note.")
    text = path.read_text()
    assert text.startswith("# By hand\n\n") and text.endswith("below\n") and "old" not in text
    assert "| 1,000 ms | 10.0 ms | 100x  | at least 20x | yes" in text
