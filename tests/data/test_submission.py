import re

import numpy as np
import pandas as pd
import pytest

from bonepipe.data import submission
from bonepipe.errors import BonepipeError
from bonepipe.labels import rle

IMAGES = {"a.png": (4, 5), "b.png": (6, 3)}
CLASSES = ["Radius", "Ulna"]


def masks(seed):
    rng = np.random.default_rng(seed)
    return {(image, label): rng.random(shape) < 0.5 for image, shape in IMAGES.items() for label in CLASSES}


def rows_of(masks):
    return [(image, label, rle.encode(mask)) for (image, label), mask in masks.items()]


def table(tmp_path, lines, name="sub.csv"):
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return submission.read(path)


def valid_lines():
    return ["image_name,class,rle", "a.png,Radius,1 3", "a.png,Ulna,", "b.png,Radius,5 2 9 10", "b.png,Ulna,18 1"]


def pixel_dice(a, b):
    return (2 * (a & b).sum() + 1e-4) / (a.sum() + b.sum() + 1e-4)


def test_written_rows_are_read_back_and_pandas_agrees(tmp_path):
    rows = [("a.png", "Radius", "1 2 5 1"), ("a.png", "Ulna", ""), ('odd "name", 1.png', "x,y", "3 4")]
    path = tmp_path / "sub.csv"
    assert submission.write(path, iter(rows)) == 3
    read = submission.read(path)
    assert read.columns == ("image_name", "class", "rle")
    assert [(row.image, row.label, row.rle) for row in read.rows] == rows
    assert [row.line for row in read.rows] == [2, 3, 4]
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert list(frame.itertuples(index=False, name=None)) == rows
    assert b"\r" not in path.read_bytes()


def test_files_of_pandas_and_spreadsheets_are_read(tmp_path):
    frame = pd.DataFrame({"rle": ["1 2", ""], "image_name": ["a.png", "b.png"], "class": ["x", "y"]})
    frame["Usage"] = ["Public", "Private"]
    path = tmp_path / "truth.csv"
    frame.to_csv(path, index=False, encoding="utf-8-sig", lineterminator="\r\n", quoting=1)
    assert list(submission.stream(path)) == [
        submission.Row(2, "a.png", "x", "1 2", "Public"),
        submission.Row(3, "b.png", "y", "", "Private"),
    ]


def test_long_masks_are_read(tmp_path):
    text = " ".join(f"{2 * i + 1} 1" for i in range(50_000))  # beyond the csv module's limit of a field
    submission.write(tmp_path / "long.csv", [("a.png", "Radius", text)])
    assert submission.read(tmp_path / "long.csv").rows[0].rle == text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"image_name,class\na.png,Radius\n", "no column 'rle'"),
        (b"image_name;class;rle\n", "no column 'image_name'"),
        (b"", "no column 'image_name'"),
        (b"image_name,class,rle\na.png,Radius,1 2\nb.png,Ulna\n", "line 3: 2 fields where the header has 3"),
        (b"image_name,class,rle\na.png,\xff\xfe,1 2\n", "not UTF-8"),
    ],
)
def test_read_names_the_file_and_what_is_wrong(tmp_path, content, message):
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(BonepipeError, match=f"bad.csv: .*{re.escape(message)}"):
        submission.read(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(BonepipeError, match=f"{re.escape(str(path))}: cannot be read"):
            submission.read(path)


def test_write_leaves_the_old_file_when_its_rows_fail(tmp_path):
    path = tmp_path / "sub.csv"
    submission.write(path, [("a.png", "Radius", "1 2")])
    before = path.read_bytes()

    def failing():
        yield ("a.png", "Radius", "7 7")
        raise BonepipeError("broken")

    with pytest.raises(BonepipeError, match="broken"):
        submission.write(path, failing())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_write_names_a_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere/sub\.csv"):
        submission.write(tmp_path / "nowhere" / "sub.csv", [])


def test_a_valid_submission_has_no_faults(tmp_path):
    assert submission.faults(table(tmp_path, valid_lines()), IMAGES, CLASSES) == []


@pytest.mark.parametrize(
    ("line", "new", "expected"),
    [
        (2, "c.png,Radius,1 3", ["line 2: missing: a.png, Radius belongs here", "line 2: unknown image 'c.png'"]),
        (3, "a.png,ulna,", ["line 3: missing: a.png, Ulna belongs here", "line 3: unknown class 'ulna'"]),
        (3, "a.png,Ulna,1 2 3", ["line 3: rle: 3 numbers: the start 3 has no length"]),
        (3, "a.png,Ulna,1 3 2 2", ["line 3: rle: run 2: start 2 overlaps"]),
        (3, "a.png,Ulna,0 3", ["line 3: rle: run 1: start 0 is below 1"]),
        (3, "a.png,Ulna,1.5 3", ["line 3: rle: run 1: '1.5' is not an integer"]),
        (3, "a.png,Ulna,1 3 19 3", ["line 3: rle: run 2: ends at pixel 21, beyond the image's 20 pixels"]),
        (5, "b.png,Ulna,18 2", ["line 5: rle: run 1: ends at pixel 19, beyond the image's 18 pixels"]),
        (4, "", ["line 4: missing: b.png, Radius belongs here"]),
        (
            4,
            "a.png,Radius,1 3",
            ["line 4: a.png, Radius again, first at line 2", "line 4: missing: b.png, Radius belongs here"],
        ),
    ],
)
def test_each_fault_is_found_and_named_by_line(tmp_path, line, new, expected):
    lines = valid_lines()
    lines[line - 1] = new
    found = submission.faults(table(tmp_path, lines), IMAGES, CLASSES)
    assert len(found) == len(expected)
    for fault, start in zip(sorted(found), expected, strict=True):
        assert fault.startswith(start)


def test_swapped_rows_are_out_of_order(tmp_path):
    lines = valid_lines()
    lines[2], lines[3] = lines[3], lines[2]
    found = submission.faults(table(tmp_path, lines), IMAGES, CLASSES)
    assert found == ["line 4: a.png, Ulna out of order, belongs at line 3"]


def test_additional_columns_are_a_fault(tmp_path):
    lines = [line + ",Public" for line in valid_lines()]
    lines[0] = "image_name,class,rle,Usage"
    found = submission.faults(table(tmp_path, lines), IMAGES, CLASSES)
    assert found == ["line 1: columns are image_name,class,rle,Usage; expected image_name,class,rle"]


def test_score_is_the_mean_over_images_and_classes_of_pixel_dice(tmp_path):
    predicted, true = masks(0), masks(1)
    predicted[("a.png", "Ulna")][:] = False
    true[("b.png", "Ulna")][:] = False
    submission.write(tmp_path / "pred.csv", reversed(rows_of(predicted)))  # the order does not matter
    truth_lines = ["image_name,class,rle,Usage"]
    usage = {"a.png": "Private", "b.png": "Public"}
    truth_lines += [f"{image},{label},{text},{usage[image]}" for image, label, text in rows_of(true)]
    truth = table(tmp_path, truth_lines, "truth.csv")
    scores = submission.score_tables(submission.read(tmp_path / "pred.csv"), truth)

    expected = {key: pixel_dice(predicted[key], true[key]) for key in true}
    assert scores["dice"] == pytest.approx(np.mean(list(expected.values())), abs=1e-12)
    assert list(scores["per_class"]) == CLASSES
    for label in CLASSES:
        mean = np.mean([value for key, value in expected.items() if key[1] == label])
        assert scores["per_class"][label] == pytest.approx(mean, abs=1e-12)
    for name, image in (("private", "a.png"), ("public", "b.png")):
        mean = np.mean([value for key, value in expected.items() if key[0] == image])
        assert scores[name] == pytest.approx(mean, abs=1e-12)


def three_overlapping(seed):
    """Masks of three classes that overlap, one image of two with almost nothing in it."""
    rng = np.random.default_rng(seed)
    return {(image, label): rng.random(IMAGES[image]) < share for image, share in zip(IMAGES, (0.4, 0.02), strict=True)
            for label in ("Radius", "Ulna", "Lunate")}  # fmt: skip


def slow_scores(predicted, true):
    """The definitions, pixel by pixel."""
    ious = []
    for key, mask in true.items():
        either = int((predicted[key] | mask).sum())
        ious.append(int((predicted[key] & mask).sum()) / either if either else 1.0)
    shares = []
    for image in dict.fromkeys(image for image, _ in true):
        labels = [label for name, label in true if name == image]
        right = covered = 0
        for pixel in np.ndindex(true[image, labels[0]].shape):
            here = {label for label in labels if predicted[image, label][pixel]}
            there = {label for label in labels if true[image, label][pixel]}
            covered += bool(here | there)
            right += bool(here | there) and here == there
        shares.append(right / covered if covered else 1.0)
    return sum(ious) / len(ious), sum(shares) / len(shares)


@pytest.mark.parametrize("empty", [(), ("a.png",), ("a.png", "b.png")])
def test_mean_iou_and_pixel_accuracy_equal_slow_ones_with_overlapping_classes(tmp_path, empty):
    true, predicted = three_overlapping(2), three_overlapping(3)
    for (image, label), mask in true.items():
        agree = np.random.default_rng(4).random(mask.shape) < 0.8
        predicted[image, label][agree] = mask[agree]
        if image in empty:
            mask[:], predicted[image, label][:] = False, False
    for name, masks_of in (("pred.csv", predicted), ("truth.csv", true)):
        submission.write(tmp_path / name, rows_of(masks_of))
    scores = submission.score_tables(*(submission.read(tmp_path / name) for name in ("pred.csv", "truth.csv")))
    miou, accuracy = slow_scores(predicted, true)
    assert scores["miou"] == pytest.approx(miou, abs=1e-4)  # the metric's smoothing
    assert scores["pixel_accuracy"] == pytest.approx(accuracy, abs=1e-12)
    assert scores["pixel_accuracy"] < 1 or len(empty) == 2


def test_score_without_usage_has_no_halves(tmp_path):
    truth = table(tmp_path, valid_lines())
    scores = submission.score_tables(truth, truth)
    assert scores == {"dice": 1.0, "miou": 1.0, "pixel_accuracy": 1.0, "per_class": {"Radius": 1.0, "Ulna": 1.0}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines.pop(3), r"pred.csv: no row for b.png, Radius \(line 4 of .*truth.csv\)"),
        (
            lambda lines: lines.append("c.png,Ulna,"),
            r"truth.csv: no row for c.png, Ulna \(line 6 of .*pred.csv\), so the truth",
        ),
        (lambda lines: lines.append("a.png,Ulna,"), r"pred.csv: line 6: a.png, Ulna again, first at line 3"),
        (lambda lines: lines.append(lines.pop() + " 3"), r"pred.csv: line 5: b.png, Ulna: 3 numbers"),
    ],
)
def test_score_refuses_predictions_that_do_not_match(tmp_path, change, message):
    lines = valid_lines()
    change(lines)
    truth = table(tmp_path, valid_lines(), "truth.csv")
    with pytest.raises(BonepipeError, match=message):
        submission.score_tables(table(tmp_path, lines, "pred.csv"), truth)


def test_score_refuses_a_truth_without_rows(tmp_path):
    truth = table(tmp_path, valid_lines()[:1])
    with pytest.raises(BonepipeError, match="no rows"):
        submission.score_tables(truth, truth)


def answer(tmp_path, *lines):
    path = tmp_path / "answer.csv"
    path.write_text("\n".join(["image_name,class,rle,Usage", *lines]) + "\n")
    return submission.read_answer(path, IMAGES, CLASSES)


WHOLE = ["a.png,Radius,1 2,Public", "a.png,Ulna,,Public", "b.png,Radius,3 1,Private", "b.png,Ulna,1 1,Private"]


def test_a_whole_answer_is_taken_without_a_word(tmp_path):
    found = answer(tmp_path, *WHOLE)
    assert found.warnings == [] and len(found.table.rows) == 4


def test_an_answer_that_knows_less_scores_what_it_knows_and_says_so(tmp_path):
    found = answer(tmp_path, *WHOLE[:2], WHOLE[3])
    (warning,) = found.warnings
    assert "answer.csv: lacks 1 of 4 masks (b.png, Radius first)" in warning and "submission" not in warning
    lines = ["image_name,class,rle", "a.png,Radius,1 1", "a.png,Ulna,", "b.png,Radius,5 5", "b.png,Ulna,1 1"]
    predicted = submission.restricted(table(tmp_path, lines, "submission.csv"), found.table)
    scores = submission.score_tables(predicted, found.table)
    assert scores["dice"] == pytest.approx((2 / 3 + 1 + 1) / 3, abs=1e-4)
    assert scores["public"] == pytest.approx(5 / 6, abs=1e-4) and scores["private"] == pytest.approx(1)


def test_an_answers_rows_of_other_images_are_left_out_and_told(tmp_path):
    found = answer(tmp_path, *WHOLE, "z.png,Ulna,1 1,Public", "a.png,ulna,1 1,Public")
    (warning,) = found.warnings
    assert "answer.csv: 2 rows are of no test image or class (z.png, Ulna first); left out" in warning
    assert len(found.table.rows) == 4


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["z.png,Ulna,1 1,Public"], r"answer.csv: has no row of this test set.* such as z.png, Ulna"),
        ([], r"answer.csv: has no row of this test set"),
        ([*WHOLE, WHOLE[0]], r"answer.csv: line 6: a.png, Radius again, first at line 2"),
        ([*WHOLE[:3], "b.png,Ulna,3 x,Public"], r"answer.csv: line 5: b.png, Ulna: .*'x' is not an integer"),
        ([*WHOLE[:3], "b.png,Ulna,9999999 2,Public"], r"answer.csv: line 5: b.png, Ulna: .*beyond the image"),
        ([*WHOLE[:3], "b.png,Ulna"], r"answer.csv: line 5: 2 fields"),
    ],
)
def test_an_answer_that_cannot_be_used_is_refused(tmp_path, lines, message):
    with pytest.raises(BonepipeError, match=message):
        answer(tmp_path, *lines)


def test_a_folder_is_no_answer(tmp_path):
    (tmp_path / "answer.csv").mkdir()
    with pytest.raises(BonepipeError, match=r"answer\.csv: is a folder"):
        submission.read_answer(tmp_path / "answer.csv", IMAGES, CLASSES)


def test_names_as_long_as_a_file_are_cut_in_messages(tmp_path):
    long = "9" * 100_000
    path = tmp_path / "a.csv"
    path.write_text(f"{long}\n")
    with pytest.raises(BonepipeError, match=r"a\.csv: no column 'image_name'") as header:
        submission.read(path)
    path.write_text(f"image_name,class,rle\n{long},{long},1 2\n{long},{long},1 2\n")
    with pytest.raises(BonepipeError, match=r"a\.csv: line 3: 9+\.\.\., 9+\.\.\. again, first at line 2") as twice:
        submission.dice_rows(submission.read(path), submission.read(path))
    assert max(len(str(error.value)) for error in (header, twice)) < 1000
