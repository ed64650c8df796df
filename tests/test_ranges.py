"""Every numeric setting has a range in its type, and what lies outside is refused by its key before anything runs."""

import dataclasses
import math
import typing

import pytest
from annotated_types import Interval

from bonepipe import cli, constructors
from bonepipe import config as configs
from bonepipe.errors import UsageError

CONSTRUCTORS = [(group, name) for group in configs.GROUPS for name in sorted(constructors.registered(group))]
SENSELESS = (math.nan, math.inf, -math.inf, -1, -1.5, 10**30, 1e300)


def numbers(kind, path):
    """The numbers in a type, each with its path and its range; None where it has none."""
    if typing.get_origin(kind) is typing.Annotated:
        number, *about = typing.get_args(kind)
        yield from ((path, inner, about) for _, inner, _ in numbers(number, path))
    elif kind in (int, float):
        yield path, kind, None
    elif dataclasses.is_dataclass(kind):
        for name, inner in typing.get_type_hints(kind, include_extras=True).items():
            if not name.startswith("__"):
                yield from numbers(inner, f"{path}.{name}")
    else:
        for inner in typing.get_args(kind):
            yield from numbers(inner, path)


@pytest.fixture(scope="module")
def demo():
    return configs.compose(["experiment=demo"])


@pytest.mark.parametrize(("group", "name"), CONSTRUCTORS)
def test_the_type_of_each_number_says_its_least_and_its_greatest(group, name):
    for key, parameter in configs.settings(configs.locate(group, name)).items():
        for path, _, about in numbers(parameter.annotation, key):
            (span,) = about or [None]
            assert isinstance(span, Interval), path
            assert (span.ge is None) != (span.gt is None), path
            assert (span.le is None) != (span.lt is None), path


@pytest.mark.parametrize("value", SENSELESS)
@pytest.mark.parametrize(("group", "name"), CONSTRUCTORS)
def test_no_number_of_any_constructor_takes_what_makes_no_sense(group, name, value):
    for key, parameter in configs.settings(configs.locate(group, name)).items():
        if any(path == key for path, *_ in numbers(parameter.annotation, key)):
            with pytest.raises(UsageError, match=rf"{group}\.{key}"):
                configs.check(only(group, {"_target_": name, key: value}), [group])


def only(group, node):
    plain = {"name": "a", "fold": 0, "seed": 0, "runs": "a", "device": "cpu"}
    return plain | {other: node if other == group else None for other in configs.GROUPS}


@pytest.mark.parametrize("value", SENSELESS)
def test_no_number_of_the_default_config_is_built_from_what_makes_no_sense(demo, value):
    """However deep it stands: in dictionaries and lists, too."""
    for key, now in configs.flatten({group: demo[group] for group in configs.GROUPS}).items():
        if isinstance(now, int | float) and not isinstance(now, bool):
            group, *names = key.split(".")
            node = replaced(demo[group], names, value)
            if value in (-1, -1.5) and key.startswith("augment."):
                continue  # of albumentations, which takes ranges below 0
            with pytest.raises(UsageError, match=group):
                configs.build({group: node}, group)


def replaced(node, names, value):
    name, *rest = names
    return {**node, name: replaced(node[name], rest, value) if rest else value}


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("seed=-1", "seed=-1: from 0 to 4294967295"),
        ("seed=1e10", "seed=10000000000.0: expected a value of type int"),
        ("device=foo", "device='foo': expected one of auto, cpu, cuda, mps"),
        ("fold=-1", "fold=-1: there are folds 0 to 4"),
        ("name=../../x", "name='../../x': one folder below runs="),
        ("name=", "name='': one folder below runs="),
        ("name=-x", "name='-x': one folder below runs="),
        ("name=${oc.env:HOME}", "name='${oc.env:HOME}': only keys can be referred to"),
        ("trainer.workers=-1", "trainer.workers=-1: input should be greater than or equal to 0"),
        ("trainer.clip=nan", "trainer.clip=nan: must be a finite number"),
        ("trainer.clip=-1", "trainer.clip=-1: input should be greater than 0"),
        ("trainer.clip=0", "trainer.clip=0: input should be greater than 0"),
        ("trainer.batch_size=0", "trainer.batch_size=0: input should be greater than or equal to 1"),
        (f"trainer.batch_size={10**30}", "trainer.batch_size=10000"),
        (f"trainer.batch_size={10**9}", "trainer.batch_size=1000000000: input should be less than or equal to 1000000"),
        ("trainer.patience=0", "trainer.patience=0: input should be greater than or equal to 1"),
        ("trainer.val_batches=0", "trainer.val_batches=0: input should be greater than or equal to 1"),
        ("trainer.train_batches=0", "trainer.train_batches=0: input should be greater than or equal to 1"),
        ("optimizer.lr=inf", "optimizer.lr=inf: must be a finite number"),
        ("optimizer.lr=-1", "optimizer.lr=-1: input should be greater than 0"),
        ("data.std=0", "data.std=0: input should be greater than 0"),
        ("data.std=nan", "data.std=nan: must be a finite number"),
        ("data.size=1000000", "data.size=1000000: input should be less than or equal to 32768"),
        ("data.patient='('", "data.patient='(': no regular expression (missing ), unterminated subpattern"),
        ("data.patient='.*'", "data.patient='.*': the pattern needs a group"),
        ("thresholds.margin=-1", "thresholds.margin=-1: input should be greater than or equal to 0"),
        ("executor.parallel=0", "executor.parallel=0: input should be greater than or equal to 1"),
        ("prediction.batch_size=0", "prediction.batch_size=0: input should be greater than or equal to 1"),
    ],
)
def test_the_message_names_the_key_and_nothing_is_begun(word, told, tmp_path, monkeypatch, phantom_root, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "experiment=debug", f"data.root={phantom_root}", "tracking=none", word]) == 2
    assert told in capsys.readouterr().err
    assert not list(tmp_path.rglob("fold-*"))


def test_a_device_that_is_not_here_is_named(tmp_path, monkeypatch, phantom_root, capsys):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.chdir(tmp_path)
    words = ["experiment=debug", f"data.root={phantom_root}", "tracking=none", "device=cuda"]
    assert cli.main(["train", *words]) == 2
    assert "device=cuda: PyTorch finds no such device here; device=auto takes" in capsys.readouterr().err
    assert not list(tmp_path.rglob("fold-*"))
