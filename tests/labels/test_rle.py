import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from bonepipe.labels import rle

shapes = st.tuples(st.integers(1, 8), st.integers(1, 12))
masks = shapes.flatmap(lambda shape: npst.arrays(bool, shape))
stacks = st.tuples(st.integers(1, 6), st.integers(1, 8), st.integers(1, 12)).flatmap(
    lambda shape: npst.arrays(bool, shape)
)
pairs = shapes.flatmap(lambda shape: npst.arrays(bool, (2, *shape)))
some = settings(max_examples=200, deadline=None)


def encode_naively(mask):
    """Run by run over the pixels in row-major order."""
    words, previous = [], False
    for position, inside in enumerate(mask.ravel().tolist(), 1):
        if inside and not previous:
            words += [position, 0]
        if inside:
            words[-1] += 1
        previous = inside
    return " ".join(map(str, words))


def with_touching_runs(mask):
    """Runs of one pixel each: valid, but not what we would write."""
    return np.array([[position + 1, 1] for position in np.flatnonzero(mask)], np.int64).reshape(-1, 2)


@some
@given(masks)
def test_encode_writes_what_a_walk_over_the_pixels_writes(mask):
    assert rle.encode(mask) == encode_naively(mask)
    assert rle.encode(mask.astype(np.uint8) * 255) == encode_naively(mask)
    assert rle.encode(np.asfortranarray(mask)) == encode_naively(mask)


@some
@given(masks)
def test_decode_brings_the_mask_back(mask):
    decoded = rle.decode(rle.encode(mask), mask.shape)
    assert decoded.dtype == np.bool_
    np.testing.assert_array_equal(decoded, mask)
    np.testing.assert_array_equal(rle.decode(rle.mask_runs(mask), mask.shape), mask)
    np.testing.assert_array_equal(rle.decode(with_touching_runs(mask), mask.shape), mask)


def test_encode_of_a_large_sparse_mask_equals_the_walk():
    mask = np.zeros((300, 200), bool)
    mask[150:170, 30:60] = np.random.default_rng(0).random((20, 30)) < 0.5
    assert rle.encode(mask) == encode_naively(mask)


@some
@given(pairs)
def test_set_operations_equal_those_on_pixels(pair):
    a, b = pair
    operations = ((rle.union, a | b), (rle.intersection, a & b), (rle.difference, a & ~b))
    for operation, expected in operations:
        for left, right in ((rle.encode(a), rle.encode(b)), (with_touching_runs(a), with_touching_runs(b))):
            assert rle.format_runs(operation(left, right)) == encode_naively(expected)


@some
@given(pairs)
def test_areas_and_dice_equal_those_on_pixels(pair):
    a, b = pair
    shared = int((a & b).sum())
    expected = (2 * shared + 1e-4) / (int(a.sum()) + int(b.sum()) + 1e-4)
    for left, right in ((rle.encode(a), rle.mask_runs(b)), (with_touching_runs(a), with_touching_runs(b))):
        assert rle.area(left) == a.sum()
        assert rle.intersection_area(left, right) == shared
        assert rle.dice(left, right) == pytest.approx(expected, abs=1e-15)


@some
@given(stacks, st.integers(1, 7))
def test_vote_counts_at_least_min_votes(stack, min_votes):
    expected = encode_naively(stack.sum(axis=0) >= min_votes)
    assert rle.vote([rle.encode(mask) for mask in stack], min_votes) == expected
    assert rle.vote([with_touching_runs(mask) for mask in stack], min_votes) == expected


@some
@given(stacks, st.data())
def test_weighted_vote_sums_weights_without_rounding(stack, data):
    # Tenths, whose float sums miss their thresholds; the reference counts in integers.
    tenths = data.draw(st.lists(st.integers(0, 30), min_size=len(stack), max_size=len(stack)))
    threshold = data.draw(st.integers(1, 90))
    votes = np.tensordot(tenths, stack.astype(int), axes=1)
    texts = [rle.encode(mask) for mask in stack]
    assert rle.vote(texts, threshold / 10, [weight / 10 for weight in tenths]) == encode_naively(votes >= threshold)


@some
@given(stacks, st.data())
@example(np.array([[[True, False, True]], [[False, False, True]]]), None)
def test_majority_is_more_than_half_and_ties_are_background(stack, data):
    count = len(stack)
    tenths = data.draw(st.lists(st.integers(1, 9), min_size=count, max_size=count)) if data else [1] * count
    votes = np.tensordot(tenths, stack.astype(int), axes=1)
    weights = [weight / 10 for weight in tenths]
    texts = [rle.encode(mask) for mask in stack]
    assert rle.vote(texts, rle.majority(weights), weights) == encode_naively(2 * votes > sum(tenths))
    assert rle.vote(texts, rle.majority([1] * count)) == encode_naively(2 * stack.sum(axis=0) > count)


def test_ten_weights_of_a_tenth_reach_one():
    assert sum([0.1] * 10) < 1  # the trap
    assert rle.vote(["5 3"] * 10, 1.0, [0.1] * 10) == "5 3"


def test_a_tiny_threshold_leaves_the_uncovered_pixels_out():
    assert rle.vote(["5 3", "10 2"], 1e-12, [1.0, 1.0]) == "5 3 10 2"


def test_vote_of_nothing_is_empty():
    assert rle.vote([], 1) == ""
    assert rle.vote(["", None, float("nan")], 1) == ""


@pytest.mark.parametrize(
    ("min_votes", "weights", "message"),
    [
        (0, None, "min_votes must be positive"),
        (float("nan"), None, "min_votes must be positive"),
        (1, [1.0], "2 masks need as many weights, not 1"),
        (1, [1.0, -1.0], "not negative"),
        (1, [1.0, float("inf")], "finite"),
    ],
)
def test_vote_refuses_impossible_requests(min_votes, weights, message):
    with pytest.raises(ValueError, match=message):
        rle.vote(["1 2", "2 2"], min_votes, weights)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3", "1 numbers: the start 3 has no length"),
        ("1 2 7", "3 numbers: the start 7 has no length"),
        ("1 2.0", "run 1: '2.0' is not an integer"),
        ("1 2 x 4", "run 2: 'x' is not an integer"),
        ("1 2,4 1", "run 1: '2,4' is not an integer"),
        ("1 2 5-1", "run 2: '5-1' is not an integer"),
        ("1 2 + 5 1", "run 2: '+' is not an integer"),
        ("1e1 2", "run 1: '1e1' is not an integer"),
        ("1_0 2", "run 1: '1_0' is not an integer"),
        ("\u0661 2", "is not an integer"),
        ("nan 1", "run 1: 'nan' is not an integer"),
        ("0 2", "run 1: start 0 is below 1"),
        ("1 2 -5 1", "run 2: start -5 is below 1"),
        ("1 2 5 0", "run 2: length 0 is below 1"),
        ("1 -2", "run 1: length -2 is below 1"),
        ("9 2 1 2", "run 2: start 1 starts before the run before it, which ends at pixel 10"),
        ("1 4 4 2", "run 2: start 4 overlaps the run before it, which ends at pixel 4"),
        ("1 4 1 4", "run 2: start 1 overlaps"),
        ("29 3", "run 1: ends at pixel 31, beyond the image's 30 pixels"),
        ("1 2 31 1", "run 2: ends at pixel 31, beyond the image's 30 pixels"),
    ],
)
def test_decode_names_the_wrong_run(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        rle.decode(text, (5, 6))


@pytest.mark.parametrize("text", ["9223372036854775807 5 1 1", "5 9223372036854775807", "99999999999999999999 1"])
def test_numbers_that_no_image_has_are_refused_before_they_overflow(text):
    for read in (rle.parse, lambda text: rle.decode(text, (5, 6))):
        with pytest.raises(ValueError, match="run 1: no image has a pixel"):
            read(text)


def test_run_arrays_are_checked_like_text():
    with pytest.raises(ValueError, match="run 2: start 4 overlaps"):
        rle.area(np.array([[1, 4], [4, 2]]))
    with pytest.raises(ValueError, match="runs are text, not int"):
        rle.area(7)


@pytest.mark.parametrize("text", ["", "  ", None, float("nan")])
def test_empty_cells_are_empty_masks(text):
    assert rle.parse(text).shape == (0, 2)
    assert rle.area(text) == 0
    assert not rle.decode(text, (4, 5)).any()
    assert rle.dice(text, "") == 1


def test_the_last_pixel_may_be_used():
    expected = np.zeros((5, 6), bool)
    expected[-1, -1] = True
    np.testing.assert_array_equal(rle.decode("30 1", (5, 6)), expected)


def test_any_white_space_separates():
    assert rle.parse(" 1 2\t5  6\n").tolist() == [[1, 2], [5, 6]]


def test_a_touching_pair_of_runs_is_read_and_written_as_one():
    assert rle.format_runs(rle.union("1 3 4 2", "")) == "1 5"


@some
@given(stacks, st.data())
def test_a_stack_is_voted_on_like_its_images_alone(stack, data):
    other = data.draw(npst.arrays(bool, stack.shape))
    columns = [[rle.encode(mask) for mask in voter] for voter in (stack, other)]
    voted = rle.vote_runs([rle.parse_stack(column) for column in columns], 2)
    found = [rle.format_runs(runs) for runs in rle.unstack(voted, len(stack))]
    assert found == [rle.encode(mask) for mask in stack & other]


def test_a_stack_without_any_run_comes_apart_into_empty_masks():
    assert [len(runs) for runs in rle.unstack(rle.parse_stack(["", " ", ""]), 3)] == [0, 0, 0]


@pytest.mark.parametrize(
    "text", ["1", "0 3", "5 0", "3 4 2 1", f"{1 << 40} 2", f"{(1 << 40) + 5} 1", f"5 {(1 << 63) - 1}"]
)
def test_a_stack_refuses_a_run_that_would_reach_into_another_image(text):
    with pytest.raises(ValueError):
        rle.parse_stack(["1 2", text, "1 2"])
    with pytest.raises(ValueError):
        rle.parse(text)
