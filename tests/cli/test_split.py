from pathlib import Path

import pytest

from bonepipe.cli import main


@pytest.fixture
def words(phantom_root, tmp_path, monkeypatch):
    """`bonepipe split` on the phantom, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return ["split", f"data.root={phantom_root}", "folds.file=folds/hand.csv"]


def test_it_writes_then_verifies_the_same_file(words, phantom_root, capsys):
    assert main(words) == 0
    first = capsys.readouterr().out.splitlines()
    content = Path("folds/hand.csv").read_bytes()
    assert first[0] == "folds/hand.csv: written"
    assert [line.split(":")[0] for line in first[1:]] == [f"fold {k}" for k in range(5)]
    assert content.count(b"\n") == 1 + len(list((phantom_root / "train/DCM").rglob("*.png")))
    assert main(words) == 0
    assert capsys.readouterr().out.splitlines() == ["folds/hand.csv: verified", *first[1:]]
    assert Path("folds/hand.csv").read_bytes() == content


def test_the_number_of_folds(words, capsys):
    assert main([*words, "folds.count=2"]) == 0
    assert [line.split(",")[0] for line in capsys.readouterr().out.splitlines()[1:]] == [
        "fold 0: 5 patients",
        "fold 1: 5 patients",
    ]
    assert main(words) == 1
    assert "folds/hand.csv: was made with folds.count=2 and not 5" in capsys.readouterr().err


def test_more_folds_than_patients(words, capsys):
    assert main([*words, "folds.count=11"]) == 1
    assert "folds.count=11: only 10 patients to split" in capsys.readouterr().err
    assert not Path("folds").exists()


def test_other_data_is_split_into_a_file_of_its_own(chest_root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["split", "data=chest", "~experiment", f"data.root={chest_root}"]) == 0
    assert Path("folds/chest.csv").read_text().startswith("image_name,patient,fold\nscan000.png,case00,")


def test_help_and_flags(words, capsys):
    assert main(["split", "--help"]) == 0
    assert "usage: bonepipe split" in capsys.readouterr().out
    assert main([*words, "--force"]) == 2
    assert "no flag '--force' here" in capsys.readouterr().err


def test_every_kind_of_split_has_a_file_of_its_own(phantom_root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["split", f"data.root={phantom_root}", "data.name=tiny"]
    names = {}
    for kind in ("group", "kfold", "stratified", "stratified_group", "holdout"):
        more = [] if kind == "holdout" else ["folds.count=3"]
        assert main([*words, f"folds={kind}", *more]) == 0
        output = capsys.readouterr()
        names[kind], lines = output.out.split(":")[0], output.out.splitlines()[1:]
        assert lines[-1].startswith("training only: 8 patients" if kind == "holdout" else "fold 2: ")
        assert ("patients have images in several folds" in output.err) == (kind in ("kfold", "stratified"))
    assert len({Path(name) for name in names.values() if Path(name).is_file()}) == 5
    rotated = [int(line.split(", ")[2].split()[0]) for line in _summary(words, "stratified", capsys)]
    assert max(rotated) - min(rotated) <= 1


def _summary(words, kind, capsys):
    main([*words, f"folds={kind}", "folds.count=3"])
    return capsys.readouterr().out.splitlines()[1:]


def test_misspelt_external_data_is_refused(words, capsys):
    assert main([*words, "data.external=[{rot: x}]"]) == 2
    assert "data.external" in capsys.readouterr().err
    assert main([*words, "strata.by=[hand]"]) == 2
    assert "strata.by" in capsys.readouterr().err
