from pathlib import Path

import cv2
import numpy as np
import pytest

from bonepipe.data import strata
from bonepipe.data.catalog import Radiograph, read_catalog
from bonepipe.data.spec import DataSpec
from bonepipe.data.strata import StrataSpec, age_band, effective, shares, stratify, table, uncovered, weights
from bonepipe.errors import BonepipeError


def image(number, split="train", **facts):
    return Radiograph(f"i{number}.png", f"ID{number:03d}", Path(f"nowhere/i{number}.png"), split, **facts)


@pytest.fixture(scope="module")
def hands(phantom_root):
    return read_catalog(DataSpec(name="hand", root=str(phantom_root), classes=("Radius",), size=64))


@pytest.mark.parametrize(
    ("age", "band"),
    [
        (19, "under30"),
        (29.9, "under30"),
        (30, "30to45"),
        (44, "30to45"),
        (45, "from45"),
        (69, "from45"),
        (None, "unknown"),
    ],
)
def test_bands_hold_their_lower_edge(age, band):
    assert age_band(age, (30, 45)) == band


def test_a_single_edge_makes_two_bands():
    assert [age_band(age, (40.5,)) for age in (40, 40.5)] == ["under40.5", "from40.5"]
    assert age_band(40, ()) == "unknown"


def test_traits_are_combined_in_the_order_given():
    images = [image(0, age=33, sex="F", rotated=True), image(1, age=61, sex="M", rotated=False), image(2)]
    spec = StrataSpec(by=("sex", "age", "wrist"), wrist="listed")
    assert stratify(images, spec) == ["F/30to45/rotated", "M/from60/straight", "unknown/unknown/unknown"]
    assert stratify(images, StrataSpec(by=("age",), ages=(50,))) == ["under50", "from50", "unknown"]
    assert stratify(images, StrataSpec()) == ["all"] * 3


def test_metadata_of_the_phantom_reaches_the_strata(hands):
    labels = stratify(hands, StrataSpec(by=("sex", "wrist")))
    assert set(labels) == {"F/rotated", "F/straight", "M/rotated", "M/straight"}
    assert [label.endswith("rotated") for label in labels] == [bool(hand.rotated) for hand in hands]


def test_a_list_is_believed_and_a_measure_is_taken_where_it_is_silent(hands):
    """rotated.csv may be missing, or made for the training part only; then the test images are measured."""
    true = [hand.rotated for hand in hands]
    unlisted = [Radiograph(**vars(hand) | {"rotated": None}) for hand in hands]
    train_only = [Radiograph(**vars(h) | {"rotated": h.rotated and h.split == "train"}) for h in hands]
    opposite = [Radiograph(**vars(hand) | {"rotated": not hand.rotated}) for hand in hands]
    for images, wrist, expected in (
        (unlisted, "auto", true),
        (train_only, "auto", true),
        (train_only, "listed", [bent and hand.split == "train" for bent, hand in zip(true, hands, strict=True)]),
        (opposite, "auto", [not bent for bent in true]),
        (opposite, "estimated", true),
    ):
        labels = stratify(images, StrataSpec(by=("wrist",), wrist=wrist))
        assert [label == "rotated" for label in labels] == expected
    assert set(stratify(unlisted, StrataSpec(by=("wrist",), wrist="listed"))) == {"unknown"}


def test_a_picture_without_hand_is_of_unknown_stratum(tmp_path):
    cv2.imwrite(str(tmp_path / "black.png"), np.zeros((80, 80), np.uint8))
    black = Radiograph("black.png", "ID001", tmp_path / "black.png", "train")
    assert stratify([black], StrataSpec(by=("wrist",))) == ["unknown"]
    with pytest.raises(BonepipeError, match=r"i7\.png: cannot be read"):
        stratify([image(7)], StrataSpec(by=("wrist",)))


def test_the_test_mix_is_counted_unless_stated(hands):
    held_out = [hand for hand in hands if hand.split == "test"]
    count = sum(bool(hand.rotated) for hand in held_out)
    spec = StrataSpec(by=("wrist",))
    assert strata.test_mix(held_out, spec) == {"rotated": count / 8, "straight": 1 - count / 8}
    stated = {"rotated": 0.9, "straight": 0.1}
    assert strata.test_mix(held_out, StrataSpec(by=("wrist",), test_mix=stated)) == stated
    assert strata.test_mix([], spec) is None


# Ten images, two of them rotated; half of the test set is rotated.
LABELS = ["rotated"] * 2 + ["straight"] * 8
DICE = np.array([0.70, 0.80] + [0.95] * 8)
MIX = {"rotated": 0.5, "straight": 0.5}


def test_weights_by_hand():
    """0.5 / 0.2 = 2.5 and 0.5 / 0.8 = 0.625; 0.5 * 0.75 + 0.5 * 0.95 = 0.85, where the plain mean is 0.91."""
    values = weights(LABELS, MIX)
    assert values == pytest.approx([2.5] * 2 + [0.625] * 8)
    assert values.mean() == pytest.approx(1)
    assert np.average(DICE, weights=values) == pytest.approx(0.85)
    assert DICE.mean() == pytest.approx(0.91)


def test_weights_of_an_equal_mix_are_one():
    assert weights(LABELS, shares(LABELS)) == pytest.approx(np.ones(10))
    assert shares(["b", "a", "b", "b"]) == {"a": 0.25, "b": 0.75}


def test_what_no_image_stands_for_is_left_out_and_named():
    mix = {"rotated": 0.3, "straight": 0.3, "broken": 0.4, "absent": 0.0}
    assert uncovered(LABELS, mix) == ["broken"]
    assert weights(LABELS, mix) == pytest.approx(weights(LABELS, MIX))
    assert weights(LABELS, {"straight": 1.0}) == pytest.approx([0] * 2 + [1.25] * 8)
    with pytest.raises(ValueError, match=r"strata \(broken\), but of rotated, straight"):
        weights(LABELS, {"broken": 1.0})


def test_the_weighted_mean_predicts_the_test_sets_where_the_plain_one_does_not():
    """Dice depends on the stratum only; the test set has it the other way round."""
    rng = np.random.default_rng(0)
    train = np.where(rng.random(800) < 0.12, "rotated", "straight")
    test = np.where(rng.random(288) < 0.58, "rotated", "straight")
    dice = {"rotated": 0.90, "straight": 0.96}
    train_dice, test_dice = (
        np.array([dice[s] for s in part]) + rng.normal(0, 0.01, len(part)) for part in (train, test)
    )
    weighted = np.average(train_dice, weights=weights(train.tolist(), shares(test.tolist())))
    assert abs(weighted - test_dice.mean()) < 0.003
    assert abs(train_dice.mean() - test_dice.mean()) > 0.02


def test_how_many_images_a_weighted_mean_is_worth():
    assert effective(np.array([2.0, 2.0, 2.0])) == pytest.approx(3)
    assert effective(np.array([0.0, 0.0, 5.0])) == pytest.approx(1)
    assert effective(weights(["a"] * 9 + ["b"], {"a": 0.1, "b": 0.9})) == pytest.approx(1 / (0.1**2 / 9 + 0.9**2))


def test_the_table_of_strata():
    rows = table(LABELS, DICE, {"rotated": 0.5, "broken": 0.5})
    assert list(rows) == ["broken", "rotated", "straight"]
    assert rows["rotated"] == {"images": 2, "share": 0.2, "test_share": 0.5, "dice": pytest.approx(0.75)}
    assert rows["straight"] == {"images": 8, "share": 0.8, "test_share": 0.0, "dice": pytest.approx(0.95)}
    assert rows["broken"] == {"images": 0, "share": 0.0, "test_share": 0.5, "dice": None}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"by": ("sex", "sex")}, "at most once"),
        ({"ages": (45, 30)}, "must ascend"),
        ({"ages": (30, 30)}, "must ascend"),
        ({"bend": 0}, "bend=0"),
        ({"test_mix": {"rotated": 0.6, "straight": 0.6}}, "sum to 1"),
        ({"test_mix": {"rotated": 1.5, "straight": -0.5}}, "shares from 0 to 1"),
        ({"test_mix": {}}, "sum to 1"),
    ],
)
def test_strata_that_make_no_sense_are_refused(settings, reason):
    with pytest.raises(ValueError, match=reason):
        StrataSpec(**settings)
