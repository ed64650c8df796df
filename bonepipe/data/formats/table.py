"""bonepipe's own CSV of masks, image_name,class,rle: predictions.csv, oof.csv, submission.csv."""

import math
from pathlib import Path, PurePosixPath

from bonepipe.data.formats.folder import Images, Place
from bonepipe.data.formats.model import Annotated, Dataset, Notes, Shape, by_stem, class_runs, dataset
from bonepipe.data.submission import COLUMNS
from bonepipe.data.submission import write as write_rows
from bonepipe.errors import BonepipeError
from bonepipe.files import read_csv
from bonepipe.labels import rle


def read(path: Path, images: Images, notes: Notes) -> Dataset:
    """Read a CSV; the sizes are those of the images. Raises BonepipeError."""
    places: dict[str, Place] = {}
    shapes: dict[str, list[Shape]] = {}
    classes: list[str] = []
    for line, row in read_csv(path, COLUMNS, unique=COLUMNS[:2]):
        name, label, where = row["image_name"], row["class"], f"{path}: line {line}"
        if name not in places:
            places[name], shapes[name] = images.place([name], None, where), []
        classes.append(label)
        try:
            runs = rle.parse(row["rle"])
            rle.check(runs, math.prod(places[name].size))
        except ValueError as error:
            raise BonepipeError(f"{where}: {name}, {label}: {error}") from error
        if len(runs):
            shapes[name].append(Shape(label=label, runs=runs))
    found = [
        Annotated(name=p.name, height=p.size[0], width=p.size[1], shapes=tuple(shapes[key]), path=p.path)
        for key, p in places.items()
    ]
    return dataset(found, classes, path, images.limits)


def write(data: Dataset, out: Path, notes: Notes) -> None:
    """Write a row an image and class, with the base names of the images."""
    by_stem(data.images, base=True)
    write_rows(
        out,
        (
            (PurePosixPath(image.name).name, label, rle.format_runs(class_runs(image, label)))
            for image in data.images
            for label in data.classes
        ),
    )
