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
    other = {"label": "Radius", "points": [[1.4, 2.6], [5, 6], [2, 8]]}
    polygons = read_annotation(write(tmp_path, entries(GOOD, other, GOOD)), CLASSES)
    assert [label for label, _ in polygons] == [1, 0, 1]
    assert polygons[1][1].dtype == np.int32
    assert polygons[1][1].tolist() == [[1, 3], [5, 6], [2, 8]]


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
        (entries(GOOD | {"points": [[True, False], [False, 4], [3, 3]]}), r"annotations\[0\]\.points: expected"),
        (entries(GOOD | {"points": [["1", "2"], ["5", "2"], ["1", "9"]]}), r"annotations\[0\]\.points: expected"),
        (entries(GOOD | {"points": [[0, 0], [0.7, 0], [0, 1]]}), r"annotations\[0\]\.points: lie within 0 and 1"),
        (
            entries(GOOD | {"points": [[10, 10], [200, 300]]}),
            r"annotations\[0\]\.points: two points are a line or .*box",
        ),
        (entries(GOOD, GOOD | {"type": "bbox"}), r"annotations\[1\]\.type: 'bbox' is not filled"),
        (entries(GOOD | {"type": "polyline"}), r"annotations\[0\]\.type: 'polyline' is not filled"),
        (entries(GOOD | {"type": 3}), r"annotations\[0\]\.type: 3 is not filled"),
    ],
)
def test_each_fault_names_file_and_field(tmp_path, content, field):
    with pytest.raises(BonepipeError, match=rf"a\.json: .*{field}"):
        read_annotation(write(tmp_path, content), CLASSES)


@pytest.mark.parametrize("kind", ["poly_seg", "polygon", "Polygon", "POLY-SEG", "poly", None])
def test_types_that_mean_an_outline_are_filled(tmp_path, kind):
    assert len(read_annotation(write(tmp_path, entries(GOOD | {"type": kind})), CLASSES)) == 1


def test_a_tiny_outline_in_whole_pixels_is_no_fraction(tmp_path):
    corner = {"label": "Ulna", "points": [[0, 0], [1, 0], [1, 1]]}
    assert len(read_annotation(write(tmp_path, entries(corner)), CLASSES)) == 1


@pytest.mark.parametrize("label", ["x" * 10**6, ["x"] * 10**6])
def test_a_label_of_a_million_letters_is_not_repeated(tmp_path, label):
    with pytest.raises(BonepipeError) as error:
        read_annotation(write(tmp_path, entries(GOOD | {"label": label})), CLASSES)
    assert "annotations[0].label: unknown class" in str(error.value)
    assert len(str(error.value)) < len(str(tmp_path)) + 300


def test_a_scribble_of_many_points_is_refused_and_a_dense_outline_is_read(tmp_path):
    scribble = np.random.default_rng(0).integers(0, 2048, (10**5, 2)).tolist()
    with pytest.raises(BonepipeError, match=r"a\.json: annotations\[0\]\.points: 100000 points make an outline"):
        read_annotation(write(tmp_path, entries(GOOD | {"points": scribble})), CLASSES)
    turn = np.linspace(0, 2 * np.pi, 10**5)
    dense = np.rint(1024 + 900 * np.stack([np.cos(turn), np.sin(turn)], axis=1)).tolist()
    assert len(read_annotation(write(tmp_path, entries(GOOD | {"points": dense})), CLASSES)[0][1]) == 10**5


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
