"""thresholds.json: what is written comes back, and what is damaged is named."""

import json

import numpy as np
import pytest

from bonepipe.data.catalog import Radiograph
from bonepipe.data.strata import StrataSpec
from bonepipe.errors import BonepipeError
from bonepipe.inference.postprocess.operations import ChosenOperations, PostprocessSpec
from bonepipe.inference.thresholds import ThresholdChoice
from bonepipe.labels.cutout import from_mask, to_mask
from bonepipe.pipeline import decisions

CLASSES = ("뼈", "Ulna")
TURNED = ("Ulna", "뼈")


def choice(*values):
    """Thresholds of both classes, those apart from one half being kept."""
    limits = np.array(values)
    gain = np.array([0.025, 0.05])
    return ThresholdChoice(limits, limits != 0.5, gain, gain / 10, np.ones((3, 2)), np.ones((3, 2)))


def chosen(*operations, gain=(0.25, -0.5)):
    return ChosenOperations(list(operations), np.array(gain), np.array(gain) / 10, np.zeros((3, 2)))


def write(folder, by_stratum=None, operations=None, crf=None):
    decisions.write(folder, CLASSES, choice(0.25, 0.5), by_stratum or {}, operations, crf)
    return json.loads((folder / "thresholds.json").read_text())


def test_the_file_gives_back_the_thresholds(tmp_path):
    content = write(tmp_path)
    assert decisions.read(tmp_path, CLASSES).thresholds == [0.25, 0.5]
    assert decisions.read(tmp_path, TURNED).thresholds == [0.5, 0.25]
    assert content == {
        "thresholds": {"뼈": 0.25, "Ulna": 0.5},
        "kept": ["뼈"],
        "cross_fitted_gain": {"뼈": 0.025, "Ulna": 0.05},
        "standard_error": {"뼈": 0.0025, "Ulna": 0.005},
    }
    assert [file.name for file in tmp_path.iterdir()] == ["thresholds.json"]


def test_the_file_gives_back_the_strata_beside_the_common_thresholds(tmp_path):
    content = write(tmp_path, {"rotated": choice(0.75, 0.5), "straight": choice(0.25, 0.5)})
    read = decisions.read(tmp_path, TURNED)
    assert read.thresholds == [0.5, 0.25]
    assert read.by_stratum == {"rotated": [0.5, 0.75], "straight": [0.5, 0.25]}
    assert content["by_stratum"]["rotated"]["kept"] == ["뼈"]


def test_each_image_has_the_thresholds_of_its_stratum_or_the_common_ones(tmp_path):
    images = [Radiograph(f"{sex}.png", sex, tmp_path / f"{sex}.png", "test", sex=sex) for sex in "FM"]
    spec = StrataSpec(by=("sex",))
    write(tmp_path, {"M": choice(0.75, 0.5)})
    assert decisions.read(tmp_path, CLASSES).limits(images, spec) == [[0.25, 0.5], [0.75, 0.5]]
    write(tmp_path)
    assert decisions.read(tmp_path, CLASSES).limits(images, spec) == [[0.25, 0.5], [0.25, 0.5]]


def test_chosen_operations_are_read_back_and_applied(tmp_path):
    content = write(tmp_path, operations=chosen(("fill_holes", "largest"), ()))
    assert content["postprocess"] == {"뼈": ["fill_holes", "largest"], "Ulna": []}
    assert content["postprocess_gain"] == {"뼈": 0.25, "Ulna": -0.5}
    read = decisions.read(tmp_path, TURNED)
    assert read.operations == [(), ("fill_holes", "largest")]
    mask = np.zeros((9, 9), bool)
    mask[1:5, 1:5], mask[2, 2], mask[7, 7] = True, False, True  # a ring and a speck
    refine = read.refine(PostprocessSpec(operations=("fill_holes", "largest")))
    same, mended = (to_mask(cutout, mask.shape) for cutout in refine([from_mask(mask)] * 2, mask.shape))
    assert np.array_equal(same, mask)
    assert mended[1:5, 1:5].all() and mended.sum() == 16


def test_the_classes_that_keep_the_crf_come_back(tmp_path):
    content = write(tmp_path, crf=chosen((), ("crf",)))
    assert content["crf"] == ["Ulna"]
    assert content["crf_gain"] == {"뼈": 0.25, "Ulna": -0.5}
    assert decisions.read(tmp_path, CLASSES).crf == ("Ulna",)


def test_a_file_of_thresholds_alone_means_nothing_else(tmp_path):
    content = write(tmp_path)
    read = decisions.read(tmp_path, CLASSES)
    assert (read.by_stratum, read.operations, read.crf) == ({}, [(), ()], ())
    assert not content.keys() & {"by_stratum", "postprocess", "crf"}


def test_plain_values_tell_decisions_apart(tmp_path):
    """What a fingerprint notes of them survives JSON, and differs wherever they do."""
    variants = [
        {}, {"by_stratum": {"rotated": choice(0.75, 0.5)}}, {"operations": chosen(("largest",), ())},
        {"operations": chosen((), ("largest",))}, {"crf": chosen((), ("crf",))},
    ]  # fmt: skip
    plain = []
    for variant in variants:
        write(tmp_path, **variant)
        plain.append(decisions.read(tmp_path, CLASSES).plain())
    assert json.loads(json.dumps(plain)) == plain
    assert all(plain.count(row) == 1 for row in plain)


GOOD = '"thresholds": {"Ulna": 0.5, "뼈": 0.25}'


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "{",
        "[]",
        "[1]",
        "null",
        "{}",
        '{"thresholds": null}',
        '{"thresholds": {}}',
        '{"thresholds": {"Ulna": 0.5}}',
        '{"thresholds": {"Ulna": 0.5, "뼈": "high"}}',
        '{"thresholds": {"Ulna": 0.5, "뼈": null}}',
        '{"thresholds": {"Ulna": 0.5, "뼈": NaN}}',
        '{"thresholds": {"Ulna": 0.5, "뼈": 1.5}}',
        f'{{{GOOD}, "by_stratum": 3}}',
        f'{{{GOOD}, "by_stratum": {{"rotated": {{}}}}}}',
        f'{{{GOOD}, "by_stratum": {{"rotated": {{"thresholds": {{"Ulna": 0.5}}}}}}}}',
        f'{{{GOOD}, "postprocess": {{"Ulna": []}}}}',
        f'{{{GOOD}, "postprocess": 3}}',
        f'{{{GOOD}, "crf": ["Ulan"]}}',
        f'{{{GOOD}, "crf": 3}}',
        f'{{{GOOD}, "crf": ["{"x" * 10**6}"]}}',
    ],
)
def test_damaged_files_are_named_with_the_way_out(tmp_path, content):
    if content is not None:
        (tmp_path / "thresholds.json").write_text(content, encoding="utf-8")
    with pytest.raises(BonepipeError, match=r"^\S*thresholds\.json: .{1,400}`bonepipe train-all` writes it"):
        decisions.read(tmp_path, CLASSES)
    (tmp_path / "thresholds.json").write_text(f"{{{GOOD}}}", encoding="utf-8")
    assert decisions.read(tmp_path, CLASSES).thresholds == [0.25, 0.5]
