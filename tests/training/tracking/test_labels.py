import pytest

from bonepipe import config as configs
from bonepipe.training.tracking import Tracking
from bonepipe.training.tracking.labels import run_tags, run_title


@pytest.mark.parametrize(
    ("words", "tags"),
    [
        ([], ("hand", "Unet efficientnet-b0", "DiceFocal", "512 px", "fold-1")),
        (["model=fcn8s", "loss=tversky", "data=chest", "data.size=[384,256]"],
         ("chest", "fcn", "Tversky", "384x256 px", "fold-1")),
    ],
)  # fmt: skip
def test_tags_are_data_model_loss_size_and_fold(monkeypatch, words, tags):
    monkeypatch.delenv("WANDB_TAGS", raising=False)
    config = configs.compose(["experiment=effunet_512", *words])
    assert run_tags(config, "fold-1") == tags
    assert run_tags(config, "cross-validation") == tags[:-1]


def test_further_tags_come_last_and_none_twice(monkeypatch):
    monkeypatch.setenv("WANDB_TAGS", "sweep, hand,")
    assert run_tags({"data": {"name": "hand"}}, "submission", ("july", "july")) == ("hand", "july", "sweep")
    assert run_tags({"data": {"name": "x" * 80}}, "submission") == ("x" * 64, "sweep", "hand")


def test_names_hold_the_experiment_and_the_run_and_fit():
    assert run_title("{experiment} {run}", "demo", "fold-0") == "demo fold-0"
    assert run_title("{run} of mine", "demo", "fold-0") == "fold-0 of mine"
    assert run_title("{experiment}", "손" * 200, "fold-0") == "손" * 128


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ({"run_name": "{fold}"}, "only {experiment} and {run}"),
        ({"run_name": "{0}"}, "only {experiment} and {run}"),
        ({"run_name": "{"}, "only {experiment} and {run}"),
        ({"run_name": " "}, "names nothing"),
        ({"tags": ("a", "")}, "1 to 64"),
        ({"tags": ("x" * 65,)}, "1 to 64"),
        ({"entity": "a/b"}, "entity='a/b'"),
    ],
)
def test_what_wandb_would_refuse_is_refused(setting, reason):
    with pytest.raises(ValueError, match=reason):
        Tracking(**setting)


def test_every_setting_of_the_config_reaches_the_constructor():
    words = ["tracking=wandb", "tracking.entity=team", "tracking.tags=[a,b]", "tracking.notes='a note'"]
    built = configs.build(configs.compose(["experiment=demo", *words]), "tracking")
    assert (built.entity, built.tags, built.notes, built.run_name) == (
        "team", ("a", "b"), "a note", "{experiment} {run}",
    )  # fmt: skip
