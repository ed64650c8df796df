"""What lies in a dataset and is no file, and lists that leave nothing: named at once, never waited for."""

import os
import shutil
from pathlib import Path

import pytest

from bonepipe import config as configs
from bonepipe.data import audit, submission
from bonepipe.data.annotation import read_annotation
from bonepipe.data.catalog import read_catalog
from bonepipe.data.image import find_images, read_grey, read_shape
from bonepipe.data.metadata import read_metadata, read_rotated
from bonepipe.digests import digest
from bonepipe.errors import BonepipeError
from bonepipe.pipeline import fold
from bonepipe.pipeline.experiment import Experiment

PIPE = "cannot be read .*a pipe, a socket or a device, and no file"


@pytest.fixture
def experiment(phantom_root, tmp_path):
    """A copy of the phantom, and what the settings make of it; a function of further overrides."""
    shutil.copytree(phantom_root, tmp_path / "data")
    words = [
        "experiment=debug", f"data.root={tmp_path / 'data'}", "folds.count=2", f"folds.file={tmp_path / 'folds.csv'}",
        f"runs={tmp_path / 'runs'}",
    ]  # fmt: skip
    return lambda *more: Experiment(configs.compose([*words, *more], uses=("data", "folds", "trainer", "augment")))


@pytest.mark.parametrize(
    "read", [read_grey, read_shape, digest, submission.read, lambda path: read_annotation(path, ["Ulna"])]
)
def test_a_pipe_is_not_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(BonepipeError, match=rf"x\.png: {PIPE}"):
        read(tmp_path / "x.png")


def test_a_pipe_without_suffix_is_no_dicom_image(tmp_path):
    os.mkfifo(tmp_path / "scan")
    assert find_images(tmp_path) == []


def test_tables_that_are_pipes_or_links_to_nowhere_are_named(experiment):
    spec = experiment().data
    for name, read in ((spec.metadata, read_metadata), ("rotated.csv", read_rotated)):
        path = spec.path / name
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(BonepipeError, match=f"{name}: cannot be read.*a pipe"):
            read(spec)
        path.unlink()
        path.symlink_to("nowhere")
        with pytest.raises(BonepipeError, match=f"{name}: cannot be read.*No such file"):
            read(spec)
        path.unlink()
        assert not read(spec)


def test_the_audit_goes_on_where_an_image_is_a_pipe(experiment):
    used = experiment()
    image = sorted((used.data.path / "train" / "DCM").rglob("*.png"))[0]
    image.unlink()
    os.mkfifo(image)
    findings = audit.audit(used.data, used.folds)
    assert [str(row).partition(": ")[0] for row in findings if "a pipe" in row.message] == [str(image)]


def corrections(experiment, text):
    path = Path(experiment().data.root).parent / "mended.csv"
    path.write_text(text)
    return experiment(f"data.corrections={path}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'image_name'"), ("\n\n", "no column 'image_name'"),
        ("image_name,class,action,value\n\0,,drop,\n", "column image_name: '\\x00' is not in the dataset"),
        ("image_name,class,action,value\nnobody.png,,drop,\n", "column image_name: 'nobody.png' is not in"),
    ],
)  # fmt: skip
def test_the_audit_reads_the_corrections_that_settings_name(experiment, text, message):
    used = corrections(experiment, text)
    errors = [row for row in audit.audit(used.data, used.folds) if row.severity == "error"]
    assert [row.field for row in errors] == ["data.corrections"]
    assert message in errors[0].message


def test_a_list_that_is_not_there_is_an_error_of_the_audit(experiment):
    used = experiment("data.pseudo=nowhere.csv")
    errors = [row for row in audit.audit(used.data, used.folds) if row.severity == "error"]
    assert [(row.field, "no such file" in row.message) for row in errors] == [("data.pseudo", True)]


def test_corrections_that_drop_every_image_are_named_before_anything_is_trained(experiment):
    names = [image.name for image in read_catalog(experiment().data) if image.split == "train"]
    used = corrections(experiment, "image_name,class,action,value\n" + "".join(f"{name},,drop,\n" for name in names))
    with pytest.raises(BonepipeError, match=r"fold 0: no image is left to train on; .*data\.corrections"):
        fold._checked(used, 0)
    errors = [row for row in audit.audit(used.data, used.folds) if row.severity == "error"]
    assert [row.message for row in errors] == ["drops every image: none is left to train on"]


def test_the_audit_names_pseudo_labels_of_no_test_image(experiment):
    path = Path(experiment().data.root).parent / "pseudo.csv"
    rows = "".join(f"nobody.png,{label},,\n" for label in experiment().data.classes)
    path.write_text(f"image_name,class,rle,ambiguous\n{rows}")
    used = experiment(f"data.pseudo={path}")
    errors = [row for row in audit.audit(used.data, used.folds) if row.severity == "error"]
    assert [row.field for row in errors] == ["data.pseudo"]
    assert "nobody.png is not a test image" in errors[0].message


def test_the_audit_tells_what_an_answer_lacks(experiment):
    used = experiment()
    path = used.data.path / "answer.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[: len(lines) // 2]) + "\n")
    findings = [row for row in audit.audit(used.data, used.folds) if row.topic == "incomplete answer"]
    assert findings
    assert {(row.severity, row.path) for row in findings} == {("warning", path)}


def test_strata_too_small_for_the_folds_are_an_error_of_the_audit(experiment):
    count = len([image for image in read_catalog(experiment().data) if image.split == "train"])
    few = experiment("folds=stratified", f"folds.count={count}", "strata.by=[age]", "folds.file=nowhere.csv")
    errors = [row for row in audit.audit(few.data, few.folds) if row.severity == "error"]
    assert [row.topic for row in errors] == ["fold file"]
    assert not Path("nowhere.csv").exists()
