"""The sets, the peers and the table of the accuracy benchmark, on a few small images."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from warm import warm_children

from bonepipe import config as configs
from bonepipe.data import submission

from .accuracy import nnunet, sets, systems, table
from .accuracy.__main__ import jobs
from .accuracy.__main__ import paced as with_paces
from .accuracy.place import Job, Place, Speed, slug


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    root = tmp_path_factory.mktemp("pairs") / "pairs"
    sets._write(root, 2, 1, sets._pair, sets.PAIRED)
    return sets.pairs(root.parent)


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    root = tmp_path_factory.mktemp("odd") / "odd"
    sets._write(root, 5, 3, sets._oddities, sets.ODD)
    return sets.odd(root.parent)


@pytest.fixture(scope="module")
def hands(phantom_root):
    return sets.Set("hands", phantom_root, (64, 64), ("data=hand",), sets.CLASSES)


@pytest.fixture
def place(hands, tmp_path):
    return Place(hands, tmp_path, ("experiment=demo",))


def test_a_pair_has_both_hands_with_classes_of_their_own(pairs):
    (path,) = pairs.images("test")
    assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape == (512, 1024)
    rows = submission.read(pairs.root / "answer.csv").rows
    assert [row.label for row in rows] == list(sets.PAIRED)
    for row in rows:
        columns = (np.array(row.rle.split()[::2], int) - 1) % 1024
        assert (columns < 512).all() == row.label.startswith("Right"), row.label


def test_odd_images_differ_in_shape_and_depth_and_few_have_a_screw(odd):
    images = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in odd.images("train")]
    assert {image.dtype for image in images} == {np.dtype(np.uint16)}
    assert len({image.shape for image in images}) == len(images) == 10
    screws = [path for path in (odd.root / "train/outputs_json").rglob("*.json") if "Screw" in path.read_text()]
    assert 0 < len(screws) < len(images) / 2


@pytest.mark.parametrize("name", ["pairs", "odd", "hands"])
def test_the_pipeline_takes_the_words_of_a_set(name, request, tmp_path):
    each = request.getfixturevalue(name)
    place = Place(each, tmp_path, ("experiment=demo",))
    assert 0 < len(place.training) < len(each.images("train"))


@pytest.fixture(scope="module")
def paced(hands, tmp_path_factory):
    """A place where the speeds of the script and the pipeline were measured, and the file that keeps them."""
    folder = tmp_path_factory.mktemp("paced")
    speeds = table.Speeds(folder / "speeds.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(systems, "PACED", 8)
        warm_children(patch)
        place = with_paces(Place(hands, folder, ("experiment=demo",)), speeds, "", False, ["script", "pipeline"])
    return place, speeds.path


def test_the_script_trains_predicts_and_is_scored(paced):
    place, _ = paced
    (row,) = systems.run(place, Job("script, rate 0.004", 8 / place.paces["script"] / 60, 0))
    assert row["images"] == 8
    assert 0 <= row["dice"] <= 1
    assert len(submission.read(next((place.folder / "script").rglob("answer.csv"))).rows) == 8 * 29


def test_speeds_are_measured_once_and_kept(paced, place, monkeypatch):
    monkeypatch.setattr(systems, "speeds", lambda place, system: 1 / 0)
    assert set(paced[0].paces) == {"script", "pipeline"}
    kept = table.Speeds(paced[1])
    assert {system for _, _, system in kept.all} == {"script", *(f"pipeline: {step}" for step in systems.STEPS)}
    assert all(speed.training > 0 and speed.prediction > 0 for speed in kept.all.values())
    assert with_paces(place, kept, "", False, ["five folds", "script"]).paces == pytest.approx(paced[0].paces, rel=1e-3)
    assert with_paces(place, kept, "augment=light", True, ["pipeline"]).paces["pipeline"] > 0
    for change, system in (("augment=light", "pipeline"), ("", "nnU-Net")):
        with pytest.raises(ZeroDivisionError):
            with_paces(place, kept, change, False, [system])
    kept.add("hands", "", {"nnU-Net": Speed(3, 1)})
    assert with_paces(place, kept, "", False, ["nnU-Net"]).paces == {"nnU-Net": 3}


def test_of_classes_that_overlap_the_smaller_one_is_the_pixels_label():
    masks = np.zeros((2, 4, 4), np.uint8)
    masks[0, :, :2], masks[1, 1:3, 1:3] = 1, 1
    assert nnunet.flattened(masks).tolist() == [[1, 1, 0, 0], [1, 2, 2, 0], [1, 2, 2, 0], [1, 1, 0, 0]]


def test_nnunet_gets_every_class_and_plain_labels_score_below_one(place, tmp_path):
    nnunet.write_dataset(place, tmp_path / "raw")
    labels = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in (tmp_path / "raw/labelsTr").iterdir()]
    assert len(labels) == len(place.training)
    assert {label.shape for label in labels} == {(64, 64)}
    assert set(np.unique(labels)) <= set(range(30))
    assert 0.8 < nnunet.perfect(place, tmp_path / "perfect.csv") < 1


def _measured(job, dice):
    return [{"system": job.system, "images": 100, "dice": dice, "seconds": 1}]


def test_a_rows_file_says_what_is_left_to_do(tmp_path):
    job, path = Job("pipeline", 3, 1), tmp_path / "rows.csv"
    rows = table.Rows(path)
    assert rows.lacks("odd", job, "")
    rows.add("odd", job, "", _measured(job, 0.5))
    again = table.Rows(path)
    assert not again.lacks("odd", job, "")
    others = (("odd", job, "x"), ("phantom", job, ""), ("odd", Job("pipeline", 3, 2), ""))
    assert all(again.lacks(*key) for key in others)


def test_the_scripts_rate_is_tuned_with_the_first_seed_on_each_set_and_budget(tmp_path):
    rows = table.Rows(tmp_path / "rows.csv")
    slow, fast = "script, rate 0.001", "script, rate 0.004"
    rows.add("odd", Job(slow, 3, 0), "", _measured(Job(slow, 3, 0), 0.5))
    assert rows.lacks("odd", Job(fast, 3, 0), "")
    assert rows.lacks("odd", Job(slow, 3, 1), "")
    rows.add("odd", Job(fast, 3, 0), "", _measured(Job(fast, 3, 0), 0.4))
    assert rows.lacks("odd", Job(slow, 3, 1), "")
    assert not rows.lacks("odd", Job(fast, 3, 1), "")
    assert rows.lacks("odd", Job(fast, 10, 0), "")


def test_gains_are_paired_by_seed_with_the_better_script(tmp_path):
    rows = table.Rows(tmp_path / "rows.csv")
    scores = {"script, rate 0.001": (0.5, 0.6), "script, rate 0.004": (0.7, 0.6), "pipeline: one model": (0.8, 0.72)}
    for system, dice in scores.items():
        for seed, score in enumerate(dice):
            job = Job(system.partition(":")[0], 3, seed)
            rows.add("odd", job, "", [{**_measured(job, score)[0], "system": system}])
    table.document(rows, table.Speeds(tmp_path / "speeds.csv"), tmp_path / "accuracy.md")
    line = next(line for line in Path(tmp_path / "accuracy.md").read_text().splitlines() if "one model" in line)
    cells = [cell.strip() for cell in line.split("|")]
    assert cells[4:9] == ["100", "0.7600 ± 0.0566", "+0.1100 ± 0.1271", "+0.02", "yes"]


@pytest.mark.parametrize(
    "change", ["", "averaging=ema averaging.decay=0.99", "+model.settings={decoder_channels: [8]}"]
)
def test_a_changes_folder_is_a_value_that_overrides_take(tmp_path, change):
    folder = tmp_path / slug(change)
    assert configs.compose([f"runs={folder}"])["runs"] == str(folder)


def test_a_change_is_compared_with_the_default_seed_by_seed(tmp_path):
    rows = table.Rows(tmp_path / "rows.csv")
    for change, dice in {"": (0.5, 0.6, 0.1), "averaging=ema": (0.7, 0.7)}.items():
        for seed, score in enumerate(dice):
            job = Job("pipeline", 3, seed)
            rows.add("odd", job, change, [{**_measured(job, score)[0], "system": "pipeline: one model"}])
    table.document(rows, table.Speeds(tmp_path / "speeds.csv"), tmp_path / "accuracy.md")
    line = next(line for line in (tmp_path / "accuracy.md").read_text().splitlines() if "averaging=ema" in line)
    assert [cell.strip() for cell in line.split("|")][1:5] == ["`averaging=ema`", "3", "+0.1500 ± 0.6353", "+0.1500"]


def test_seeds_are_trained_thrice_at_three_minutes_and_nnunet_at_ten():
    rounds = jobs(["pipeline", "script", "nnU-Net"], [10, 3], None)
    assert [len(todo) for todo in rounds] == [3, 3, 3, 4]
    assert [{(job.minutes, job.seed) for job in todo} for todo in rounds] == [{(3, 0)}, {(3, 1)}, {(3, 2)}, {(10, 0)}]
