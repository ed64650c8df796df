import cv2
import numpy as np
import pytest

from bonepipe.data import catalog
from bonepipe.data.dicom_header import Spacing, facts, patient, spacing
from bonepipe.data.spec import DataSpec
from bonepipe.errors import BonepipeError

PIXELS = np.arange(48, dtype=np.uint8).reshape(6, 8)


@pytest.fixture
def write(tmp_path, write_dicom):
    """Write a small file with these elements; a name of its own each time, or one that is given."""
    numbers = iter(range(99))
    return lambda name=None, **elements: write_dicom(tmp_path / (name or f"{next(numbers)}.dcm"), PIXELS, **elements)


def test_rows_and_columns_may_be_apart_differently(write):
    detector = {"ImagerPixelSpacing": [0.2, 0.1]}
    assert spacing(write(**detector)) == Spacing(0.2, 0.1, "ImagerPixelSpacing")
    assert spacing(write(**detector, PixelSpacing=[0.15, 0.14])) == Spacing(0.15, 0.14, "PixelSpacing")
    assert spacing(write(NominalScannedPixelSpacing=[0.3, 0.3])) == Spacing(0.3, 0.3, "NominalScannedPixelSpacing")
    assert spacing(write(PixelSpacing=[0, 0])) is None
    assert spacing(write()) is None


def test_a_file_of_another_format_has_no_header(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), PIXELS)
    (tmp_path / "a.png").rename(tmp_path / "a.dcm")
    assert spacing(tmp_path / "a.dcm") is None
    assert facts(tmp_path / "a.dcm") == {}
    with pytest.raises(BonepipeError, match=r"a\.dcm: data\.patient_tag=PatientID: is no DICOM file"):
        patient(tmp_path / "a.dcm", "PatientID")


@pytest.mark.parametrize(
    ("elements", "known"),
    [
        ({"PatientAge": "012Y", "PatientSex": "F"}, {"age": 12.0, "sex": "F"}),
        ({"PatientAge": "018M"}, {"age": 1.5}),
        ({"PatientAge": "", "PatientSex": "O"}, {}),
        ({"PatientAge": "999Y", "PatientWeight": 0}, {}),
        ({"PatientWeight": 61.5, "PatientSize": 1.7}, {"weight": 61.5, "height": 170.0}),
        ({"ImageLaterality": "L", "Laterality": ""}, {"side": "L"}),
        ({"Laterality": "R"}, {"side": "R"}),
        ({"ImageLaterality": "B"}, {}),
    ],
)
def test_facts_are_told_where_they_make_sense(write, elements, known):
    assert facts(write(**elements)) == pytest.approx(known)


def test_a_header_that_changes_is_read_again(write):
    assert facts(write("a.dcm", PatientAge="010Y")) == {"age": 10}
    assert facts(write("a.dcm", PatientAge="011Y", PatientComments="longer")) == {"age": 11}


def test_the_patient_is_what_the_element_says(write):
    path = write(PatientID=" ID7 ", OtherPatientIDs="x")
    assert patient(path, "PatientID") == "ID7"
    assert patient(path, "OtherPatientIDs") == "x"
    with pytest.raises(
        BonepipeError, match=r"0\.dcm: data\.patient_tag=PatientName: the header does not have it; null"
    ):
        patient(path, "PatientName")
    with pytest.raises(BonepipeError, match=r"'PatientId': DICOM has no such keyword; did you mean 'PatientID'\?"):
        patient(path, "PatientId")


def test_a_dataset_of_dicom_takes_its_patients_from_the_headers(tmp_path, write):
    write("train/DCM/study1/a.dcm", PatientID="p", Laterality="L", PatientAge="030Y")
    write("train/DCM/study2/b.DCM", PatientID="p", PatientSex="F")
    write("train/DCM/study3/c_R", PatientID="q", Laterality="L")
    (tmp_path / "train/DCM/study3/README").write_text("no image")
    cv2.imwrite(str(tmp_path / "train/DCM/study3/preview.png"), PIXELS)
    write("test/DCM/study4/d.dicom", PatientID="r")
    settings = {"name": "x", "root": str(tmp_path), "classes": ("a",), "size": 32, "metadata": None}
    spec = DataSpec(**settings, images=(".dcm", ".dicom", ""), patient_tag="PatientID")
    rows = catalog.read_catalog(spec)
    assert [(row.name, row.patient, row.side, row.age, row.sex) for row in rows] == [
        ("a.dcm", "p", "L", 30, None), ("b.DCM", "p", None, None, "F"), ("c_R", "q", "R", None, None),
        ("d.dicom", "r", None, None, None),
    ]  # fmt: skip
    assert [row.patient for row in catalog.read_catalog(DataSpec(**settings, images=(".dcm",)))] == ["study1", "study2"]
    assert [row.name for row in catalog.read_catalog(DataSpec(**settings))] == ["preview.png"]
    assert [row.name for row in catalog.test_images(tmp_path)] == ["d.dicom"], (
        "a bare path means DICOM where there is no PNG"
    )
    for name in ("study1/a", "study2/b", "study3/c_R"):
        (tmp_path / "train/outputs_json" / f"{name}.json").parent.mkdir(parents=True)
        (tmp_path / "train/outputs_json" / f"{name}.json").write_text("{}")
    assert len(catalog.train_images(spec)) == 3


@pytest.mark.parametrize("images", [(), ("dcm",), (".DCM",), (".",)])
def test_suffixes_are_suffixes(images):
    with pytest.raises(ValueError, match=r"data\.images: .*suffixes in small letters"):
        DataSpec(name="x", root="x", classes=("a",), size=32, images=images)
