"""Masks of any radiographs as files that people open: overlays, a mask a class, polygons to correct, one CSV."""

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from bonepipe.data import submission
from bonepipe.data.catalog import Radiograph
from bonepipe.data.image import SUFFIXES
from bonepipe.digests import combined, digest
from bonepipe.errors import BonepipeError, UsageError
from bonepipe.labels import cutout, rle
from bonepipe.pipeline.experiment import say
from bonepipe.pipeline.predictors.base import Predictor, mask_provenance, masks
from bonepipe.pipeline.run_folder import Step
from bonepipe.report import masks as files

TABLE = "predictions.csv"


def predict(predictor: Predictor, images: Sequence[Radiograph], out: Path, *, force: bool) -> int:
    """Predict what is not predicted yet, then write the table of all; returns its number of rows.

    Raises:
        BonepipeError: the folder holds predictions of something else.
    """
    source = mask_provenance(predictor)
    _claim(Step(out, "predictions", source, (), out / "digests.json"), force)
    _predict_missing(predictor, images, out, combined(source), force)
    classes = predictor.experiment.data.classes
    # From the written masks, so that those of an earlier run are in it.
    codes = ((image.name, files.read_texts(out, image.path, classes)) for image in images)
    rows = ((name, *row) for name, texts in codes for row in zip(classes, texts, strict=True))
    return submission.write(out / TABLE, rows)


def find_images(paths: Sequence[Path], out: Path, *, negative: bool = False) -> list[Radiograph]:
    """The images that files and folders stand for, each once, in the order given, folders sorted.

    Results of an earlier call, in a folder of OUT that lies among the images, are none. With `negative` dark and bright
    are exchanged back in all of them.

    Raises:
        BonepipeError: a path does not exist, a folder holds no image, or two images have one name.
    """
    there: dict[Path, Path] = {}
    for path in paths:
        if not path.exists():
            raise BonepipeError(f"{path}: no such file or folder")
        named = _images_in(path, out) if path.is_dir() else [path]
        if not named:
            listed = ", ".join(SUFFIXES)
            raise BonepipeError(f"{path}: no images in this folder ({listed}); DICOM has to be exported as PNG first")
        there |= {file.resolve(): file for file in named}
    names: dict[str, Path] = {}
    for file in there.values():
        if other := names.get(file.stem):
            why = "one name twice, suffixes aside; results are told apart by it, so use two folders"
            raise BonepipeError(f"{other} and {file}: {why}")
        names[file.stem] = file
    return [Radiograph(file.name, file.parent.name, file, "test", negative=negative) for file in there.values()]


def _images_in(folder: Path, out: Path) -> list[Path]:
    results = {(out / name).resolve() for name in (files.MASKS, files.OVERLAYS)}
    images = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return [path for path in images if results.isdisjoint(path.resolve().parents)]


def _claim(step: Step, force: bool) -> None:
    """Note what the folder's predictions come from. Raises BonepipeError where others lie there already."""
    if not force and step.changes():
        what = "predictions of other weights, views or thresholds"
        raise BonepipeError(f"{step.folder}: holds {what}; write to another, or --force")
    try:
        step.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--output {step.folder}: cannot be made ({error.strerror})") from error
    step.record()


def _mark(image: Radiograph, source: str) -> str:
    """What an image's results are made from."""
    return combined([digest(image.path), source, *["negative"][: image.negative]])


def _predict_missing(predictor: Predictor, images: Sequence[Radiograph], out: Path, source: str, force: bool) -> None:
    marks = {image.path: _mark(image, source) for image in images}
    missing = [image for image in images if force or not files.is_finished(out, image.path, marks[image.path])]
    if len(missing) < len(images):
        say(f"{out}: {len(images) - len(missing)} images are finished already")
    if not missing:
        return
    if force:  # an interrupted second run must not take the first one's results for its own
        for image in missing:
            files.polygons_file(out, image.path).unlink(missing_ok=True)
    for image, texts in tqdm(masks(predictor, missing), "predict", len(missing), unit="image"):
        grey = image.read()
        cutouts = [cutout.from_runs(rle.parse(text), grey.shape) for text in texts]
        files.write_masks(out, image.path, grey, cutouts, predictor.experiment.data, marks[image.path])
