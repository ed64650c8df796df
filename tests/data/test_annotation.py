import json
from pathlib import Path

import numpy as np
import pytest

from bonepipe.data.annotation import read_annotation, read_labels, read_with_faults, write_annotation
from bonepipe.errors import BonepipeError

CLASSES = ("Radius", "Ulna")
GOOD = {"label": "Ulna", "points": [[0, 0], [4, 0], [0, 4]]}


def write(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def entries(*items):
    return {"annotations": list(items)}


def test_polygons_keep_their_order_and_repeat(tmp_path):
    other = {"label": "Radius", "points": [[1.4, 2.6], [5, 6]]}
    polygons = read_annotation(write(tmp_path, entries(GOOD, other, GOOD)), CLASSES)
    assert [label for label, _ in polygons] == [1, 0, 1]
    assert polygons[1][1].dtype == np.int32
    assert polygons[1][1].tolist() == [[1, 3], [5, 6]]


def test_the_fields_that_lie_are_not_read(tmp_path):
    content = entries(GOOD) | {"metadata": "nonsense", "filename": 3}
    assert read_annotation(write(tmp_path, content), CLASSES)[0][1].tolist() == GOOD["points"]


def test_labels_are_listed_even_where_unknown(tmp_path):
    assert read_labels(write(tmp_path, entries(GOOD, {"label": "foot"}, 3))) == ["Ulna", "foot"]


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ("{", "broken JSON"),
        ("", "broken JSON"),
        ("[" * 100_000, "broken JSON"),
        ([], "'annotations'"),
        ({}, "'annotations'"),
        ({"annotations": {}}, "'annotations'"),
        (entries(GOOD, 3), r"annotations\[1\]: is not an object"),
        (entries({"points": [[1, 2]]}), r"annotations\[0\]\.label: unknown class None"),
        (entries(GOOD | {"label": ["Ulna"]}), r"annotations\[0\]\.label: unknown class \['Ulna'\]"),
        (
            entries(GOOD, GOOD | {"label": "Radus"}),
            r"annotations\[1\]\.label: unknown class 'Radus'; did you mean 'Radius'",
        ),
        (entries({"label": "Ulna"}), r"annotations\[0\]\.points: expected"),
        (entries(GOOD | {"points": []}), r"annotations\[0\]\.points: expected"),
        (entries(GOOD | {"points": [1, 2]}), r"annotations\[0\]\.points: expected"),
        (entries(GOOD | {"points": [[1, 2, 3]]}), r"annotations\[0\]\.points: expected"),
        (entries(GOOD | {"points": [[1, 2], [3]]}), r"annotations\[0\]\.points: expected"),
        (entries(GOOD | {"points": [["a", 2]]}), r"annotations\[0\]\.points: expected"),
        (entries(GOOD | {"points": {"x": 1}}), r"annotations\[0\]\.points: expected"),
        (entries(GOOD | {"points": [[float("nan"), 2]]}), r"annotations\[0\]\.points: expected"),
        (entries(GOOD | {"points": [[1e12, 2]]}), r"annotations\[0\]\.points: expected"),
        (entries(GOOD | {"points": [[10**400, 2]]}), r"annotations\[0\]\.points: expected"),
    ],
)
def test_each_fault_names_file_and_field(tmp_path, content, field):
    with pytest.raises(BonepipeError, match=rf"a\.json: .*{field}"):
        read_annotation(write(tmp_path, content), CLASSES)


def test_bytes_that_are_no_text_and_missing_files(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(BonepipeError, match=r"a\.json: broken JSON"):
        read_annotation(tmp_path / "a.json", CLASSES)
    with pytest.raises(BonepipeError, match=r"b\.json: cannot be read"):
        read_annotation(tmp_path / "b.json", CLASSES)


def test_all_faults_are_found_and_the_rest_is_read(tmp_path):
    content = entries(3, {"label": "foot", "points": 1}, GOOD)
    polygons, faults = read_with_faults(write(tmp_path, content), CLASSES)
    assert [label for label, _ in polygons] == [1]
    assert [field for field, _ in faults] == ["annotations[0]", "annotations[1].label", "annotations[1].points"]


def test_what_is_written_is_read_back_and_looks_like_the_competitions(tmp_path):
    polygons = [(1, np.array([[0, 0], [4, 0], [0, 4]])), (0, np.array([[7, 8]])), (1, np.array([[5, 5], [6, 6]]))]
    path = tmp_path / "b.json"
    write_annotation(path, polygons, CLASSES, Path("DCM/ID007/b.png"), (30, 40))
    again = read_annotation(path, CLASSES)
    assert [label for label, _ in again] == [1, 0, 1]
    assert all((points == before).all() for (_, points), (_, before) in zip(again, polygons, strict=True))
    content = json.loads(path.read_text())
    assert set(content) == {
        "annotations", "attributes", "file_id", "filename", "parent_path", "last_modifier_id", "metadata",
        "last_workers",
    }  # fmt: skip
    assert content["metadata"] == {"height": 30, "width": 40}
    assert content["parent_path"] == "/ID007"
    assert set(content["annotations"][0]) == {"id", "type", "attributes", "points", "label"}
    assert len({entry["id"] for entry in content["annotations"]}) == 3
