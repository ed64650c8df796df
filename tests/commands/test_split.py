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
    assert "folds/hand.csv: column fold: no image in fold 2 of 5" in capsys.readouterr().err


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
