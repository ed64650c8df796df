"""A whole dataset of DICOM files, from the audit to the submission."""

import shutil

import cv2
import numpy as np
import pytest
from in_process import folds_here

from bonepipe import cli
from bonepipe.config import compose
from bonepipe.pipeline.experiment import Experiment

SYNTAXES = ("ExplicitVRLittleEndian", "RLELossless", "JPEGLosslessProcess14_1", "JPEGLSLossless", "JPEG2000Lossless")


@pytest.fixture(scope="module")
def dicom_root(phantom_root, write_dicom, tmp_path_factory):
    """The phantom's hands as DICOM: every syntax, both photometric interpretations, suffixes or none; no metadata."""
    root = tmp_path_factory.mktemp("dicom") / "data"
    shutil.copytree(phantom_root / "train" / "outputs_json", root / "train" / "outputs_json")
    for number, path in enumerate(sorted(phantom_root.rglob("*.png"))):
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        target = root / path.relative_to(phantom_root).with_suffix(("", ".dcm", ".DICOM")[number % 3])
        negative = number % 2 == 1
        elements = {"PatientID": path.parent.name, "PatientSex": "FM"[number // 2 % 2]}
        pixels = 255 - grey if negative else grey
        photometric = "MONOCHROME1" if negative else "MONOCHROME2"
        write_dicom(target, pixels, SYNTAXES[number % len(SYNTAXES)], photometric=photometric, **elements)
    return root


def settings(root, folder):
    return [
        "experiment=debug", "data=dicom", "data.name=dicom", f"data.root={root}", "data.metadata=null", "device=cpu",
        "folds=holdout", f"folds.file={folder / 'folds.csv'}", f"runs={folder / 'runs'}", "model=mobile_unet",
        "trainer.epochs=1", "trainer.train_batches=1", "tta=none", "data.strata=[sex]", "strata.by=[sex]",
    ]  # fmt: skip


def test_the_store_is_that_of_the_same_greys_as_png(dicom_root, phantom_root, tmp_path):
    stores = [
        Experiment(compose([*settings(root, tmp_path / root.parent.name), *more])).cohort.store
        for root, more in ((dicom_root, []), (phantom_root, ["data=hand", "data.patient_tag=null"]))
    ]
    order = [np.argsort([name.split(".")[0] for name in store.names]) for store in stores]
    for name in ("images", "planes", "thumbnails"):
        one, other = (getattr(store, name)[places] for store, places in zip(stores, order, strict=True))
        assert (one == other).all()


def test_dicom_goes_from_the_audit_to_the_submission(dicom_root, rows_of, tmp_path, capfd, monkeypatch):
    folds_here(monkeypatch)
    words = settings(dicom_root, tmp_path)
    assert cli.main(["doctor", *words]) == 0
    assert " 0 errors" in capfd.readouterr().out
    assert cli.main(["submit", *words]) == 0
    told = capfd.readouterr().err
    assert "pydicom" not in told
    assert "gdcm" not in told.lower()
    cohort = Experiment(compose(words)).cohort
    assert {image.sex for image in cohort.own_images} == {"F", "M"}
    rows = rows_of(tmp_path / "runs" / "debug" / "submission.csv")
    assert list(dict.fromkeys(name for name, _ in rows)) == [image.path.name for image in cohort.test_images]
    assert cli.main(["check", str(tmp_path / "runs/debug/submission.csv"), "--data", str(dicom_root)]) == 0
