"""The search on a tiny trained fold, from the command line to training with what it found."""

import os
import re
from pathlib import Path

import pytest
import yaml

from bonepipe.cli import main
from bonepipe.config import compose
from bonepipe.pipeline import autoaugment
from bonepipe.pipeline.experiment import Experiment
from bonepipe.training.autoaugment import PolicySearch

SEARCH = ["search.trials=3", "search.subpolicies=2", "search.top=2", "search.images=2"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, phantom_root):
    """A folder where fold 0 of the tiny phantom was trained, and the overrides that it was trained with."""
    folder, before = tmp_path_factory.mktemp("trained"), Path.cwd()
    words = [
        "experiment=demo", f"data.root={phantom_root}", "data.size=64", "folds.count=2", "trainer.epochs=1",
        "trainer.validate_every=1", "averaging=none", "tracking=none", "device=cpu", "runs=runs",
    ]  # fmt: skip
    os.chdir(folder)
    try:
        assert main(["train", "fold=0", *words]) == 0
        yield folder, words
    finally:
        os.chdir(before)


def test_a_policy_is_found_written_and_trained_with(trained, capsys):
    folder, words = trained
    assert main(["autoaugment", "fold=0", *SEARCH, *words]) == 0
    path = folder / "runs" / "demo" / "policy.yaml"
    printed = capsys.readouterr().out
    assert "augment=searched augment.file=runs/demo/policy.yaml" in printed
    first, journal = path.read_bytes(), folder / "runs" / "demo" / "fold-0" / "policy.journal"
    verdict = re.search(r"held-out Dice (\S+) under the policy, (\S+) without: ([+-]\S+)", printed)
    found, plain, gain = (float(number) for number in verdict.groups())
    assert gain == pytest.approx(found - plain, abs=1.5e-4)
    assert f"# {plain:.4f} without augmentation, {found:.4f} under this policy ({gain:+.4f})," in first.decode()
    nodes = yaml.safe_load(first)["transforms"]
    evaluate = autoaugment.evaluation(Experiment(compose([*words, "fold=0"])), PolicySearch(images=2))
    assert evaluate(nodes) == pytest.approx(found, abs=5e-5)
    assert evaluate([]) == pytest.approx(plain, abs=5e-5)
    choice = nodes[-1]
    assert choice["name"] == "OneOf"
    assert len(choice["transforms"]) == 4
    assert main(["autoaugment", "fold=0", *SEARCH, *words]) == 0  # nothing is left to do
    assert journal.read_text().count("datetime_start") == 3
    assert path.read_bytes() == first
    journal.unlink()
    assert main(["autoaugment", "fold=0", *SEARCH, *words]) == 0
    assert path.read_bytes() == first
    capsys.readouterr()
    other = [*words, "name=searched", "augment=searched", f"augment.file={path}"]
    assert main(["train", "fold=0", *other]) == 0
    assert (folder / "runs" / "searched" / "fold-0" / "oof.csv").is_file()


def test_a_search_without_trained_weights_says_how_to_train_them(trained, capsys):
    assert main(["autoaugment", "fold=1", *SEARCH, *trained[1]]) == 1
    assert "fold 1 is not trained yet; run `bonepipe train fold=1`" in capsys.readouterr().err


def test_a_search_on_weights_of_other_settings_is_refused(trained, capsys):
    assert main(["autoaugment", "fold=0", *SEARCH, *trained[1], "data.size=96"]) == 1
    assert "data.size: 64 -> 96" in capsys.readouterr().err


def test_training_without_the_policy_file_names_the_command_that_makes_it(trained, capsys):
    assert main(["train", "fold=0", *trained[1], "name=lost", "augment=searched"]) == 1
    message = capsys.readouterr().err
    assert "augment.file=runs/lost/policy.yaml: no such file; `bonepipe autoaugment` writes one" in message
    assert not (Path("runs") / "lost" / "fold-0" / "weights.safetensors").exists()


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("search.trial=3", "no such key 'search.trial'; did you mean 'search.trials'"),
        ("search.trials=many", "search.trials='many'"),
        ("search.trials=0", "search.trials=0: input should be greater than or equal to 1"),
        ("search.trials={", "override 'search.trials={'"),
        ("loss=dcie", "loss has no option"),
    ],
)
def test_wrong_settings_of_a_search_are_refused(trained, capsys, word, reason):
    assert main(["autoaugment", "fold=0", *trained[1], word]) == 2
    assert reason in capsys.readouterr().err
