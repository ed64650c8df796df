"""Decisions about candidates, and the file of corrections that they end in."""

import threading

import pytest

from bonepipe.data import corrections
from bonepipe.data.review import CANDIDATES, Review, read_candidates
from bonepipe.errors import BonepipeError
from bonepipe.files import read_csv, write_csv

CLASSES = ("a", "b", "c", "d")
NAMES = ("x.png", "y.png", "z.png")
ROWS = [
    (1, "x.png", "P1", "a; b", "b; a", "permuted", "0.97", "permute", "a is b, b is a"),
    (2, "y.png", "P2", "c", "", "missing", "0.80", "replace", "not drawn"),
    (3, "x.png", "P1", "d", "", "low", "0.30", "look", "Dice 0.40"),
]


@pytest.fixture
def review(tmp_path):
    write_csv(tmp_path / "label_errors.csv", CANDIDATES, ROWS)
    codes = {("y.png", "c"): "3 4"}
    candidates = read_candidates(tmp_path / "label_errors.csv")
    return Review(candidates, tmp_path / "corrections.csv", CLASSES, NAMES, lambda *key: codes.get(key))


def rows(review):
    return [
        tuple(row[column] for column in corrections.COLUMNS) for _, row in read_csv(review.path, corrections.COLUMNS)
    ]


def test_an_accepted_permutation_is_what_data_corrections_takes(review):
    review.decide(1, "permute")
    assert rows(review) == [("x.png", "a", "permute", "b"), ("x.png", "b", "permute", "a")]
    assert corrections.read(review.path, CLASSES, NAMES)["x.png"].moved == {0: 1, 1: 0}
    assert review.states() == [{"action": "permute", "by": "decided"}, *[{"action": "open", "by": ""}] * 2]


def test_every_decision_takes_the_place_of_the_one_before_it(review):
    for action, expected in {
        "replace": ("y.png", "c", "replace", "3 4"),
        "drop": ("y.png", "c", "drop", ""),
        "keep": ("y.png", "c", "keep", ""),
        "drop-image": ("y.png", "", "drop", ""),
    }.items():
        review.decide(2, action)
        assert rows(review) == [expected]
        assert review.states()[1] == {"action": action, "by": "decided"}
        corrections.read(review.path, CLASSES, NAMES)
    review.decide(2, "open")
    assert rows(review) == []


def test_a_rejected_candidate_changes_nothing_in_training(review):
    review.decide(1, "keep")
    correction = corrections.read(review.path, CLASSES, NAMES)["x.png"]
    assert (correction.moved, correction.replaced, correction.dropped, correction.ignores) == ({}, {}, False, False)


def test_suggestions_rows_of_others_and_their_columns_stay(review):
    corrections.write(
        review.path, [("z.png", "", "drop", "", "blurred"), ("y.png", "c", "replace", "9 9", "missing 0.80")]
    )
    text = review.path.read_text().replace("remark\n", "remark,who\n").replace("blurred\n", "blurred,me\n")
    review.path.write_text(text)
    assert review.states()[1] == {"action": "replace", "by": "suggested"}
    review.decide(2, "replace")
    assert rows(review) == [("z.png", "", "drop", ""), ("y.png", "c", "replace", "3 4")]
    assert [row["who"] for _, row in read_csv(review.path, ("who",))] == ["me", ""]
    assert review.states()[1] == {"action": "replace", "by": "decided"}


@pytest.mark.parametrize(
    ("rank", "action", "message"),
    [
        (9, "keep", "no candidate has the rank 9"),
        (1, "replace", "'replace' is none of permute, drop-image, keep, open"),
        (2, "permute", "'permute' is none of"),
        (2, "../../etc/passwd", "is none of"),
        (3, "replace", "no predicted mask"),
    ],
)
def test_what_cannot_be_done_is_refused_and_the_file_stays(review, rank, action, message):
    review.decide(2, "drop")
    before = review.path.read_bytes()
    with pytest.raises(BonepipeError, match=message):
        review.decide(rank, action)
    assert review.path.read_bytes() == before


def test_a_file_that_data_corrections_would_refuse_is_not_written(review):
    corrections.write(review.path, [("x.png", "c", "permute", "d", "half of a permutation")])
    before = review.path.read_bytes()
    with pytest.raises(BonepipeError, match="no permutation"):
        review.decide(1, "permute")
    assert review.path.read_bytes() == before
    assert [path.name for path in review.path.parent.iterdir() if "part" in path.name] == []


def test_decisions_of_several_windows_at_once_are_all_kept(review):
    threads = [threading.Thread(target=review.decide, args=pair) for pair in ((1, "permute"), (2, "drop"), (3, "keep"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rows(review)) == 4


def test_a_table_of_an_earlier_version_is_refused_with_the_way_out(tmp_path):
    write_csv(tmp_path / "label_errors.csv", ["rank", "image_name"], [(1, "x.png")])
    with pytest.raises(BonepipeError, match=r"label_errors.csv: no column .*; `bonepipe label-errors` writes it anew"):
        read_candidates(tmp_path / "label_errors.csv")


def test_what_a_refused_file_would_be_is_told_by_its_name(review):
    corrections.write(review.path, [("x.png", "c", "permute", "d", "half of a permutation")])
    with pytest.raises(BonepipeError) as caught:
        review.decide(1, "permute")
    assert str(caught.value).startswith(f"{review.path}: line ")
