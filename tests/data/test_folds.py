import json
from dataclasses import replace
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
    assert sorted(other.name for other in path.parent.iterdir()) == ["hand.csv", "hand.json"]


def test_a_file_that_is_there_is_kept(path, images):
    rewrite(path, lambda lines: [[a, b, {"0": "1", "1": "0"}.get(c, c)] for a, b, c in lines])
    before = path.read_bytes()
    swapped = folds.ensure(FoldSpec(file=str(path), count=COUNT), images)
    assert swapped != folds.split(images, FoldSpec(file="x", count=COUNT))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("kind", "setting", "value", "told"),
    [
        ("group", "seed", 3, r"folds\.seed=None and not 3"),
        ("group", "kind", "kfold", "folds.kind='group' and not 'kfold'"),
        ("group", "count", 2, "folds.count=3 and not 2"),
        ("holdout", "share", 0.5, "folds.share=0.2 and not 0.5"),
        ("holdout", "seed", 4, "folds.seed=None and not 4"),
        ("stratified_group", "by", ("age",), r"folds.by=\['wrist'\] and not \['age'\]"),
        ("stratified_group", "wrist", "auto", "folds.wrist='listed' and not 'auto'"),
        ("stratified_group", "bend", 20.0, "folds.bend=11.5 and not 20.0"),
        ("stratified", "ages", (40,), r"folds.ages=\[30, 45, 60\] and not \[40\]"),
    ],
)
def test_settings_that_did_not_make_the_file_are_refused(images, tmp_path, kind, setting, value, told):
    """They would do nothing: the file is read, and not made again."""
    path = tmp_path / "hand.csv"
    count = 1 if kind == "holdout" else COUNT
    by = {"stratified_group": ("wrist",), "stratified": ("age",)}.get(kind, ())
    spec = FoldSpec(file=str(path), kind=kind, count=count, by=by, wrist="listed")
    folds.ensure(spec, images)
    with pytest.raises(BonepipeError, match=rf"hand\.csv: was made with {told}[,;] .*delete it"):
        folds.ensure(replace(spec, **{setting: value}), images)
    unused = {
        "group": {"share": 0.5, "by": ("age",)}, "holdout": {"by": ("age",), "ages": (40,)},
        "stratified_group": {"share": 0.5, "ages": (40,)}, "stratified": {"bend": 20.0, "wrist": "auto"},
    }  # fmt: skip
    folds.ensure(replace(spec, **unused[kind]), images)  # what this kind of split does not look at
    rule = json.loads(folds.rule_file(path).read_text())
    folds.rule_file(path).write_text(json.dumps({key: rule[key] for key in ("kind", "count", "seed")}))
    folds.ensure(spec, images)  # as a file that earlier versions made


def test_a_file_of_ones_own_is_used_as_it_is(path, images):
    folds.rule_file(path).unlink()
    spec = FoldSpec(file=str(path), count=COUNT)
    assert not folds.is_of_another_rule(spec, images, folds.ensure(spec, images))
    other = replace(spec, seed=3)
    kept = folds.ensure(other, images)
    assert kept == folds.split(images, spec) and folds.is_of_another_rule(other, images, kept)
    folds.rule_file(path).write_text("[")
    with pytest.raises(BonepipeError, match=r"hand\.json: cannot be read"):
        folds.ensure(spec, images)


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


def test_a_file_that_a_spreadsheet_saved_is_read(path, images):
    before = folds.read(path, images, COUNT)
    text = path.read_text().replace(",", ";").replace("image_name", "Image_Name ").replace("\n", "\n;;\n", 1)
    path.write_text(f"\ufeff{text};;\n", encoding="utf-8")
    assert folds.read(path, images, COUNT) == before
    path.write_text(path.read_text(encoding="utf-8").replace(";0\n", ";x\n", 1), encoding="utf-8")
    line = next(n for n, row in enumerate(path.read_text(encoding="utf-8").splitlines(), 1) if row.endswith(";x"))
    assert_fails(path, images, f"line {line}, column fold: 'x'")


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


KINDS = ["group", "kfold", "stratified", "stratified_group", "holdout"]
BENT = 8  # of the 60 patients of `crowd`, the last ones, as they came to the hospital


@pytest.fixture
def crowd():
    """Sixty patients with two images each, some with rotated wrists."""
    return [
        Radiograph(f"i{i}.png", f"ID{i // 2:03d}", Path(f"i{i}.png"), "train", rotated=i >= 2 * (60 - BENT))
        for i in range(120)
    ]


def spec_of(kind, file="x", **settings):
    usual = {"count": 1 if kind == "holdout" else 4, "by": ("wrist",), "wrist": "listed"}
    return FoldSpec(file=str(file), kind=kind, **usual | settings)


def torn(images, assignment):
    return {
        a.patient for a in images for b in images if a.patient == b.patient and assignment[a.name] != assignment[b.name]
    }


def rotated_share(assignment, images, fold):
    mine = [image.rotated for image in images if assignment[image.name] == fold]
    return sum(mine) / len(mine)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [None, 3])
def test_each_kind_of_split_deals_every_image_out_once(crowd, kind, seed):
    assignment = folds.split(crowd, spec_of(kind, seed=seed))
    assert sorted(assignment) == sorted(image.name for image in crowd)
    assert assignment == folds.split(crowd, spec_of(kind, seed=seed))
    sizes = [list(assignment.values()).count(fold) for fold in sorted(set(assignment.values()))]
    assert sizes == ([96, 24] if kind == "holdout" else [30] * 4)


@pytest.mark.parametrize("kind", KINDS)
def test_only_kinds_that_ignore_patients_tear_them_apart(crowd, kind):
    assignment = folds.split(crowd, spec_of(kind, seed=None if kind == "stratified_group" else 3))
    expected = torn(crowd, assignment)
    assert set(folds.torn_patients(crowd, assignment)) == expected
    assert bool(expected) == (kind in ("kfold", "stratified"))
    assert spec_of(kind).groups == (kind not in ("kfold", "stratified"))


@pytest.mark.parametrize(("kind", "tolerance"), [("stratified", 1 / 30), ("stratified_group", 2 / 30)])
def test_stratified_folds_have_the_strata_in_equal_shares(crowd, kind, tolerance):
    """To within one image, or one patient of two, a fold; by patient number alone the shares differ far more."""
    assignment = folds.split(crowd, spec_of(kind))
    found = [rotated_share(assignment, crowd, fold) for fold in range(4)]
    assert max(abs(share - BENT / 60) for share in found) <= tolerance
    blind = folds.split(crowd, spec_of("kfold"))
    assert max(abs(rotated_share(blind, crowd, fold) - BENT / 60) for fold in range(4)) > 0.3


@pytest.mark.parametrize("share", [0.1, 0.25])
def test_a_hold_out_is_one_fold_of_a_share_of_the_patients(tmp_path, crowd, share):
    images = [replace(image, rotated=None) for image in crowd]
    spec = spec_of("holdout", tmp_path / "hand.csv", share=share, seed=5)
    assignment = folds.ensure(spec, images)
    held_out = {image.patient for image in images if assignment[image.name] == 0}
    assert len(held_out) == share * 60
    assert set(assignment.values()) == {0, folds.TRAIN_ONLY}
    assert folds.summary(images, assignment).splitlines() == [
        f"fold 0: {len(held_out)} patients, {2 * len(held_out)} images",
        f"training only: {60 - len(held_out)} patients, {120 - 2 * len(held_out)} images",
    ]
    other = folds.split(images, spec_of("holdout", share=share, seed=6))
    assert held_out != {image.patient for image in images if other[image.name] == 0}


@pytest.mark.parametrize(("kind", "numbers"), [("kfold", ("0", "1")), ("group", ("0", "1")), ("holdout", ("0", "-1"))])
def test_a_torn_patient_is_refused_unless_asked_for(tmp_path, crowd, kind, numbers):
    images = crowd
    spec = spec_of(kind, tmp_path / "hand.csv", seed=3)
    folds.ensure(spec, images)
    rewrite(
        tmp_path / "hand.csv",
        lambda lines: [lines[0], *([*row[:2], new] for row, new in zip(lines[1:3], numbers, strict=True)), *lines[3:]],
    )
    if kind == "kfold":
        assert folds.ensure(spec, images)["i1.png"] == 1
        return
    with pytest.raises(BonepipeError, match=f"patient ID000 leaks across folds {' and '.join(sorted(numbers))}"):
        folds.ensure(spec, images)


def test_training_only_belongs_to_hold_outs(tmp_path, crowd):
    images = crowd
    path = tmp_path / "hand.csv"
    folds.ensure(spec_of("holdout", path), images)
    assert_fails(path, images, r"column fold: '-1' is not one of 0\.\.2")
    rewrite(path, lambda lines: [lines[0], *([a, b, "0"] for a, b, _ in lines[1:])])
    assert_fails(path, images, "every image is held out", count=1)


def test_images_are_looked_at_only_when_a_stratified_file_is_made(tmp_path, crowd):
    """They are not there, so that whoever measures wrists fails."""
    group, strata = (spec_of(kind, tmp_path / f"{kind}.csv", wrist="estimated") for kind in ("group", "stratified"))
    assert folds.ensure(group, crowd) == folds.split(crowd, group)
    with pytest.raises(BonepipeError, match=r"i0\.png: cannot be read"):
        folds.ensure(strata, crowd)
    folds.write(Path(strata.file), crowd, made := folds.split(crowd, spec_of("stratified")), strata.rule)
    assert folds.ensure(strata, crowd) == made


def test_impossible_splits_are_refused(images, crowd):
    with pytest.raises(ValueError, match=r"folds\.count=5: a hold-out is one fold"):
        FoldSpec(file="x", kind="holdout")
    with pytest.raises(ValueError, match=r"folds\.share=1"):
        FoldSpec(file="x", kind="holdout", count=1, share=1.0)
    with pytest.raises(BonepipeError, match=r"folds\.count=99: only 13 images"):
        folds.split(images, FoldSpec(file="x", kind="kfold", count=99))
    with pytest.raises(BonepipeError, match=r"folds\.count=105: .*members"):
        folds.split(crowd, spec_of("stratified", count=105))
    one = [image for image in images if image.patient == "ID002"]
    with pytest.raises(BonepipeError, match="only 1 patients"):
        folds.split(one, FoldSpec(file="x", kind="holdout", count=1))


def test_the_projects_own_fold_file_is_what_the_default_split_writes(tmp_path):
    tracked = Path("folds/phantom.csv")
    images = [Radiograph(row[0], row[1], Path(row[0]), "train") for row in rows(tracked)[1:]]
    path = tmp_path / "phantom.csv"
    folds.ensure(FoldSpec(file=str(path)), images)
    assert path.read_bytes() == tracked.read_bytes()
