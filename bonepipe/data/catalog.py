"""The dataset as a table: a row an image, found in the folders, with the metadata where there is any."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from bonepipe.config import conf_dir
from bonepipe.data import dicom_header
from bonepipe.data.annotation import read_labels
from bonepipe.data.image import SUFFIXES, find_images, read_grey, read_shape
from bonepipe.data.limits import DEFAULTS, Limits
from bonepipe.data.metadata import read_metadata, read_rotated
from bonepipe.data.spec import DataSpec
from bonepipe.errors import BonepipeError, UsageError
from bonepipe.files import file_stem, find_files, require_writable_names

ANNOTATION = (".json",)  # suffixes, in any case


@dataclass(frozen=True)
class Radiograph:
    """One image of the dataset.

    Attributes:
        name: file name, as the submission writes it.
        patient: the key that must never be split across folds.
        path, annotation: files; annotation is None for test images and where the file is missing.
        split: `train`, `test`, or `external` for further images to train on.
        side: `R`, `L`, or None where the name does not tell.
        annotated: the classes that its annotation knows; None for all.
        negative: whether dark and bright are exchanged in its file, so that they are exchanged back when it is read.
        rotated: whether the wrist is bent sideways; None where unknown.
        age, sex, weight, height: years, `F` or `M`, kilograms, centimetres; None where unknown.
        limits: how large its files may be.
    """

    name: str
    patient: str
    path: Path
    split: str
    annotation: Path | None = None
    annotated: tuple[str, ...] | None = None
    side: str | None = None
    negative: bool = False
    rotated: bool | None = None
    age: float | None = None
    sex: str | None = None
    weight: float | None = None
    height: float | None = None
    limits: Limits = DEFAULTS

    @property
    def stem(self) -> str:
        """Its name without suffix, by which its annotation and its results are told apart from those of others."""
        return file_stem(self.path)

    def knows(self, label: str) -> bool:
        """Whether its annotation tells where a class is, or that it is nowhere."""
        return self.annotation is not None and (self.annotated is None or label in self.annotated)

    def read(self) -> np.ndarray:
        """Its grey values as all that look at it see them, uint8 `[H, W]`. Raises BonepipeError, see `read_grey`."""
        grey = read_grey(self.path, self.limits)
        return 255 - grey if self.negative else grey

    def shape(self) -> tuple[int, int]:
        """Its height and width, pixels, mostly without decoding it. Raises BonepipeError, see `read_shape`."""
        return read_shape(self.path, self.limits)


def read_catalog(spec: DataSpec) -> list[Radiograph]:
    """Find the images of a dataset, train before test, each part in sorted path order.

    Raises:
        BonepipeError: no dataset there, no images in it, one file name used twice, one that no CSV can hold, unreadable
            metadata, or a pattern of `data.negatives` that fits no image.
    """
    if not spec.root or not spec.path.is_dir():
        raise BonepipeError(
            f"data.root: no folder {spec.root!r}; set DATA=... (or data.root=...), or make the phantom with `make data`"
        )
    metadata, rotated = read_metadata(spec), read_rotated(spec)
    paths, rows = image_paths(spec), []
    require_writable_names(path for _, path in paths)
    for split, path in paths:
        patient = patient_of(spec, path, split)
        bent = None if rotated is None else patient in rotated
        known = {key: fact for key, fact in metadata.get(patient, {}).items() if fact is not None}
        rows.append(_radiograph(spec, path, split, patient=patient, rotated=bent, **known))
    _check_names(spec, rows)
    for pattern in unused_negatives(spec, [row.path for row in rows]):
        raise BonepipeError(f"data.negatives: {pattern!r} fits no image of {spec.root}; correct or remove it")
    return rows


def is_negative(spec: DataSpec, path: Path) -> bool:
    """Whether `data.negatives` names an image."""
    return any(path.match(pattern) for pattern in spec.negatives)


def unused_negatives(spec: DataSpec, paths: Sequence[Path]) -> list[str]:
    """The patterns of `data.negatives` that fit none of these images."""
    return [pattern for pattern in spec.negatives if not any(path.match(pattern) for path in paths)]


def image_paths(spec: DataSpec) -> list[tuple[str, Path]]:
    """The images as (`train` or `test`, path), train before test, each part in sorted path order."""
    return [(split, path) for split in ("train", "test") for path in find_images(_folder(spec, split), spec.images)]


def _folder(spec: DataSpec, split: str) -> Path:
    return spec.path / (spec.train_images if split == "train" else spec.test_images)


def _radiograph(spec: DataSpec, path: Path, split: str, **facts: Any) -> Radiograph:
    expected = annotation_path(spec, path) if split == "train" else None
    annotation = expected if expected is not None and expected.is_file() else None
    side = re.search(r"_([RL])$", file_stem(path))  # most names do not tell, and order is no proof
    told = {**dicom_header.facts(path, spec.limits), **({"side": side.group(1)} if side else {}), **facts}
    return Radiograph(
        path.name,
        path=path,
        split=split,
        annotation=annotation,
        negative=is_negative(spec, path),
        limits=spec.limits,
        **told,
    )


def train_images(spec: DataSpec) -> list[Radiograph]:
    """The annotated images. Raises BonepipeError where there are none or one lacks its annotation."""
    return _annotated(spec, read_catalog(spec))


def external_images(spec: DataSpec) -> list[Radiograph]:
    """The annotated images of the external datasets, in order; their patients carry their dataset's prefix.

    Raises:
        BonepipeError: a dataset is missing or has no annotated images, or one of its file names is also used elsewhere.
    """
    if not spec.external:
        return []
    paths = {row.stem: row.path for row in read_catalog(spec)}
    found = []
    for external in spec.external:
        other = spec.of(external)
        if not other.path.is_dir():
            raise BonepipeError(f"data.external: no folder {external.root!r}; put it back, or correct its root")
        for row in _annotated(other, read_catalog(other)):
            if other_path := paths.get(row.stem):
                raise BonepipeError(
                    f"{row.path} and {other_path}: the same file name in two datasets; images are told apart by name "
                    "only, so rename the external image and its annotation"
                )
            paths[row.stem] = row.path
            patient = f"{external.prefix}-{row.patient}"
            found.append(replace(row, patient=patient, split="external", annotated=external.classes))
    return found


def _annotated(spec: DataSpec, catalog: Sequence[Radiograph]) -> list[Radiograph]:
    rows = [row for row in catalog if row.split == "train"]
    if not rows:
        raise BonepipeError(f"{spec.path / spec.train_images}: no training images ({spec.patterns}) here")
    bare = [row for row in rows if row.annotation is None]
    if bare:
        expected = annotation_path(spec, bare[0].path)
        more = f" (and {len(bare) - 1} more)" if len(bare) > 1 else ""
        way_out = "add it or move the image away"
        raise BonepipeError(f"{bare[0].path}: image without annotation, expected {expected}{more}; {way_out}")
    return rows


def test_images(root: str | Path | DataSpec, limits: Limits = DEFAULTS) -> list[Radiograph]:
    """The images to predict, in the order of the submission.

    A bare path is read in the competition's layout and within the limits, its images being PNG or, where there is none,
    of any kind that can be read.
    """
    if isinstance(root, DataSpec):
        spec = root
    else:
        spec = DataSpec(name="any", root=str(root), classes=("any",), size=32, metadata=None, limits=limits)
        if not find_images(_folder(spec, "test"), spec.images):
            spec = replace(spec, images=(*SUFFIXES, ""))
    rows = [row for row in read_catalog(spec) if row.split == "test"]
    if not rows:
        raise BonepipeError(f"{spec.path / spec.test_images}: no test images ({spec.patterns}) here")
    return rows


def known_classes(root: str | Path, limits: Limits = DEFAULTS) -> list[str]:
    """The class list of the data config in conf/data/ that fits the labels used in a dataset's annotations."""
    folder = Path(root) / "train" / "outputs_json"
    used = {label for path in find_files(folder, ANNOTATION)[:8] for label in read_labels(path, limits)}
    for path in find_files(conf_dir() / "data", (".yaml",)):
        classes = list(_content(path).get("classes") or ())
        if used and used <= set(classes):
            return classes
    listed = ", ".join(sorted(used)) or "no labels found"
    raise BonepipeError(f"{folder}: its labels fit no class list in conf/data; write one there ({listed})")


def named_form(name: str, root: str, limits: Limits = DEFAULTS) -> DataSpec:
    """Classes and test images as a data config has them, named like `hand` or `data/hand`, of a dataset's folder.

    Raises:
        UsageError: there is no such config, or no list of classes in it.
    """
    path = conf_dir() / "data" / f"{name.removeprefix('data/')}.yaml"
    if not path.is_file():
        raise UsageError(f"--classes {name}: no file {path}")
    content = _content(path)
    if not content.get("classes"):
        raise UsageError(f"--classes {name}: {path} has no list of classes")
    told = {key: content[key] for key in ("test_images", "train_images") if key in content}
    images = tuple(content.get("images", (".png",)))
    classes = tuple(content["classes"])
    return DataSpec(name="any", root=root, classes=classes, size=32, metadata=None, patient="^(.*)$", images=images,
                    limits=limits, **told)  # fmt: skip


def _content(path: Path) -> dict[str, Any]:
    """A config and what it builds on, values as they are written."""
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    for parent in content.get("defaults") or ():
        if (file := path.with_name(f"{parent}.yaml")).is_file():
            content = {**_content(file), **content}
    return content


def patient_of(spec: DataSpec, path: Path, split: str) -> str:
    """The patient of a `train` or `test` image.

    Raises:
        BonepipeError: data.patient does not fit its path, or its header lacks what data.patient_tag names.
    """
    if spec.patient_tag is not None:
        return dicom_header.patient(path, spec.patient_tag, spec.limits)
    relative = path.relative_to(_folder(spec, split)).as_posix()
    match = re.search(spec.patient, relative)
    if not match or match.group(1) is None:
        raise BonepipeError(f"{path}: data.patient={spec.patient!r} finds no patient in {relative!r}")
    return match.group(1)


def annotation_path(spec: DataSpec, path: Path) -> Path:
    """Where the annotation of a train image lies, its suffix in any case, or belongs."""
    place = spec.path / spec.annotations / path.relative_to(_folder(spec, "train"))
    expected = place.with_name(file_stem(path) + ANNOTATION[0])
    if expected.is_file() or not expected.parent.is_dir():
        return expected
    others = (
        file for file in expected.parent.iterdir() if file.stem == file_stem(path) and file.suffix.lower() in ANNOTATION
    )
    return min(others, default=expected)


def _check_names(spec: DataSpec, rows: list[Radiograph]) -> None:
    if not rows:
        raise BonepipeError(
            f"{spec.root}: no images ({spec.patterns}); expected in {spec.train_images}/<patient>/ and "
            f"{spec.test_images}/<patient>/"
        )
    twice = [name for name, count in Counter(row.stem for row in rows).items() if count > 1]
    if twice:
        paths = " and ".join(str(row.path) for row in rows if row.stem == twice[0])
        raise BonepipeError(f"{paths}: the same file name twice; the submission tells images apart by name only")
