"""Settings of a training that would do nothing are said when it starts."""

import pytest

from bonepipe.config import compose, flatten
from bonepipe.errors import UsageError
from bonepipe.pipeline.experiment import Experiment
from bonepipe.pipeline.idle_settings import CONDITIONS, Plan, warnings

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


@pytest.mark.parametrize(
    ("word", "with_what", "text"),
    [
        ("data.pseudo_weight=0.3", "data.pseudo=x.csv", "data.pseudo names no pseudo-labels"),
        ("loss.presence_weight=0.2", "model.presence=true", "does not tell which classes occur"),
        ("loss.side_weight=0.2", "model=unet3plus", "the network has one answer"),
        ("loss.smooth=2", "loss.focal_weight=0", ""),
        ("+sampler.cap=4", "sampler.balance=test", "sampler.balance=null draws each image once"),
        ("strata.ages=[40]", "strata.by=[age]", "strata.by does not name age"),
        ("+postprocess.min_area=0.01", "postprocess.operations=[min_area]", "postprocess.operations does not name"),
    ],
)
def test_settings_of_what_was_not_chosen_are_said(word, with_what, text):
    assert said(word, with_what) == []
    told, key = said(word), word.partition("=")[0].removeprefix("+")
    assert len(told) == bool(text)
    assert all(text in warning and warning.startswith(f"warning: {key}=") for warning in told)


@pytest.mark.parametrize("word", ["loss.gamma=3", "loss.alpha=0.3", "loss.focal_floor=0.2"])
def test_settings_of_a_term_without_weight_are_said(word):
    assert said(word) == []
    (warning,) = said(word, "loss.focal_weight=0")
    assert "loss.focal_weight=0, so it does nothing" in warning


def test_all_settings_that_act_under_a_condition_are_settings():
    """A renamed one would be forgotten here."""
    nodes = [compose([*words, "data.root=x"]) for words in ([], ["loss=dice_topk"], ["sampler=weighted"])]
    known = {key for node in nodes for key in flatten(node)} | {"strata.ages", "postprocess.min_area"}
    assert CONDITIONS.keys() <= known


def test_a_warm_up_below_zero_is_refused_before_anything_is_written():
    with pytest.raises(UsageError, match=r"scheduler.warmup=-1"):
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
