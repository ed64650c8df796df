"""`trainer.batch_size=auto`, under limits that the kernel sets: allocations fail for real."""

import json
import resource
import subprocess
import sys
from types import SimpleNamespace

import pytest

from bonepipe import config as configs
from bonepipe import memory
from bonepipe.errors import UsageError
from bonepipe.models import inspect
from bonepipe.pipeline import batch_size
from bonepipe.pipeline.batch_size import largest, would_fit
from bonepipe.pipeline.experiment import Experiment

# The limit of the first words is no longer that of the second.
RUN = """
import pathlib, resource, sys
import bonepipe.pipeline.fold, bonepipe.training.fit, segmentation_models_pytorch
from bonepipe import cli
def run(megabytes, *words):
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + megabytes * 2**20, resource.RLIM_INFINITY))
    return cli.main(["train", *sys.argv[2:], *words])
assert run(1000, "trainer.batch_size=64") == 1
assert not pathlib.Path(sys.argv[1]).exists(), "mended settings meet nothing in their way"
print("refused", file=sys.stderr)
# The limit is of the training alone.
later = ("prediction.batch_size=1", "prediction.ahead=0")
sys.exit(run(2000, "trainer.batch_size=auto", "trainer.effective_batch=64", *later))
"""


@pytest.mark.parametrize(
    ("limit", "found", "tried"), [(99, 16, [1, 2, 16]), (30, 4, [1, 2, 4]), (14, 1, [1, 2]), (5, None, [1])]
)
def test_the_largest_that_fits_is_found_without_asking_for_far_too_much(limit, found, tried):
    asked = []
    assert largest([1, 2, 4, 8, 16], lambda size: asked.append(size) or 5 + 5 * size, limit) == found
    assert asked == tried


@pytest.mark.parametrize(("limit", "most"), [(100.0, 19), (85.0, None), (90.0, 17), (float("inf"), None)])
def test_what_would_fit_beyond_a_step_is_told_by_a_straight_line(limit, most):
    assert would_fit({1: 10.0, 2: 15.0, 16: 85.0}, limit) == most
    assert would_fit({1: 10.0, 2: None}, limit) is None
    assert would_fit({1: 10.0, 2: 10.0}, limit) is None  # noise


def test_a_batch_that_runs_out_of_memory_is_stepped_back_from():
    assert largest([1, 2, 4, 8], lambda size: None if size > 4 else 1.0, float("inf")) == 4
    assert largest([1], lambda size: None, float("inf")) is None


def test_the_step_keeps_the_images_of_the_experiment():
    for words, images in (
        (["experiment=effunet_512"], 16),
        (["experiment=unetpp_1024"], 8),
        (["experiment=unetpp_1024", "trainer.accumulate=8"], 16),
        (["experiment=demo", "trainer.effective_batch=6"], 6),
    ):
        trainer = configs.compose([*words, "trainer.batch_size=auto"])["trainer"]
        assert (trainer["batch_size"], trainer["effective_batch"], trainer["accumulate"]) == ("auto", images, 1)
    with pytest.raises(UsageError, match=r"trainer\.batch_size='aut': input should be"):
        configs.compose(["trainer.batch_size=aut"])
    with pytest.raises(UsageError, match="auto needs the images a step"):
        configs.build(configs.compose(["trainer.effective_batch=6"]), "trainer")


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_AS"), reason="no such limit here")
def test_too_large_a_batch_names_what_to_lower_and_auto_finds_one(phantom_root, tmp_path):
    words = [
        "experiment=debug", f"data.root={phantom_root}", "data.size=128", "folds=holdout",
        f"folds.file={tmp_path / 'f.csv'}", f"runs={tmp_path / 'runs'}", "model=mobile_unet", "trainer.epochs=1",
        "trainer.train_batches=1", "trainer.val_batches=1", "device=cpu", "tta=none", "trainer.precision=32",
    ]  # fmt: skip
    command = [sys.executable, "-c", RUN, str(tmp_path / "runs/debug/fold-0/fingerprint.json"), *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=200)
    refused, _, trained = done.stderr.partition("refused\n")
    assert "bonepipe train: memory ran out while training" in refused
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == 0, trained
    size = json.loads((tmp_path / "runs/debug/batch_size.json").read_text())["batch_size"]
    assert 64 % size == 0
    assert size < 64
    assert f"{size} images a batch, {64 // size} batches a step of 64" in trained


def test_what_was_found_counts_on_such_a_device_alone(tmp_path, monkeypatch):
    """As where a run goes on on a smaller GPU: more batches then make up the same step."""
    words = ["experiment=debug", f"runs={tmp_path}", "trainer.batch_size=auto", "trainer.effective_batch=8"]
    found = iter((8, 2))
    monkeypatch.setattr(batch_size, "_search", lambda experiment, effective: next(found))
    for gpu, size in (("large", 8), ("large", 8), ("small", 2), ("small", 2)):
        monkeypatch.setattr(memory, "described", lambda device, gpu=gpu: f"{device} ({gpu})")
        spec = Experiment(configs.compose(words)).trainer
        assert (spec.batch_size, spec.accumulate) == (size, 8 // size)


def test_folds_that_share_a_device_share_its_memory(tmp_path, monkeypatch):
    words = ["experiment=debug", f"runs={tmp_path}", "trainer.batch_size=auto", "trainer.effective_batch=8"]
    found = iter((8, 2))
    monkeypatch.setattr(batch_size, "_search", lambda experiment, effective: next(found))
    for sharers, size in (("1", 8), ("2", 2), ("2", 2)):
        monkeypatch.setenv("BONEPIPE_SHARERS", sharers)
        assert Experiment(configs.compose(words)).trainer.batch_size == size
    monkeypatch.undo()
    limits = []
    monkeypatch.setattr(memory, "available", lambda device: 1000.0)
    monkeypatch.setattr(batch_size, "largest", lambda sizes, need, limit: limits.append(limit) or 1)
    monkeypatch.setattr(Experiment, "datamodule", lambda self, fold: SimpleNamespace(setup=lambda stage: None))
    monkeypatch.setattr(inspect, "learns_from_one", lambda model, shape: True)
    monkeypatch.setattr("bonepipe.training.fit.training_shape", lambda data: (64, 64))
    for sharers in ("1", "4"):
        monkeypatch.setenv("BONEPIPE_SHARERS", sharers)
        batch_size._search(Experiment(configs.compose(words)), 8)
    assert limits == [900.0, 225.0]
