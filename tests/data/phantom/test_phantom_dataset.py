"""The generated folder against the format's description, and every table against an independent drawing."""

import hashlib
import itertools
import json
import re

import cv2
import numpy as np
import pandas as pd
import pytest

from bonepipe import cli
from bonepipe.data.phantom import dataset
from bonepipe.data.phantom.annotation import PERMUTATION
from bonepipe.data.phantom.classes import CLASSES
from bonepipe.data.phantom.dataset import write_dataset
from bonepipe.data.phantom.plan import make_plan
from bonepipe.data.phantom.sample import draw_sample
from bonepipe.errors import BonepipeError

PATIENTS, TEST_PATIENTS, SIZE, SEED = 24, 5, 128, 3


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    out = tmp_path_factory.mktemp("phantom") / "set"
    write_dataset(out, PATIENTS, TEST_PATIENTS, SIZE, SEED, workers=1)
    return out


def tree(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def hands(root, split="train"):
    """Pairs of (patient folder's name, sorted images)."""
    return [(folder.name, sorted(folder.glob("*.png"))) for folder in sorted((root / split / "DCM").iterdir())]


def annotation(root, patient, stem):
    return json.loads((root / "train" / "outputs_json" / patient / f"{stem}.json").read_text(encoding="utf-8"))


def truth(plan, image_name):
    """Polygons by class as drawn from the seed, before any fault is planted."""
    stem = image_name.removesuffix(".png")
    visit = next(visit for visit in plan.visits if stem in visit.stems)
    return draw_sample(visit, visit.stems.index(stem), SIZE, SEED)[1]


def test_same_seed_same_bytes_whatever_the_workers(tmp_path):
    write_dataset(tmp_path / "one", 3, 1, 96, seed=5, workers=1)
    write_dataset(tmp_path / "two", 3, 1, 96, seed=5, workers=2)
    write_dataset(tmp_path / "other", 3, 1, 96, seed=6, workers=0)
    one, two, other = (tree(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    assert len(one) == 8 + 6 + 5
    assert one["meta_data.xlsx"] != other["meta_data.xlsx"]


def test_a_patient_does_not_depend_on_the_others(tmp_path):
    write_dataset(tmp_path / "few", 1, 0, 96, workers=1)
    write_dataset(tmp_path / "more", 3, 2, 96, workers=1)
    few, more = tree(tmp_path / "few" / "train"), tree(tmp_path / "more" / "train")
    assert len(few) == 4
    assert few.items() <= more.items()


def test_images_are_three_equal_channels(root):
    for split, count in (("train", 2 * PATIENTS), ("test", 2 * TEST_PATIENTS)):
        images = [path for _, pair in hands(root, split) for path in pair]
        assert len(images) == count
        for path in images:
            image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            assert image.shape == (SIZE, SIZE, 3)
            assert image.dtype == np.uint8
            assert (image == image[:, :, :1]).all()
            assert image.max() > 150


def test_names_sort_right_hand_first_and_only_the_first_patient_tells(root):
    for patient, (right, left) in hands(root):
        suffixes = ("_R", "_L") if patient == "ID001" else ("", "")
        for path, suffix in zip((right, left), suffixes, strict=True):
            assert re.fullmatch(rf"image\d{{13}}{suffix}", path.stem)
        thumb_minus_little = []
        for path in (right, left):
            shapes = {shape["label"]: shape["points"] for shape in annotation(root, patient, path.stem)["annotations"]}
            thumb_minus_little.append(np.mean(shapes["finger-2"], 0)[0] - np.mean(shapes["finger-18"], 0)[0])
        assert thumb_minus_little[0] < 0 < thumb_minus_little[1]


def test_annotations_have_the_exporters_fields_and_lies(root):
    planted = set(pd.read_csv(root / "planted.csv")["image_name"])
    clean = 0
    for patient, pair in hands(root):
        for path in pair:
            document = annotation(root, patient, path.stem)
            assert set(document) == {
                "annotations", "attributes", "file_id", "filename", "parent_path",
                "last_modifier_id", "metadata", "last_workers",
            }  # fmt: skip
            assert document["filename"] == f"{path.stem}.jpg"
            assert document["metadata"] == {"height": 3060, "width": 3060}
            for shape in document["annotations"]:
                assert set(shape) == {"id", "type", "attributes", "points", "label"}
                assert shape["type"] == "poly_seg"
                points = np.array(shape["points"])
                assert points.dtype.kind == "i"
                assert points.min() >= 0
                assert points.max() <= SIZE - 1
            if path.name not in planted:
                assert sorted(shape["label"] for shape in document["annotations"]) == sorted(CLASSES)
                clean += 1
    assert clean == 2 * PATIENTS - len(planted)


def test_polygons_are_dense():
    visit = make_plan(1, 0, 0).visits[0]
    for polygon in draw_sample(visit, 0, 2048, 0)[1].values():
        steps = np.hypot(*(np.roll(polygon, -1, 0) - polygon).T)
        assert 2 <= np.median(steps) <= 4
        assert len(polygon) > 60


def test_planted_faults_are_in_the_files_and_nowhere_else(root):
    planted = pd.read_csv(root / "planted.csv").set_index("image_name")
    assert sorted(planted["kind"]) == ["missing", "permuted", "ring"]
    plan = make_plan(PATIENTS, TEST_PATIENTS, SEED)
    for patient, pair in hands(root):
        for path in pair:
            expected = [(label, polygon.tolist()) for label, polygon in truth(plan, path.name).items()]
            drawn = [(shape["label"], shape["points"]) for shape in annotation(root, patient, path.stem)["annotations"]]
            if path.name not in planted.index:
                assert drawn == expected
                continue
            row = planted.loc[path.name]
            assert row["patient"] == patient
            named = row["classes"].split(" ")
            if row["kind"] == "permuted":
                assert drawn == [(PERMUTATION.get(label, label), points) for label, points in expected]
                assert set(named) == {a[0] for a, b in zip(drawn, expected, strict=True) if a != b}
            elif row["kind"] == "missing":
                assert drawn == [pair for pair in expected if pair[0] not in named]
                assert len(drawn) == len(CLASSES) - 1
            else:
                assert drawn[:-1] == expected
                ring, bone = np.zeros((2, SIZE, SIZE), np.uint8)
                cv2.fillPoly(ring, [np.array(drawn[-1][1])], 1)
                cv2.fillPoly(bone, [np.array(dict(expected)[named[0]])], 1)
                assert drawn[-1][0] == named[0]
                assert 0 < ring.sum() < bone.sum()
                assert (bone[ring > 0] == 1).mean() > 0.9


def test_ring_has_a_hole_at_full_size():
    from bonepipe.data.phantom.annotation import plant

    visit = make_plan(1, 0, 0).visits[0]
    shapes = list(draw_sample(visit, 0, 2048, 0)[1].items())
    spoilt, (label,) = plant(shapes, "ring", np.random.default_rng(0))
    ring = np.zeros((2048, 2048), np.uint8)
    cv2.fillPoly(ring, [spoilt[-1][1]], 1)
    _, hierarchy = cv2.findContours(ring, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[-2:]
    assert label == spoilt[-1][0]
    assert (hierarchy[0][:, 3] >= 0).sum() >= 1  # a contour with a parent is a hole


def test_small_sets_have_no_planted_faults(tmp_path):
    assert all(visit.faults == ("", "") for visit in make_plan(19, 0, 0).visits)
    kinds = [kind for visit in make_plan(400, 144, 0).visits for kind in visit.faults if kind]
    assert len(kinds) == 12
    assert set(kinds) == {"permuted", "missing", "ring"}


def test_the_share_of_faults_changes_nothing_else(root, tmp_path):
    write_dataset(tmp_path / "more", PATIENTS, TEST_PATIENTS, SIZE, SEED, workers=0, planted=0.4)
    planted = set(pd.read_csv(tmp_path / "more" / "planted.csv")["image_name"])
    assert len(planted) == round(0.8 * PATIENTS)
    before = set(pd.read_csv(root / "planted.csv")["image_name"])
    files = [path.relative_to(root) for path in root.rglob("*.*") if path.name not in ("planted.csv", "meta_data.xlsx")]
    differ = {path for path in files if (root / path).read_bytes() != (tmp_path / "more" / path).read_bytes()}
    assert {path.suffix for path in differ} == {".json"}
    assert planted - before <= {f"{path.stem}.png" for path in differ} <= planted | before


def test_answer_is_the_filled_polygons(root):
    answer = pd.read_csv(root / "answer.csv", keep_default_na=False)
    assert list(answer.columns) == ["image_name", "class", "rle", "Usage"]
    paths = [path for _, pair in hands(root, "test") for path in pair]
    assert list(answer["image_name"]) == [path.name for path in paths for _ in CLASSES]
    assert list(answer["class"]) == list(CLASSES) * len(paths)
    plan = make_plan(PATIENTS, TEST_PATIENTS, SEED)
    for name, rows in answer.groupby("image_name"):
        polygons = truth(plan, name)
        for label, rle in zip(rows["class"], rows["rle"], strict=True):
            expected = np.zeros((SIZE, SIZE), np.uint8)
            cv2.fillPoly(expected, [polygons[label]], 1)
            decoded = np.zeros(SIZE * SIZE, np.uint8)
            numbers = list(map(int, rle.split()))
            for start, length in zip(numbers[::2], numbers[1::2], strict=True):
                decoded[start - 1 : start - 1 + length] = 1
            assert (decoded.reshape(SIZE, SIZE) == expected).all()


def test_usage_keeps_both_hands_together(root):
    usage = pd.read_csv(root / "answer.csv", keep_default_na=False).groupby("image_name")["Usage"].unique()
    sides = [{side for path in pair for side in usage[path.name]} for _, pair in hands(root, "test")]
    assert all(len(side) == 1 for side in sides)
    assert sorted(side.pop() for side in sides) == ["Private"] * 2 + ["Public"] * 3


def test_metadata_quirks(root):
    table = pd.read_excel(root / "meta_data.xlsx")
    assert list(table.columns) == ["ID", "나이", "성별", "체중(몸무게)", "키(신장)", "Unnamed: 5"]
    assert list(table["ID"]) == list(range(1, len(table) + 1))
    assert set(table["성별"]) <= {"_x0008_여", "_x0008_남", "남", "여", " 여", " 남"}
    assert table["성별"].nunique() >= 5
    for column, low, high in (("나이", 19, 69), ("체중(몸무게)", 42, 118), ("키(신장)", 150, 187)):
        assert table[column].dtype.kind == "i"
        assert table[column].between(low, high).all()
    assert set(table["Unnamed: 5"].dropna()) == {"네일있음"}


def test_ids_interleave_and_six_have_no_images():
    plan = make_plan(400, 144, 0)
    numbers = [visit.number for visit in plan.visits]
    assert sorted([*numbers, *plan.absent]) == list(range(1, 551))
    assert len(plan.absent) == 6
    test = [visit.test for visit in plan.visits]
    assert not test[0]
    assert sum(test) == 144
    assert sum(a != b for a, b in itertools.pairwise(test)) > 100


def test_shares_of_rotated_wrists_are_the_real_ones():
    plan = make_plan(400, 144, 0)
    assert sum(visit.rotated for visit in plan.visits if not visit.test) == 47
    assert sum(visit.rotated for visit in plan.visits if visit.test) == 83
    assert sum(visit.rotated for visit in make_plan(5, 0, 0).visits) == 1


def test_rotated_wrists_are_listed_and_bent(root):
    listed = set(pd.read_csv(root / "rotated.csv")["patient"])
    plan = make_plan(PATIENTS, TEST_PATIENTS, SEED)
    assert {visit.patient for visit in plan.visits if visit.rotated} == listed
    assert {visit.test for visit in plan.visits if visit.rotated} == {False, True}
    bends = {True: [], False: []}
    for visit in plan.visits:
        for hand in (0, 1):
            bends[visit.rotated].append(wrist_bend(draw_sample(visit, hand, 256, SEED)[1]))
    assert min(bends[True]) > 14 > max(bends[False])


def wrist_bend(polygons):
    """Angle in degrees between the forearm's shaft and the middle metacarpal."""
    ulna, radius = polygons["Ulna"], polygons["Radius"]
    ends = []
    for low, high in ((0.55, 0.7), (0.85, 1.0)):
        middles = []
        for bone in (ulna, radius):
            height = (bone[:, 1] - bone[:, 1].min()) / np.ptp(bone[:, 1])
            middles.append(bone[(height >= low) & (height <= high)].mean(axis=0))
        ends.append(np.mean(middles, axis=0))
    forearm = ends[0] - ends[1]
    metacarpal = polygons["finger-11"]
    centred = metacarpal - metacarpal.mean(axis=0)
    axis = np.linalg.svd(centred.astype(float), full_matrices=False)[2][0]
    cosine = abs(axis @ forearm) / np.hypot(*forearm)
    return float(np.degrees(np.arccos(min(1.0, cosine))))


def test_an_existing_folder_is_refused_and_kept(tmp_path, capsys):
    kept = tmp_path / "set" / "mine.txt"
    kept.parent.mkdir()
    kept.write_text("mine")
    flags = ["phantom", str(kept.parent), "--patients", "1", "--test-patients", "0", "--size", "96"]
    assert cli.main(flags) == 1
    message = capsys.readouterr().err
    assert str(kept.parent) in message
    assert "another folder" in message
    assert list(tmp_path.rglob("*")) == [kept.parent, kept]


@pytest.mark.parametrize(("patients", "test_patients", "size"), [(0, 1, 96), (1, -1, 96), (1, 0, 32)])
def test_senseless_numbers_are_refused(tmp_path, patients, test_patients, size):
    with pytest.raises(BonepipeError):
        write_dataset(tmp_path / "set", patients, test_patients, size)
    assert not list(tmp_path.iterdir())


def test_nothing_half_written_is_left(tmp_path, monkeypatch):
    written = []

    def fail_at_third(task):
        if len(written) == 2:
            raise OSError("disk full")
        written.append(dataset_write(task))
        return written[-1]

    dataset_write = dataset.write_sample
    monkeypatch.setattr(dataset, "write_sample", fail_at_third)
    with pytest.raises(OSError, match="disk full"):
        write_dataset(tmp_path / "set", 3, 0, 96, workers=1)
    assert len(written) == 2
    assert not list(tmp_path.iterdir())


def test_the_command_writes_and_says_so(tmp_path, capsys):
    out = tmp_path / "deep" / "set"
    assert cli.main(["phantom", str(out), "--patients", "1", "--test-patients", "1", "--size", "96"]) == 0
    assert "4 images of 96 x 96" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == [
        "answer.csv", "meta_data.xlsx", "planted.csv", "rotated.csv", "synthetic.json", "test", "train",
    ]  # fmt: skip
