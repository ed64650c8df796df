from pathlib import Path

import pytest
from sklearn.model_selection import GroupKFold

from bonepipe.data import folds
from bonepipe.data.catalog import Radiograph
from bonepipe.data.folds import FoldSpec, take_patients
from bonepipe.errors import BonepipeError

COUNT = 3


@pytest.fixture
def images():
    """Seven patients with one to three images."""
    owners = [f"ID{p:03d}" for p in range(7) for _ in range(1 + p % 3)]
    return [
        Radiograph(f"image{i}.png", owner, Path(f"{owner}/image{i}.png"), "train") for i, owner in enumerate(owners)
    ]


@pytest.fixture
def path(tmp_path, images):
    path = tmp_path / "folds" / "hand.csv"
    folds.ensure(FoldSpec(file=str(path), count=COUNT), images)
    return path


def rows(path):
    return [line.split(",") for line in path.read_text().splitlines()]


def rewrite(path, change):
    path.write_text("\n".join(",".join(row) for row in change(rows(path))) + "\n")


def assert_fails(path, images, reason, count=COUNT):
    with pytest.raises(BonepipeError, match=rf"hand\.csv: .*{reason}"):
        folds.read(path, images, count)


@pytest.mark.parametrize("seed", [None, 4])
def test_every_image_once_and_no_patient_in_two_folds(images, seed):
    assignment = folds.split(images, FoldSpec(file="x", count=COUNT, seed=seed))
    assert sorted(assignment) == sorted(image.name for image in images)
    assert set(assignment.values()) == set(range(COUNT))
    for patient in {image.patient for image in images}:
        assert len({assignment[image.name] for image in images if image.patient == patient}) == 1


def test_the_folds_are_scikit_learns(images):
    expected = {}
    groups = [image.patient for image in images]
    for number, (_, held_out) in enumerate(GroupKFold(COUNT).split(images, groups=groups)):
        expected |= {images[i].name: number for i in held_out}
    assert folds.split(images, FoldSpec(file="x", count=COUNT)) == expected
    assert folds.split(images, FoldSpec(file="x", count=COUNT, seed=1)) != expected


def test_round_trip(path, images):
    assert rows(path)[0] == ["image_name", "patient", "fold"]
    assert [row[:2] for row in rows(path)[1:]] == [[image.name, image.patient] for image in images]
    assert folds.read(path, images, COUNT) == folds.split(images, FoldSpec(file="x", count=COUNT))
    assert [other.name for other in path.parent.iterdir()] == ["hand.csv"]


def test_a_file_that_is_there_is_kept(path, images):
    rewrite(path, lambda lines: [[a, b, {"0": "1", "1": "0"}.get(c, c)] for a, b, c in lines])
    before = path.read_bytes()
    swapped = folds.ensure(FoldSpec(file=str(path), count=COUNT), images)
    assert swapped != folds.split(images, FoldSpec(file="x", count=COUNT))
    assert path.read_bytes() == before


def test_a_spreadsheets_byte_order_mark_is_understood(path, images):
    before = folds.read(path, images, COUNT)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert folds.read(path, images, COUNT) == before


def test_a_leak_is_refused(path, images):
    """Image 1 and 2 belong to patient ID001."""
    numbers = {row[0]: row[2] for row in rows(path)}
    other = str((int(numbers["image1.png"]) + 1) % COUNT)
    rewrite(path, lambda lines: [[a, b, other if a == "image1.png" else c] for a, b, c in lines])
    assert_fails(path, images, "column fold: patient ID001 leaks across folds . and .")


def test_a_leak_by_relabelled_patients_is_refused(path, images):
    """The catalog says who the patient is, whatever the file's own column claims."""
    rewrite(path, lambda lines: [lines[0], *([a, f"of {a}", str(i % COUNT)] for i, (a, _, _) in enumerate(lines[1:]))])
    assert_fails(path, images, "leaks across folds")


def test_missing_unknown_and_repeated_images_are_refused(path, images):
    assert_fails(
        path,
        [*images, Radiograph("new.png", "ID009", Path("new.png"), "train")],
        "column image_name: new.png is missing",
    )
    assert_fails(path, images[:-1], f"column image_name: {images[-1].name} is not in the dataset")
    rewrite(path, lambda lines: [*lines, lines[1]])
    assert_fails(path, images, "column image_name: image0.png is listed twice")


@pytest.mark.parametrize("number", ["x", "", "-1", "3", "1.0", "²", " 1"])
def test_bad_numbers_are_refused(path, images, number):
    rewrite(path, lambda lines: [*lines[:3], [*lines[3][:2], number], *lines[4:]])
    assert_fails(path, images, r"line 4, column fold: .* is not one of 0\.\.2")


def test_a_row_that_is_too_short_is_refused(path, images):
    rewrite(path, lambda lines: [*lines[:2], lines[2][:1], *lines[3:]])
    assert_fails(path, images, "line 3, column fold: ''")


def test_another_number_of_folds_is_refused(path, images):
    assert_fails(path, images, "column fold: no image in fold 3 of 4", count=4)
    assert_fails(path, images, r"column fold: '2' is not one of 0\.\.1", count=2)


def test_no_fold_file(path, images):
    path.write_text("image,fold\nimage0.png,1\n")
    assert_fails(path, images, "no column 'image_name'")
    path.write_text("image_name,patient,fold\n")
    assert_fails(path, images, "no rows")
    path.write_bytes(b"\xff\xfe" * 20)
    assert_fails(path, images, "cannot be read")
    path.unlink()
    assert_fails(path, images, "cannot be read")


def test_too_few_patients(images):
    with pytest.raises(BonepipeError, match=r"folds\.count=8: only 7 patients"):
        folds.split(images, FoldSpec(file="x", count=8))
    with pytest.raises(ValueError, match="at least 2"):
        FoldSpec(file="x", count=1)


def test_all_faults_are_listed(path, images):
    rewrite(path, lambda lines: [*lines[:1], [lines[1][0], "ID000", "9"], *lines[3:], ["odd.png", "ID", "0"]])
    found = folds.find_faults(path, images, COUNT)
    assert [any(word in message for message in found) for word in ("'9'", "image1.png is missing", "odd.png")] == [
        True
    ] * 3


def test_the_summary_counts(path, images):
    assignment = folds.read(path, images, COUNT)
    lines = folds.summary(images, assignment).splitlines()
    assert len(lines) == COUNT
    for number, line in enumerate(lines):
        mine = [image for image in images if assignment[image.name] == number]
        assert line == f"fold {number}: {len({i.patient for i in mine})} patients, {len(mine)} images"


def test_a_fraction_takes_whole_patients():
    patients = [f"p{number % 7}" for number in range(21)]
    taken = take_patients(patients, 0.4, seed=3)
    chosen = {patients[position] for position in taken}
    assert len(chosen) == 3  # 0.4 * 7, rounded up
    assert taken == [position for position, patient in enumerate(patients) if patient in chosen]
    assert take_patients(patients, 1.0, seed=3) == list(range(21))
    assert take_patients(patients, 1e-9, seed=3) != []


def test_a_smaller_fraction_lies_inside_a_larger_and_depends_on_the_seed():
    patients = [f"p{number}" for number in range(40)]
    sets = [set(take_patients(patients, share, seed=3)) for share in (0.1, 0.5, 0.9)]
    assert sets[0] < sets[1] < sets[2]
    assert set(take_patients(patients, 0.5, seed=4)) != sets[1]
