"""Which files a dataset has: images of both parts, their names and patients, and their annotations."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

from bonepipe.data.audit.finding import Finding, from_error, repeats
from bonepipe.data.audit.tables import check_metadata
from bonepipe.data.catalog import (
    ANNOTATION,
    Radiograph,
    annotation_path,
    image_paths,
    is_negative,
    patient_of,
    unused_negatives,
)
from bonepipe.data.image import SUFFIXES
from bonepipe.data.image import find_images as find_image_files
from bonepipe.data.spec import DataSpec
from bonepipe.errors import BonepipeError
from bonepipe.files import find_files, name_fault, passed_over


def find_images(spec: DataSpec) -> tuple[list[Radiograph], list[Finding]]:
    """The images, without metadata, and a finding for each whose patient is unknown or whose name cannot be written."""
    images, findings = [], []
    for split, path in image_paths(spec):
        if fault := name_fault(path):
            findings.append(Finding("error", path, "", fault, "name that no CSV can hold"))
            continue
        annotation = annotation_path(spec, path) if split == "train" else None
        try:
            patient, negative = patient_of(spec, path, split), is_negative(spec, path)
            images.append(
                Radiograph(path.name, patient, path, split, annotation, negative=negative, limits=spec.limits)
            )
        except BonepipeError as error:
            findings.append(from_error(error, path, "unknown patient"))
    for pattern in unused_negatives(spec, [image.path for image in images]):
        findings.append(Finding("error", spec.path, "data.negatives", f"{pattern!r} fits no image", "unused setting"))
    return images, findings


def find_external(spec: DataSpec) -> tuple[list[Radiograph], list[Finding]]:
    """The images of external datasets that would be trained on, and what is wrong with those datasets' tables."""
    images: list[Radiograph] = []
    findings: list[Finding] = []
    for external in spec.external:
        other = spec.of(external)
        if not other.path.is_dir():
            findings.append(Finding("error", other.path, "data.external", "no such folder", "no external dataset"))
            continue
        there, more = find_images(other)
        train = [image for image in there if image.split == "train"]
        if not train:
            folder = other.path / other.train_images
            more.append(Finding("error", folder, "data.external", "no train images here", "no external dataset"))
        findings += [*more, *check_annotation_files(other, train), *check_metadata(other, there)]
        images += [replace(image, split="external", annotated=external.classes) for image in train]
    return images, findings


def check_parts(spec: DataSpec, images: Sequence[Radiograph]) -> Iterator[Finding]:
    """Both parts have images, and none is passed over."""
    splits = {image.split for image in images}
    for split, name in (("train", spec.train_images), ("test", spec.test_images)):
        folder = spec.path / name
        if split not in splits:
            severity: Literal["error", "warning"] = "error" if split == "train" else "warning"
            what = f"no {split} images"
            yield Finding(severity, folder, "", f"{what}, expected <patient>/{spec.patterns}", what)
        for path in find_image_files(folder, {*SUFFIXES, ""} - {*spec.images}):
            message = f"is passed over: only {spec.patterns} is read; data.images names what else shall be"
            yield Finding("warning", path, "", message, "image with another suffix")
        for path, reason in passed_over(folder, SUFFIXES):
            yield Finding("warning", path, "", f"is passed over: {reason}", "hidden image")


def check_names(images: Sequence[Radiograph]) -> Iterator[Finding]:
    """The submission tells images apart by file name only, results and annotations by the name without suffix."""
    for path, first in repeats((image.stem, image.path) for image in images):
        yield Finding("error", path, "", f"has the same file name as {first}", "file name used twice")


def check_patients(images: Sequence[Radiograph]) -> Iterator[Finding]:
    """A patient in both parts makes the test score too good."""
    first = {
        split: {image.patient: image.path for image in images if image.split == split} for split in ("train", "test")
    }
    for patient in sorted(first["train"].keys() & first["test"].keys()):
        message = f"patient {patient} also has train images ({first['train'][patient].parent})"
        yield Finding("warning", first["test"][patient].parent, "", message, "patient in train and test")


def check_annotation_files(spec: DataSpec, images: Sequence[Radiograph]) -> Iterator[Finding]:
    """Images without annotation, and the other way round."""
    expected = {image.annotation: image.path for image in images if image.annotation is not None}
    for annotation, path in expected.items():
        if not annotation.is_file():
            yield Finding("error", path, "", f"no annotation, expected {annotation}", "image without annotation")
    folder = spec.path / spec.annotations
    for path in find_files(folder, ANNOTATION):
        if path not in expected:
            yield Finding("warning", path, "", "no image belongs to it", "annotation without image")
    for path, reason in passed_over(folder, ANNOTATION):
        yield Finding("warning", path, "", f"is passed over: {reason}", "hidden annotation")
