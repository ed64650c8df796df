"""Hands of four discs and a bar; models that see them well; annotations spoiled one at a time."""

import cv2
import numpy as np
import pytest

from bonepipe.data import corrections
from bonepipe.errors import BonepipeError
from bonepipe.inference import label_errors
from bonepipe.labels import cutout, polygon, rle

CLASSES = ("thumb", "index", "middle", "little", "bar")
SHAPE = (100, 120)


def disc(centre, radius):
    turn = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    return np.rint(np.stack([np.cos(turn), np.sin(turn)], 1) * radius + centre).astype(np.int32)


def hand(seed):
    """One outline a class; sizes and places vary a little from hand to hand."""
    rng = np.random.default_rng(seed)
    shift, size = rng.uniform(-3, 3, 2), rng.uniform(0.9, 1.1)
    outlines = [[disc((20 + 22 * i + shift[0], 30 + shift[1]), (8 + 1.5 * i) * size)] for i in range(4)]
    bar = np.array([[20, 70], [100, 70], [100, 84], [20, 84]]) + np.rint(shift).astype(int)
    return [*outlines, [bar.astype(np.int32)]]


def filled(outlines):
    mask = np.zeros(SHAPE, np.uint8)
    for points in outlines:
        cv2.fillPoly(mask, [points], 1)
    return mask.astype(bool)


def seen_by_model(outlines, seed):
    """A prediction a little off the truth: moved by a pixel."""
    masks = [filled(lines) for lines in outlines]
    return [np.roll(mask, (seed % 3) - 1, axis=seed % 2) for mask in masks]


def evidence(name, drawn, predicted):
    annotated = [cutout.from_mask(filled(lines)) for lines in drawn]
    return label_errors.compare_masks(name, annotated, [cutout.from_mask(mask) for mask in predicted], drawn, SHAPE)


def ranked(spoil, count=12, spoiled=5, failing=None):
    """Candidates where one image's annotation is spoiled, and one image's prediction of a class is another's."""
    items = []
    for seed in range(count):
        outlines = hand(seed)
        predicted = seen_by_model(outlines, seed)
        if seed == failing:
            predicted[1] = np.roll(predicted[1], 18, axis=0)
        drawn = spoil(outlines) if seed == spoiled else outlines
        items.append(evidence(f"{seed}.png", drawn, predicted))
    return label_errors.rank(items, CLASSES)


def test_right_annotations_raise_no_suspicion():
    assert ranked(lambda lines: lines) == []


def test_matrix_and_areas_equal_pixels():
    outlines = hand(3)
    predicted = seen_by_model(outlines, 4)
    item = evidence("x", outlines, predicted)
    for row, lines in enumerate(outlines):
        true = filled(lines)
        assert item.annotated[row] == pytest.approx(true.mean())
        assert item.predicted[row] == pytest.approx(predicted[row].mean())
        for column, mask in enumerate(predicted):
            common = (true & mask).sum()
            expected = (2 * common + 1e-4) / (true.sum() + mask.sum() + 1e-4) if common else 0
            assert item.matrix[row, column] == pytest.approx(expected)


def test_permuted_labels_are_found_and_mended(tmp_path):
    """A cycle of three and nothing else; the suggested file, applied, gives the right annotation back."""
    first, *others = ranked(lambda lines: [lines[1], lines[2], lines[0], lines[3], lines[4]])
    assert (first.name, first.kind, label_errors.suggestion(first)) == ("5.png", "permuted", "permute")
    assert first.moved == {0: 1, 1: 2, 2: 0}
    assert first.score > 0.9
    assert others == []
    rows = label_errors.correction_rows([first], {}, CLASSES)
    corrections.write(tmp_path / "c.csv", rows)
    correction = corrections.read(tmp_path / "c.csv", CLASSES, ["5.png"])["5.png"]
    right = hand(5)
    wrong = [right[1], right[2], right[0], right[3], right[4]]
    planes = polygon.rasterise([(n, line[0]) for n, line in enumerate(wrong)], SHAPE, 5)
    expected = polygon.rasterise([(n, line[0]) for n, line in enumerate(right)], SHAPE, 5)
    assert (correction.apply(planes) == expected).all()
    assert (planes != expected).any()


def test_two_swaps_are_told_apart_and_a_poor_prediction_moves_nothing():
    matrix = np.eye(6) * 0.9
    matrix[[0, 1]] = matrix[[1, 0]]
    matrix[[2, 3]] = matrix[[3, 2]]
    usual = np.full(6, 0.9)
    assert label_errors.permutation(matrix, usual) == {0: 1, 1: 0, 2: 3, 3: 2}
    matrix[2:4] *= 0.4  # the other labels would fit better, but not well
    assert label_errors.permutation(matrix, usual) == {0: 1, 1: 0}
    assert label_errors.permutation(np.eye(6) * 0.2, usual) == {}


def test_overlapping_classes_do_not_trade_places_for_a_little():
    matrix = np.array([[0.55, 0.60], [0.62, 0.60]])
    assert label_errors.permutation(matrix, np.array([0.85, 0.85])) == {}


def test_a_missing_bone_is_found_and_the_prediction_suggested():
    (first,) = ranked(lambda lines: [*lines[:3], [], lines[4]])
    assert (first.kind, first.classes, first.replace) == ("missing", (3,), True)
    assert first.score > 0.8
    codes = ["", "", "", "7 2", ""]
    rows = label_errors.correction_rows([first], {"5.png": codes}, CLASSES)
    assert [row[:4] for row in rows] == [("5.png", "little", "replace", "7 2")]


def test_a_class_that_is_often_absent_is_hardly_missed():
    items = []
    for seed in range(12):
        outlines = hand(seed)
        predicted = seen_by_model(outlines, seed)
        drawn = outlines if seed < 2 else [*outlines[:4], []]
        items.append(evidence(f"{seed}.png", drawn, predicted))
    found = [suspect for suspect in label_errors.rank(items, CLASSES) if suspect.kind == "missing"]
    assert found
    assert max(suspect.score for suspect in found) < 0.25


def test_a_ring_inside_a_bone_is_found_although_the_mask_is_right():
    def ring(lines):
        middle = lines[2][0].mean(axis=0)
        loops = [np.rint(middle + (lines[2][0] - middle) * scale).astype(np.int32) for scale in (0.5, 0.3)]
        return [*lines[:2], [lines[2][0], np.vstack([loops[0], loops[1][::-1]])], *lines[3:]]

    (first,) = ranked(ring)
    assert (first.kind, first.classes, label_errors.suggestion(first)) == ("extra", (2,), "look")
    assert first.score == pytest.approx(1 - 1 / 12)


def test_a_ring_alone_has_a_hole():
    def hollow(lines):
        middle = lines[2][0].mean(axis=0)
        inner = np.rint(middle + (lines[2][0] - middle) * 0.5).astype(np.int32)
        outer = lines[2][0]
        return [*lines[:2], [np.vstack([outer, outer[:1], inner[::-1], inner[-1:]])], *lines[3:]]

    (first,) = ranked(hollow)
    assert (first.kind, first.classes) == ("extra", (2,))
    assert "holes" in first.remark


def test_a_stray_part_is_found_and_a_second_part_that_is_predicted_is_not():
    stray = [disc((100, 55), 5)]
    (first,) = ranked(lambda lines: [lines[0] + stray, *lines[1:]])
    assert (first.kind, first.classes) == ("extra", (0,))
    assert "outside" in first.remark
    two = [disc((20, 30), 8), disc((60, 60), 6)]
    drawn, found = cutout.from_mask(filled(two)), cutout.from_mask(filled(two))
    assert label_errors.stray_share(drawn, found) == 0
    lonely = label_errors.stray_share(drawn, cutout.from_mask(filled(two[:1])))
    assert lonely == pytest.approx(filled(two[1:]).sum() / filled(two).sum())


def test_a_low_dice_without_a_reason_ranks_below_one_with_a_reason():
    found = ranked(lambda lines: [*lines[:3], [], lines[4]], failing=8)
    assert [suspect.kind for suspect in found] == ["missing", "low"]
    assert (found[1].name, found[1].classes, label_errors.suggestion(found[1])) == ("8.png", (1,), "look")
    assert found[1].score <= 0.5
    assert label_errors.correction_rows(found[1:], {}, CLASSES) == []


def test_empty_masks_are_no_evidence():
    nothing = [cutout.empty()] * 5
    item = label_errors.compare_masks("x", nothing, nothing, [[]] * 5, SHAPE)
    assert item.dice.tolist() == [1] * 5
    assert label_errors.rank([item] * 3, CLASSES) == []
    runs = rle.parse("5 3")
    assert label_errors.stray_share(cutout.from_runs(runs, (10, 10)), cutout.empty()) == 0


def test_a_ranking_is_held_against_what_was_planted(tmp_path):
    """By hand: of three planted faults the first six candidates hold two; one permutation moves other classes too."""
    path = tmp_path / "planted.csv"
    path.write_text(
        "image_name,patient,kind,classes\na.png,A,permuted,one two\nb.png,B,missing,one\nc.png,C,permuted,two three\n"
    )
    planted = label_errors.read_planted(path)
    candidate = label_errors.LabelError
    found = [
        candidate("a.png", (0, 1), "permuted", 0.9, "", {0: 1, 1: 0}),
        candidate("b.png", (1,), "low", 0.8, ""),  # the right image, another class
        candidate("c.png", (0, 1, 2), "permuted", 0.7, "", {0: 1, 1: 2, 2: 0}),
        *(candidate("d.png", (0,), "low", 0.6, "") for _ in range(3)),
        candidate("b.png", (0,), "missing", 0.5, ""),  # the seventh
    ]
    scores = label_errors.score_planted(planted, found, ("one", "two", "three"))
    assert scores == {"permuted": (2, 2, 1), "missing": (0, 1, 0), "all": (2, 3, 1)}
    assert label_errors.score_planted(planted[1:2], found[1:], ("one", "two", "three"))["all"] == (0, 1, 0)
    path.write_text("image,kind\na.png,missing\n")
    with pytest.raises(BonepipeError, match=r"planted\.csv: no column 'image_name'; expected image_name,kind,classes"):
        label_errors.read_planted(path)


def weak_model(poor, count=12):
    """Evidence of hands whose annotations are right, one without a bar; predictions of the poor classes lie apart."""
    items = []
    for seed in range(count):
        outlines = hand(seed)
        predicted = seen_by_model(outlines, seed)
        for label in poor:
            predicted[label] = np.roll(predicted[label], 12, axis=0)
        items.append(evidence(f"{seed}.png", [*outlines[:4], []] if seed == 5 else outlines, predicted))
    return items


def corrections_of(items):
    candidates = label_errors.rank(items, CLASSES)
    predicted = {item.name: ["1 1"] * len(CLASSES) for item in items}
    return candidates, label_errors.correction_rows(candidates, predicted, CLASSES)


def test_a_weak_model_suggests_no_correction_and_a_warning_says_why():
    strong, weak = weak_model(()), weak_model(range(5))
    candidates, rows = corrections_of(strong)
    assert [(row[0], row[1], row[2]) for row in rows] == [("5.png", "bar", "replace")]
    assert label_errors.weakness(label_errors.usual(strong), CLASSES) is None
    candidates, rows = corrections_of(weak)
    assert candidates and rows == []
    assert {label_errors.suggestion(candidate) for candidate in candidates} == {"look"}
    assert "too weak to judge annotations" in label_errors.weakness(label_errors.usual(weak), CLASSES)


def test_a_class_that_the_model_does_not_see_is_not_corrected():
    items = weak_model([4])
    habits = label_errors.usual(items)
    assert habits.judges.tolist() == [True] * 4 + [False]
    candidates, rows = corrections_of(items)
    assert ("5.png", (4,)) in [(candidate.name, candidate.classes) for candidate in candidates]
    assert rows == []
    warning = label_errors.weakness(habits, CLASSES)
    assert f"bar {habits.mean[4]:.2f}" in warning and "thumb" not in warning
    scores = [item.dice[4] for item in items]
    assert habits.mean[4] == pytest.approx(np.mean(scores))  # all hands have a bar drawn or predicted
