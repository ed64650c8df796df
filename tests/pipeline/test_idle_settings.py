"""Settings of a training that would do nothing are said when it starts."""

import pytest

from bonepipe.config import compose
from bonepipe.errors import UsageError
from bonepipe.pipeline.experiment import Experiment
from bonepipe.pipeline.idle_settings import Plan, warnings

IMAGES = 40  # ten batches an epoch, 100 steps


def said(*words):
    """What is said of ten epochs of 40 images, four a batch."""
    base = ["experiment=demo", "data.root=nowhere", "trainer.epochs=10", "trainer.batch_size=4", "averaging=none"]
    return warnings(Experiment(compose([*base, "trainer.validate_every=1", *words])), IMAGES)


@pytest.mark.parametrize(
    ("fine", "idle", "text"),
    [
        (["trainer.accumulate=10"], ["trainer.accumulate=11"], "an epoch has 10 batches"),
        (["trainer.accumulate=2"], ["trainer.accumulate=3", "trainer.train_batches=2"], "an epoch has 2 batches"),
        (["trainer.keep_epochs=10"], ["trainer.keep_epochs=11"], "trainer.epochs=10"),
        (["trainer.patience=8"], ["trainer.patience=9"], "never stops early, before its last epoch are 9 validations"),
        (
            ["trainer.patience=2", "trainer.validate_every=3"], ["trainer.patience=2", "trainer.validate_every=4"],
            "before its last epoch are 2 validations",
        ),
        (["scheduler.warmup=99"], ["scheduler.warmup=100"], "lasts 100 steps, training has 100"),
        (
            ["averaging=swa", "averaging.start=0.5", "averaging.hold=true", "scheduler.warmup=0.5"],
            ["averaging=swa", "averaging.start=0.5", "averaging.hold=true", "scheduler.warmup=0.6"],
            "averaging.hold keeps the rate after 50",
        ),
        (
            ["scheduler=plateau", "scheduler.patience=6"], ["scheduler=plateau", "scheduler.patience=8"],
            "scheduler.patience=8: the learning rate never drops",
        ),
        (
            ["scheduler=plateau", "scheduler.warmup=0.5"],
            ["scheduler=plateau", "scheduler.warmup=0.5", "scheduler.patience=4"], "are 5 validations",
        ),
        (
            ["transfer=frozen"], ["transfer=frozen", "optimizer.encoder_lr_scale=0.1"],
            "optimizer.encoder_lr_scale=0.1: transfer=frozen never trains the encoder",
        ),
        (["optimizer.lookahead={k: 100}"], ["optimizer.lookahead={k: 101}"], "optimizer.lookahead.k=101"),
        (["mixing=cutmix", "mixing.p=0.1"], ["mixing=cutmix", "mixing.p=0"], "mixing.p=0: no batch is mixed"),
        (["mixing=cutmix"], ["mixing=cutmix", "trainer.batch_size=1"], "mixing needs two images a batch"),
        (["averaging=swa"], ["averaging=swa", "trainer.epochs=2"], "averaging.start=0.75 of trainer.epochs=2 never"),
        (["averaging=ema"], ["averaging=ema", "averaging.decay=0"], "averaging.decay=0"),
    ],
)  # fmt: skip
def test_what_would_do_nothing_is_said_once(fine, idle, text):
    assert said(*fine) == []
    (warning,) = said(*idle)
    assert warning.startswith("warning: ")
    assert text in warning


def test_a_warm_up_below_zero_is_refused_before_anything_is_written():
    with pytest.raises(UsageError, match=r"scheduler: warmup=-1"):
        said("scheduler.warmup=-1")


def test_the_experiments_that_come_along_have_no_idle_settings():
    names = ("baseline", "chest", "debug", "demo", "effunet_512", "overfit", "unetpp_1024", "wrist")
    told = {name: warnings(Experiment(compose([f"experiment={name}", "data.root=nowhere"])), 640) for name in names}
    assert not any(told.values()), told


def test_validations_that_can_change_something():
    plan = Plan(epochs=14, batches=10, steps=5, every=4)
    assert plan.validations() == 3  # after epochs 4, 8 and 12; the one after 14 comes too late
    assert plan.validations(first=21) == 2
    assert Plan(epochs=12, batches=10, steps=5, every=4).validations() == 2
