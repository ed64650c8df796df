"""Masks of any radiographs as files that people open: overlays, a mask a class, polygons to correct, one CSV."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from bonepipe.data import dicom_header, submission
from bonepipe.data.catalog import Radiograph
from bonepipe.data.image import SUFFIXES
from bonepipe.data.image import find_images as find_image_files
from bonepipe.digests import combined, digest
from bonepipe.disk import told
from bonepipe.errors import BonepipeError, UsageError
from bonepipe.files import append_csv, file_stem, require_writable_names
from bonepipe.labels import cutout, rle
from bonepipe.pipeline.experiment import say
from bonepipe.pipeline.predictors.base import Predictor, mask_provenance, masks
from bonepipe.pipeline.run_folder import Step, locked
from bonepipe.report import masks as files

TABLE, JOURNAL = "predictions.csv", "predictions.part.csv"  # all images; those finished since the table was written


class Predicted(NamedTuple):
    """An image in the tables: its name, the mark of its files, and run-length codes in class order."""

    name: str
    mark: str
    texts: list[str]


Table = dict[str, Predicted]  # by the stem of the image's name, which its files have too


def predict(predictor: Predictor, images: Sequence[Radiograph], out: Path, *, force: bool) -> tuple[int, int]:
    """Predict what is not predicted yet, then write the table of all that the folder holds, of earlier calls too.

    Returns:
        How many images and how many masks the table has.

    Raises:
        BonepipeError: the folder holds predictions of something else, or of another image of the same name; or another
            process works there.
    """
    images = [replace(image, limits=predictor.experiment.data.limits) for image in images]
    source, classes = mask_provenance(predictor), predictor.experiment.data.classes
    _make_folder(out)
    with locked(out):
        _claim(Step(out, "predictions", source, (), out / "digests.json"), force)
        table = _read_tables(out, classes)
        marks = {image.path: _mark(image, combined(source)) for image in images}
        missing = [image for image in images if force or not _is_finished(out, image, marks[image.path], table)]
        if len(missing) < len(images):
            say(f"{out}: {len(images) - len(missing)} images are finished already")
        _write(out / JOURNAL, table, classes)  # whole lines of whole images, whatever an interrupted call left
        _predict(predictor, missing, out, marks)
        table = _read_tables(out, classes)
        count = _write(out / TABLE, table, classes)
        (out / JOURNAL).unlink()
    return len(table), count


def find_images(paths: Sequence[Path], out: Path, *, negative: bool = False) -> list[Radiograph]:
    """The images that files and folders stand for, each once, in the order given, folders sorted.

    Results of an earlier call, in a folder of OUT that lies among the images, are none. With `negative` dark and bright
    are exchanged back in all of them.

    Raises:
        BonepipeError: a path does not exist, a folder holds no image, two images have one name, or one has a name that
            no CSV can hold.
    """
    there: dict[Path, Path] = {}
    for path in paths:
        if not path.exists():
            raise BonepipeError(f"{path}: no such file or folder")
        named = _images_in(path, out) if path.is_dir() else [path]
        if not named:
            listed = ", ".join(SUFFIXES)
            raise BonepipeError(f"{path}: no images in this folder ({listed}, or DICOM without suffix)")
        there |= {file.resolve(): file for file in named}
    require_writable_names(there.values())
    names: dict[str, Path] = {}
    for file in there.values():
        if other := names.get(file_stem(file)):
            why = "one name twice, suffixes aside; results are told apart by it, so use two folders"
            raise BonepipeError(f"{other} and {file}: {why}")
        names[file_stem(file)] = file
    return [Radiograph(file.name, file.parent.name, file, "test", negative=negative) for file in there.values()]


def _images_in(folder: Path, out: Path) -> list[Path]:
    results = {(out / name).resolve() for name in (files.MASKS, files.OVERLAYS)}
    return [path for path in find_image_files(folder) if results.isdisjoint(path.resolve().parents)]


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--output {told(error)}") from error


def _claim(step: Step, force: bool) -> None:
    """Note what the folder's predictions come from. Raises BonepipeError where others lie there already."""
    if step.changes():
        if not force:
            what = "predictions of other weights, views or thresholds"
            raise BonepipeError(f"{step.folder}: holds {what}; write to another, or --force")
        for name in (TABLE, JOURNAL):  # masks of other weights may stay as files, but one table has those of one source
            (step.folder / name).unlink(missing_ok=True)
    step.record()


def _mark(image: Radiograph, source: str) -> str:
    """What an image's results are made from."""
    return combined([digest(image.path), source, *["negative"][: image.negative]])


def _read_tables(out: Path, classes: Sequence[str]) -> Table:
    """The images of the table, and those that calls which did not get to its end finished; all have their files."""
    table: Table = {}
    for path in (out / TABLE, out / JOURNAL):
        codes: dict[str, dict[str, str]] = {}
        with contextlib.suppress(BonepipeError):  # no such file, or its end was cut off: that image is predicted again
            for row in submission.stream(path):
                codes.setdefault(row.image, {})[row.label] = row.rle
        for name, by_class in codes.items():
            mark = files.read_mark(out, Path(name), classes)
            if mark is not None and by_class.keys() == set(classes):
                table[file_stem(Path(name))] = Predicted(name, mark, [by_class[label] for label in classes])
    return table


def _write(path: Path, table: Table, classes: Sequence[str]) -> int:
    rows = ((image.name, *row) for image in table.values() for row in zip(classes, image.texts, strict=True))
    return submission.write(path, rows)


def _is_finished(out: Path, image: Radiograph, mark: str, table: Table) -> bool:
    """Whether an image's files and its rows are there. Raises BonepipeError where they are those of another image."""
    if image.stem not in table:
        return False
    if table[image.stem].mark != mark:
        raise BonepipeError(
            f"{image.path}: {out} holds the prediction of another image of this name, or of what this file was before; "
            "write to another folder, or --force to replace it"
        )
    return True


def _predict(predictor: Predictor, images: Sequence[Radiograph], out: Path, marks: Mapping[Path, str]) -> None:
    """Write every image's files, and its rows into the journal as soon as it is finished."""
    if not images:
        return
    # An interrupted run must not take an earlier one's results for its own.
    moved = [files.forget(out, image.path, marks[image.path]) for image in images]
    if count := sum(place is not None for place in moved):
        say(f"{out / files.CORRECTED}: keeps {count} corrected polygons of other predictions")
    data = predictor.experiment.data
    for image, texts in tqdm(masks(predictor, images), "predict", len(images), unit="image"):
        grey = image.read()
        cutouts = [cutout.from_runs(rle.parse(text), grey.shape) for text in texts]
        append_csv(out / JOURNAL, zip(repeat(image.name), data.classes, texts))
        spacing = dicom_header.spacing(image.path, image.limits)
        files.write_masks(out, image.path, grey, cutouts, data, marks[image.path], spacing)
