import numpy as np
import pytest

from bonepipe.errors import BonepipeError
from bonepipe.inference.ensemble import members
from bonepipe.inference.ensemble.members import Ensemble, Entry

CLASSES = ("a", "b")


def test_an_ensemble_survives_its_file(tmp_path):
    ensemble = Ensemble(
        members=(
            Entry(run="runs/demo"),
            Entry(run="runs/wide", weight=2, folds=(0, 1), epochs=(8, 9), classes=("b",), overrides=("tta=none",)),
        ),
        mean="geometric",
    )
    members.write(tmp_path / "e.yaml", ensemble)
    assert members.read(tmp_path / "e.yaml") == ensemble
    assert "folds: null" not in (tmp_path / "e.yaml").read_text()


def test_weights_of_a_class_add_to_one():
    ensemble = Ensemble(members=(Entry(run="x"), Entry(run="y", weight=3, classes=("b",))))
    np.testing.assert_allclose(ensemble.weights(CLASSES), [[1, 0.25], [0, 0.75]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("members: []", "at least one run"),
        ("members: [{run: x, wieght: 2}]", "members.0.wieght: "),
        ("members: [{run: x, weight: -1}]", "weight=-1.0 of x: must be above 0"),
        ("members: [{run: x, folds: []}]", r"folds=\[\] of x"),
        ("members: [{run: x}]\nmean: harmonic", "mean: .*'arithmetic' or 'geometric'"),
        ("members: [", "cannot be read as an ensemble"),
    ],
)
def test_wrong_files_are_refused_with_the_field(tmp_path, text, message):
    path = tmp_path / "e.yaml"
    path.write_text(text)
    with pytest.raises(BonepipeError, match=f"e.yaml: .*{message}"):
        members.read(path)


def test_a_class_without_member_and_an_unknown_one_are_refused():
    with pytest.raises(BonepipeError, match="none has a say in a"):
        Ensemble(members=(Entry(run="x", classes=("b",)),)).weights(CLASSES)
    with pytest.raises(BonepipeError, match="x: classes: unknown class 'bb'"):
        Ensemble(members=(Entry(run="x", classes=("bb",)),)).weights(CLASSES)


def test_entries_that_differ_in_weight_alone_are_one():
    a, b = Entry(run="a"), Entry(run="a", folds=(0,))
    merged = Ensemble(members=(a, b, Entry(run="a", weight=2.0))).merged()
    assert merged.members == (Entry(run="a", weight=3.0), b)
