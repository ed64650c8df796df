import json

import pytest

from bonepipe.files import replacing, write_json


def test_a_file_that_fails_half_way_leaves_the_old_one_and_nothing_else(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("table.csv", "old")]


def test_a_file_that_ends_well_takes_the_name(tmp_path):
    with replacing(tmp_path / "counts.npz") as part:
        assert part.suffix == ".npz" and part.parent == tmp_path
        part.write_text("new")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("counts.npz", "new")]


def test_json_keeps_letters_of_all_languages(tmp_path):
    write_json(tmp_path / "scores.json", {"여": 0.5})
    text = (tmp_path / "scores.json").read_text(encoding="utf-8")
    assert "여" in text and json.loads(text) == {"여": 0.5}
