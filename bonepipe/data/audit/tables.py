"""What lies beside the images: metadata, lists of labels that settings name, the answer, the fold file."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from bonepipe.data.audit.finding import Checked, Finding, from_error, without_path
from bonepipe.data.catalog import (
    Radiograph,
    read_catalog,
)
from bonepipe.data.folds import FoldSpec, check_rule, find_faults, require_enough
from bonepipe.data.folds import split as split_into_folds
from bonepipe.data.metadata import ROTATED_FILE, read_rotated
from bonepipe.data.metadata import read_with_faults as read_metadata
from bonepipe.data.pseudo import pseudo_images
from bonepipe.data.spec import DataSpec
from bonepipe.data.store import amendments, existing
from bonepipe.data.submission import ANSWER, read_answer
from bonepipe.errors import BonepipeError, suggestion


def check_metadata(spec: DataSpec, images: Sequence[Radiograph]) -> Iterator[Finding]:
    """The tables of patients can be read, make sense, and list the patients that have images."""
    patients = {image.patient for image in images}
    try:
        rotated, (metadata, faults) = read_rotated(spec) or set(), read_metadata(spec)
    except BonepipeError as error:
        yield from_error(error, spec.path / (spec.metadata or ""), "unreadable metadata")
        return
    for patient in sorted(rotated - patients):
        message = f"{patient!r} has no images{suggestion(patient, patients)}"
        yield Finding("warning", spec.path / ROTATED_FILE, "patient", message, "rotated wrist without images")
    if spec.metadata is None:
        return
    path = spec.path / spec.metadata
    if not path.is_file():
        yield Finding("warning", path, "data.metadata", "no such file; age and sex stay unknown", "no metadata")
        return
    for column, message in faults:
        yield Finding("warning", path, column, message, "metadata that is not known")
    for patient in sorted(metadata.keys() - patients):
        yield Finding("warning", path, "ID", f"{patient} has no images", "metadata without images")
    for patient in sorted(patients - metadata.keys()):
        yield Finding("warning", path, "ID", f"{patient} has images but no row", "images without metadata")


def check_lists(spec: DataSpec, checked: Sequence[Checked]) -> Iterator[Finding]:
    """The lists of labels that settings name can be read and fit the images, and leave some to train on."""
    bare = replace(spec, corrections=None, masks=None, pseudo=None)
    train = [image.image for image in checked if image.image.split != "test"]
    shapes = {image.image.name: image.shape for image in checked if image.shape is not None}
    lists = {
        "data.corrections": (spec.corrections, replace(bare, corrections=spec.corrections)),
        "data.masks": (spec.masks, replace(bare, masks=spec.masks)),
        "data.pseudo": (spec.pseudo, replace(bare, pseudo=spec.pseudo)),
    }
    for key, (path, with_list) in lists.items():
        if path is None:
            continue
        try:
            existing(key, Path(path))
            amended = amendments([*train, *pseudo_images(with_list)], with_list)
            for name in amended.keys() & shapes.keys():
                amended[name].require_inside(shapes[name])
        except BonepipeError as error:
            yield Finding("error", Path(path), key, str(error).removeprefix(f"{path}: "), "unusable list")
            continue
        kept = [image for image in train if not getattr(amended.get(image.name), "dropped", False)]
        if train and not kept:
            yield Finding("error", Path(path), key, "drops every image: none is left to train on", "unusable list")


def check_answer(spec: DataSpec, checked: Sequence[Checked]) -> Iterator[Finding]:
    """The test set's truth, where it is there, has masks of these images and classes that lie inside them."""
    path = spec.path / ANSWER
    shapes = {image.image.name: image.shape for image in checked if image.image.split == "test" and image.shape}
    if not os.path.lexists(path) or not shapes:
        return
    try:
        for warning in read_answer(path, shapes, spec.classes).warnings:
            yield Finding("warning", path, "", without_path(path, warning), "incomplete answer")
    except BonepipeError as error:
        yield from_error(error, path, "unusable answer")


def check_folds(folds: FoldSpec, images: Sequence[Radiograph], spec: DataSpec) -> Iterator[Finding]:
    """The fold file splits exactly these images, by patient if its kind says so; where there is none it can be made."""
    path = Path(folds.file)
    train = [image for image in images if image.split == "train"]
    if not train:
        return
    try:
        if not path.exists():
            require_enough(train, folds)
            if folds.stratified:  # each stratum needs enough; metadata tell of them
                split_into_folds([image for image in read_catalog(spec) if image.split == "train"], folds)
            return
        check_rule(folds)
        for message in find_faults(path, train, folds.count, groups=folds.groups):
            yield Finding("error", path, "", message, "fold file")
    except BonepipeError as error:
        yield from_error(error, path, "fold file")
