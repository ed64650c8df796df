"""What `compare` says of ensembles and cascades; how it counts runs' Dice is tested through the command."""

import json

import numpy as np
import pytest

from bonepipe import config as configs
from bonepipe.data.catalog import read_catalog
from bonepipe.errors import BonepipeError
from bonepipe.inference.ensemble import members
from bonepipe.inference.ensemble.members import Ensemble, Entry
from bonepipe.pipeline.comparison import changed_units, compare, read_run


@pytest.fixture
def write(tmp_path):
    """Write the folder of something cross-validated; gives its path."""

    def folder(name):
        path = tmp_path / name
        configs.save(configs.compose(["experiment=debug", f"name={name}"]), path / "config.yaml")
        (path / "oof_dice.csv").write_text("image_name,class,dice\na.png,Ulna,0.5\nb.png,Ulna,0.7\n")
        return path

    return folder


@pytest.fixture
def ensemble(write):
    """An ensemble of some entries, as its command writes it."""

    def made(name, *entries, mean="arithmetic"):
        path = write(name)
        members.write(path / "ensemble.yaml", Ensemble(members=entries, mean=mean))
        return path

    return made


def settings(a, b):
    compared = compare(read_run(a), read_run(b))
    return {key: (pair["a"], pair["b"]) for key, pair in compared["settings"].items()}, compared["changes"]


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"weight": 3.0}, {"weight": (2.0, 3.0)}),
        ({"classes": ("Ulna",)}, {"classes": (None, ["Ulna"])}),
        ({"overrides": ("tta=none",)}, {"overrides": (None, ["tta=none"])}),
        ({"folds": (0, 1)}, {"folds": (None, [0, 1])}),
        ({"epochs": (28, 29)}, {"epochs": (None, [28, 29])}),
    ],
)
def test_ensembles_of_the_same_runs_are_told_apart(ensemble, change, differs):
    first = ensemble("one", Entry(run="runs/a"), Entry(run="runs/b", weight=2))
    second = ensemble("two", Entry(run="runs/a"), Entry(run="runs/b", **{"weight": 2.0, **change}))
    expected = {f"ensemble.members.runs/b.{key}": values for key, values in differs.items()}
    assert settings(first, second) == (expected, list(expected))
    assert settings(first, first) == ({}, [])


def test_means_members_and_repeated_runs_are_told_apart(ensemble):
    first = ensemble("one", Entry(run="a"))
    second = ensemble("two", Entry(run="a"), Entry(run="a", overrides=("tta=none",)), mean="geometric")
    differences, changes = settings(first, second)
    assert differences == {
        "ensemble.mean": ("arithmetic", "geometric"),
        "ensemble.members.a #2.weight": (None, 1.0),
        "ensemble.members.a #2.overrides": (None, ["tta=none"]),
    }
    assert set(changes) == set(differences)


def test_an_ensemble_against_a_run_is_one_change(write, ensemble):
    differences, changes = settings(write("run"), ensemble("both", Entry(run="a"), Entry(run="b")))
    assert differences["ensemble.members.b.weight"] == (None, 1.0)
    assert changes == ["ensemble"]


def test_cascades_are_told_apart_by_stages_and_weights(write):
    record = {"first": "runs/a", "second": "runs/wrist", "classes": {"Ulna": {"weight": 0.5}, "Radius": {"weight": 0}}}
    paths = [write(name) for name in ("one", "two", "three")]
    for path in paths:
        (path / "cascade.json").write_text(json.dumps(record))
    record["classes"]["Ulna"]["weight"] = 0.75
    record["first"] = "runs/b"
    (paths[1] / "cascade.json").write_text(json.dumps(record))
    assert settings(paths[0], paths[2]) == ({}, [])
    assert settings(*paths[:2])[0] == {
        "cascade.first": ("runs/a", "runs/b"), "cascade.weights.Ulna": (0.5, 0.75),
    }  # fmt: skip
    assert settings(write("run"), paths[0])[1] == ["cascade"]


@pytest.mark.parametrize(
    ("name", "content"), [("ensemble.yaml", "members: 3"), ("ensemble.yaml", "{"), ("cascade.json", "{}")]
)
def test_a_damaged_record_is_named(write, name, content):
    path = write("broken")
    (path / name).write_text(content)
    with pytest.raises(BonepipeError, match=f"{name}: cannot be read"):
        read_run(path)


def test_an_exchanged_group_counts_once():
    differences = {"loss._target_": ("a", "b"), "loss.alpha": (1, None), "trainer.epochs": (1, 2)}
    assert changed_units(differences) == ["loss", "trainer.epochs"]


def test_errors_count_patients_where_the_dataset_tells_whose_an_image_is(tmp_path, phantom_root):
    """Both hands of five patients, which change alike: as much as five images would say."""
    names = sorted(image.name for image in read_catalog(spec_of(phantom_root)) if image.split == "train")[:10]
    patients = {image.name: image.patient for image in read_catalog(spec_of(phantom_root))}
    numbers = {patient: number for number, patient in enumerate(sorted({patients[name] for name in names}))}
    folders = []
    for title, share in (("one", 0.0), ("two", 0.01)):
        folders.append(tmp_path / title)
        words = ["experiment=debug", f"name={title}", f"data.root={phantom_root}"]
        configs.save(configs.compose(words), folders[-1] / "config.yaml")
        rows = [f"{name},Ulna,{0.5 + share * numbers[patients[name]] ** 2}" for name in names]
        (folders[-1] / "oof_dice.csv").write_text("\n".join(["image_name,class,dice", *rows]) + "\n")
    found = compare(*map(read_run, folders))
    assert (found["images"], found["patients"]) == (10, len(numbers))
    change = np.array([0.01 * numbers[patients[name]] ** 2 for name in names])
    sums = [(change - change.mean())[[patients[name] == patient for name in names]].sum() for patient in numbers]
    count = len(numbers)
    expected = np.sqrt(count / (count - 1) * np.square(sums).sum()) / 10
    assert found["dice"]["standard_error"] == pytest.approx(expected)
    assert expected > 1.2 * change.std(ddof=1) / np.sqrt(10)


def spec_of(root):
    return configs.build(configs.compose(["experiment=debug", f"data.root={root}"]), "data")
