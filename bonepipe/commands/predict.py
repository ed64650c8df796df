"""`bonepipe predict IMAGE_OR_FOLDER... -o OUT`: masks of any radiographs from a finished experiment."""

import argparse
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bonepipe.commands.finished import make_parser, open_finished, parse
from bonepipe.commands.predictor import SOURCE, Predictor, decisions, masks
from bonepipe.data import submission
from bonepipe.data.catalog import Radiograph
from bonepipe.data.image import SUFFIXES, read_grey
from bonepipe.errors import BonepipeError, UsageError
from bonepipe.files import digest, write_json
from bonepipe.pipeline.experiment import say

DESCRIPTION = """\
Predict radiographs of any size (PNG, JPEG, TIFF, BMP; 8 or 16 bit) with all models and views of a finished experiment
or, with --run, of any run, ensemble or second look. DICOM is not read: export it as PNG first. Writes into OUT:
  overlays/NAME.jpg        the masks drawn over the image
  masks/NAME/CLASS.png     one mask a class: 255 inside, 0 outside
  polygons/NAME.json       the outlines in the annotation format, to be corrected in a labelling tool; parts of a class
                           are several polygons of its label, and holes are filled, as a polygon cannot have any
  predictions.csv          all masks as run lengths (image_name,class,rle)
Images that are finished are not predicted again unless --force."""

EXAMPLES = """\
  bonepipe predict hand.png more/ -o predicted experiment=demo
  bonepipe predict more/ -o predicted --run runs/demo-wrist"""

TABLE = "predictions.csv"


def parser() -> argparse.ArgumentParser:
    """Describe the command line, overrides apart."""
    result = make_parser("predict", "IMAGE_OR_FOLDER... -o OUT [--force] ", DESCRIPTION, EXAMPLES)
    listed = " ".join(SUFFIXES)
    result.add_argument("images", metavar="IMAGE_OR_FOLDER", nargs="+", help=f"a folder is searched for {listed}")
    result.add_argument("-o", "--output", metavar="OUT", required=True, help="the folder to write")
    result.add_argument("--force", action="store_true", help="predict finished images again")
    return result


def main(arguments: Sequence[str]) -> int:
    """Predict what is not predicted yet, then write the table of all."""
    given, overrides = parse(parser(), arguments)
    out = Path(given.output)
    images = find_images([Path(name) for name in given.images], out)
    predictor = open_finished(given.run, overrides)
    source = decisions(predictor)
    _claim(out, source, given.force)
    _predict_missing(predictor, images, out, source, given.force)
    rows = submission.write(out / TABLE, _rows(predictor.experiment.data.classes, images, out))
    print(f"wrote {out}: {len(images)} images, {rows} masks")
    return 0


def find_images(paths: Sequence[Path], out: Path) -> list[Radiograph]:
    """The images that files and folders stand for, each once, in the order given, folders sorted.

    Results of an earlier call, in a folder of OUT that lies among the images, are none.

    Raises:
        BonepipeError: a path does not exist, a folder holds no image, or two images have one name.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        if not path.exists():
            raise BonepipeError(f"{path}: no such file or folder")
        files = _images_in(path, out) if path.is_dir() else [path]
        if not files:
            listed = ", ".join(SUFFIXES)
            raise BonepipeError(f"{path}: no images in this folder ({listed}); DICOM has to be exported as PNG first")
        found |= {file.resolve(): file for file in files}
    names: dict[str, Path] = {}
    for file in found.values():
        if other := names.get(file.stem):
            raise BonepipeError(
                f"{other} and {file}: one name twice, suffixes aside; results are told apart by it, so use two folders"
            )
        names[file.stem] = file
    return [Radiograph(file.name, patient=file.parent.name, path=file, split="test") for file in found.values()]


def _images_in(folder: Path, out: Path) -> list[Path]:
    from bonepipe.report.masks import MASKS, OVERLAYS

    results = {(out / name).resolve() for name in (MASKS, OVERLAYS)}
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return [path for path in files if results.isdisjoint(path.resolve().parents)]


def _claim(out: Path, source: dict[str, Any], force: bool) -> None:
    """Note what the folder's predictions come from. Raises BonepipeError where others lie there already."""
    path = out / SOURCE
    if path.is_file() and not force:
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BonepipeError(f"{path}: cannot be read ({error}); --force predicts all images anew") from error
        if earlier != json.loads(json.dumps(source)):
            raise BonepipeError(
                f"{out}: holds predictions of other weights, views or thresholds; write to another folder, or --force"
            )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--output {out}: cannot be made ({error.strerror})") from error
    write_json(path, source)


def _predict_missing(
    predictor: Predictor, images: Sequence[Radiograph], out: Path, source: dict[str, Any], force: bool
) -> None:
    from bonepipe.labels import cutout, rle
    from bonepipe.report import masks as files

    marks = {image.path: _mark(image.path, source) for image in images}
    missing = [image for image in images if force or not files.is_finished(out, image.path, marks[image.path])]
    if len(missing) < len(images):
        say(f"{out}: {len(images) - len(missing)} images are finished already")
    if not missing:
        return
    if force:  # an interrupted second run must not take the first one's results for its own
        for image in missing:
            files.polygons_file(out, image.path).unlink(missing_ok=True)
    for image, texts in tqdm(masks(predictor, missing), "predict", len(missing), unit="image"):
        grey = read_grey(image.path)
        found = [cutout.from_runs(rle.parse(text), grey.shape) for text in texts]
        files.write_masks(out, image.path, grey, found, predictor.experiment.data, marks[image.path])


def _mark(image: Path, source: dict[str, Any]) -> str:
    """What tells an image's results from those of another image of that name, or of other weights."""
    try:
        return hashlib.sha256(f"{digest(image)} {json.dumps(source, sort_keys=True)}".encode()).hexdigest()[:24]
    except OSError as error:
        raise BonepipeError(f"{image}: cannot be read ({error.strerror})") from error


def _rows(classes: Sequence[str], images: Sequence[Radiograph], out: Path) -> Iterator[tuple[str, str, str]]:
    """Rows of the table, from the written masks, so that those of an earlier run are in it."""
    from bonepipe.report.masks import read_texts

    for image in images:
        texts = read_texts(out, image.path, classes)
        for label, text in zip(classes, texts, strict=True):
            yield image.name, label, text
