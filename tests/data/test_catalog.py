import os
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from bonepipe.data import audit, catalog
from bonepipe.data.folds import FoldSpec
from bonepipe.data.spec import DataSpec, External
from bonepipe.errors import BonepipeError
from bonepipe.pipeline import images
from bonepipe.report import masks

TRAIN = ["ID001/image1661130828152_R", "ID001/image1661130828999_L", "ID002/image1661130000001", "ID003/odd_name_x"]
TEST = ["ID009/image2", "ID010/image1"]


@pytest.fixture
def spec(tmp_path):
    """A dataset of four train and two test images, without metadata."""
    for split, names in (("train", TRAIN), ("test", TEST)):
        for name in names:
            path = tmp_path / split / "DCM" / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.zeros((4, 4), np.uint8))
    for name in TRAIN:
        path = tmp_path / "train" / "outputs_json" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    return DataSpec(name="hand", root=str(tmp_path), classes=("Radius",), size=64)


def test_names_order_and_files(spec):
    rows = catalog.read_catalog(spec)
    assert [row.name for row in rows] == [f"{name.split('/')[1]}.png" for name in [*TRAIN, *TEST]]
    assert [row.split for row in rows] == ["train"] * 4 + ["test"] * 2
    assert rows[0].path == spec.path / "train/DCM" / f"{TRAIN[0]}.png"
    assert rows[0].annotation == spec.path / "train/outputs_json" / f"{TRAIN[0]}.json"
    assert rows[-1].annotation is None


def test_the_patient_is_the_folder_unless_configured(spec):
    assert [row.patient for row in catalog.read_catalog(spec)] == ["ID001"] * 2 + ["ID002", "ID003", "ID009", "ID010"]
    digits = DataSpec(name="hand", root=spec.root, classes=("Radius",), size=64, patient=r"ID\d*(\d)/")
    assert [row.patient for row in catalog.read_catalog(digits)] == ["1", "1", "2", "3", "9", "0"]


def test_a_pattern_that_does_not_fit_is_refused(spec):
    for pattern in ("^(P[0-9]+)/", "^ID(P)?"):
        other = DataSpec(name="hand", root=spec.root, classes=("Radius",), size=64, patient=pattern)
        with pytest.raises(BonepipeError, match=r"image1661130828152_R\.png: data\.patient="):
            catalog.read_catalog(other)


def test_the_side_only_where_the_name_tells(spec):
    assert [row.side for row in catalog.read_catalog(spec)] == ["R", "L", None, None, None, None]


def test_without_metadata_everything_is_unknown(spec):
    row = catalog.read_catalog(spec)[0]
    assert (row.age, row.sex, row.weight, row.height, row.rotated) == (None,) * 5


def test_metadata_and_rotated_wrists_join(spec):
    table = {
        "ID": [1, 2],
        "나이": [24, 25],
        "성별": ["여", "_x0008_남"],
        "체중(몸무게)": [50, 60.5],
        "키(신장)": [160, 170],
    }
    pd.DataFrame(table).to_excel(spec.path / "meta_data.xlsx", index=False)
    (spec.path / "rotated.csv").write_text("patient\nID001\nID010\n")
    rows = catalog.read_catalog(spec)
    assert (rows[2].patient, rows[2].age, rows[2].sex, rows[2].weight, rows[2].height) == ("ID002", 25, "M", 60.5, 170)
    assert [row.rotated for row in rows] == [True, True, False, False, False, True]


def test_patients_that_are_links_are_found_and_leftovers_are_not(spec, tmp_path_factory):
    """Of images and of annotations; nothing that a file manager hides is an image or tells a class."""
    elsewhere = tmp_path_factory.mktemp("disk")
    for part in ("train/DCM", "train/outputs_json"):
        shutil.move(spec.path / part / "ID001", elsewhere / part.partition("/")[2])
        (spec.path / part / "ID001").symlink_to(elsewhere / part.partition("/")[2])
        (spec.path / part / "ID003" / "loop").symlink_to(spec.path / "train")
    before = catalog.read_catalog(spec)
    assert [row.name for row in before] == [f"{name.split('/')[1]}.png" for name in [*TRAIN, *TEST]]
    assert all(row.annotation for row in before[:4])
    for name in (".ipynb_checkpoints/image2.png", "._image1.png", "__MACOSX/ID009/image2.png"):
        path = spec.path / "test/DCM/ID009" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (spec.path / "train/outputs_json/._image.json").write_bytes(b"\0\5")
    assert catalog.read_catalog(spec) == before
    with pytest.raises(BonepipeError, match="no list under 'annotations'"):  # the first real file, not the hidden one
        catalog.known_classes(spec.path)


def test_endings_in_another_case_are_the_same_endings(spec):
    name = TRAIN[2]
    image, annotation = (spec.path / "train" / part / name for part in ("DCM", "outputs_json"))
    image.with_suffix(".png").rename(image.with_suffix(".PNG"))
    annotation.with_suffix(".json").rename(annotation.with_suffix(".Json"))
    row = catalog.train_images(spec)[2]
    assert (row.path, row.annotation) == (image.with_suffix(".PNG"), annotation.with_suffix(".Json"))
    shutil.copy(row.path, image.with_suffix(".png"))
    with pytest.raises(BonepipeError, match="the same file name twice"):
        catalog.read_catalog(spec)


@pytest.mark.parametrize("name", [b"ID002/a\nb.png", b"ID\r2/ab.png", b"ID002/\xbc\xd5.png", b"\xbc\xd5/ab.png"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_name_that_no_csv_can_hold_is_refused(spec, split, name):
    path = spec.path / split / "DCM" / os.fsdecode(name)
    path.parent.mkdir(exist_ok=True)
    shutil.copy(spec.path / "train/DCM" / f"{TRAIN[0]}.png", path)
    with pytest.raises(BonepipeError, match=r"its path (holds a line break|is not UTF-8).*; rename it") as error:
        catalog.read_catalog(spec)
    str(error.value).encode("utf-8")
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    "copy", ["train/DCM/ID002/image1661130828152_R.png", "test/DCM/ID002/image1661130828152_R.png"]
)
def test_a_name_used_twice_is_refused(spec, copy):
    (spec.path / copy).parent.mkdir(exist_ok=True)
    shutil.copy(spec.path / "train/DCM" / f"{TRAIN[0]}.png", spec.path / copy)
    with pytest.raises(BonepipeError, match=r"152_R\.png and .*ID002/.*152_R\.png: the same file name twice"):
        catalog.read_catalog(spec)


def test_nothing_there(spec, tmp_path):
    for root, reason in ((tmp_path / "none", "data.root: no folder"), (tmp_path / "train/outputs_json", "no images")):
        with pytest.raises(BonepipeError, match=reason):
            catalog.read_catalog(DataSpec(name="hand", root=str(root), classes=("Radius",), size=64))


def test_train_images_need_annotations(spec):
    assert [row.name for row in catalog.train_images(spec)] == [f"{name.split('/')[1]}.png" for name in TRAIN]
    for name in TRAIN[1:3]:
        (spec.path / "train/outputs_json" / f"{name}.json").unlink()
    with pytest.raises(
        BonepipeError, match=r"999_L\.png: image without annotation, expected .*999_L\.json \(and 1 more\)"
    ):
        catalog.train_images(spec)
    shutil.rmtree(spec.path / "train")
    with pytest.raises(BonepipeError, match="train/DCM: no training images"):
        catalog.train_images(spec)


def test_test_images_by_spec_and_by_folder(spec):
    names = ["image2.png", "image1.png"]  # path order, not name order
    assert [row.name for row in catalog.test_images(spec)] == names
    assert [row.name for row in catalog.test_images(spec.path)] == names
    shutil.rmtree(spec.path / "test")
    with pytest.raises(BonepipeError, match="test/DCM: no test images"):
        catalog.test_images(spec)


def test_known_classes_by_the_labels_in_use(phantom_root, chest_root, tmp_path):
    assert catalog.known_classes(phantom_root)[18:20] == ["finger-19", "Trapezium"]
    assert catalog.known_classes(chest_root)[0] == "Left Lung"
    with pytest.raises(BonepipeError, match="no labels found"):
        catalog.known_classes(tmp_path)


def test_the_phantom_is_read_whole(phantom_root):
    rows = catalog.read_catalog(DataSpec(name="hand", root=str(phantom_root), classes=("Radius",), size=64))
    assert [sum(row.split == part for row in rows) for part in ("train", "test")] == [20, 8]
    assert all(row.age is not None and row.sex in ("F", "M") and row.rotated is not None for row in rows)


@pytest.fixture
def external(spec, tmp_path_factory):
    """The dataset of `spec` joined by another with a patient of the same id."""
    root = tmp_path_factory.mktemp("external")
    for folder, suffix in (("train/DCM", "png"), ("train/outputs_json", "json"), ("test/DCM", "png")):
        path = root / folder / "ID001" / f"more{folder[:2]}.{suffix}"
        path.parent.mkdir(parents=True)
        if suffix == "png":
            cv2.imwrite(str(path), np.zeros((4, 4), np.uint8))
        else:
            path.write_text("{}")
    return replace(spec, external=(External(root=str(root), prefix="more"),))


def test_external_images_join_with_patients_of_their_own(spec, external):
    (image,) = catalog.external_images(external)
    root = external.of(external.external[0]).path
    assert (image.name, image.patient, image.split) == ("moretr.png", "more-ID001", "external")
    assert image.path == root / "train/DCM/ID001/moretr.png"
    assert image.annotation == root / "train/outputs_json/ID001/moretr.json"
    assert catalog.train_images(external) == catalog.train_images(spec)
    assert image.annotated is None
    assert image.knows("Radius")
    assert catalog.external_images(spec) == []


def test_an_external_image_knows_the_classes_that_its_dataset_annotates(spec, external):
    some = replace(spec, classes=("Radius", "Ulna"), external=(replace(external.external[0], classes=("Ulna",)),))
    (image,) = catalog.external_images(some)
    assert [image.knows(label) for label in some.classes] == [False, True]
    assert not any(row.knows("Radius") for row in catalog.test_images(spec))


@pytest.mark.parametrize("name", ["ID002/image1661130000001", "ID009/image2"])
def test_a_name_that_two_datasets_use_is_refused(external, name):
    """Of a train image and of a test image."""
    root = external.of(external.external[0]).path
    for folder, suffix in (("train/DCM", "png"), ("train/outputs_json", "json")):
        (root / folder / "ID001" / f"moretr.{suffix}").rename(root / folder / "ID001" / f"{name[6:]}.{suffix}")
    with pytest.raises(BonepipeError, match=rf"{name[6:]}\.png and .*{name}\.png: the same file name in two datasets"):
        catalog.external_images(external)


def test_an_external_dataset_that_is_missing_or_bare_is_named(spec, external, tmp_path):
    with pytest.raises(BonepipeError, match=r"data\.external: no folder .*nowhere"):
        catalog.external_images(replace(spec, external=(External(root=str(tmp_path / "nowhere")),)))
    annotation = external.of(external.external[0]).path / "train/outputs_json/ID001/moretr.json"
    annotation.unlink()
    with pytest.raises(BonepipeError, match=r"moretr\.png: image without annotation"):
        catalog.external_images(external)


UIDS = ["1.2.840.113619.2.66.1", "1.2.840.113619.2.66.2", "CR.1.2.840.10008.5"]


def test_dicom_files_named_by_their_uid_are_images_without_suffix(spec, write_dicom):
    for part, names in (("train", UIDS[:2]), ("test", UIDS[2:])):
        for name in names:
            write_dicom(spec.path / part / "DCM" / "ID020" / name, np.full((4, 4), 7, np.uint8))
    (spec.path / "train/DCM/ID020/notes.7").write_text("no image")
    for name in UIDS[:2]:
        path = spec.path / "train/outputs_json/ID020" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
    mixed = replace(spec, images=(".png", ""))
    assert [row.name for row in catalog.train_images(mixed)][4:] == UIDS[:2]
    assert [row.annotation.name for row in catalog.train_images(mixed)][4:] == [f"{name}.json" for name in UIDS[:2]]
    assert catalog.test_images(mixed)[-1].name == UIDS[2]
    findings = [row for row in audit.audit(spec, FoldSpec(file="nowhere.csv")) if "another suffix" in row.topic]
    assert sorted(row.path.name for row in findings) == UIDS
    assert len(images.find_images([spec.path / "train/DCM/ID020"], spec.path / "out")) == 2
    assert masks.polygons_file(spec.path, Path(UIDS[0])).name == f"{UIDS[0]}.json"


def test_what_a_dicom_header_tells_is_read_whatever_the_file_is_called(spec, write_dicom):
    path = spec.path / "test/DCM/ID010/image1.png"
    write_dicom(path, np.full((4, 4), 7, np.uint8), PatientSex="F", PatientAge="045Y")
    row = catalog.test_images(spec)[-1]
    assert (row.name, row.sex, row.age) == ("image1.png", "F", 45.0)


def test_a_test_set_of_other_formats_is_found_by_its_folder(spec):
    for path in (spec.path / "test").rglob("*.png"):
        path.rename(path.with_suffix(".jpg"))
    assert [row.name for row in catalog.test_images(spec.path)] == ["image2.jpg", "image1.jpg"]
