"""Masks from a CSV of run-length codes, in place of the annotations: pseudo-labels and weak labels."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np

from bonepipe.errors import BonepipeError, quoted, reason, suggestion
from bonepipe.files import read_csv
from bonepipe.labels import bitplane, rle

COLUMNS = ["image_name", "class", "rle"]


def read_masks(
    path: Path, names: Sequence[str], classes: Sequence[str], others: Sequence[str] = ()
) -> dict[str, list[str]]:
    """The run-length codes of images, one text a class in the order of `classes` and `others`, by image name.

    Args:
        path: of the CSV.
        names: of the images; the file may have more.
        classes: of which each image has a row.
        others: classes that the file may leave out: then they are nowhere.

    Raises:
        BonepipeError: the file is no such CSV, names an unknown class, or has no mask or two of one of the images.
    """
    where = f"data.masks={path}"
    rows = [row for _, row in read_csv(path, COLUMNS, where, unique=COLUMNS[:2])]
    known = [*classes, *others]
    for label in sorted({row["class"] for row in rows} - set(known)):
        raise BonepipeError(f"{where}: unknown class {quoted(label)}{suggestion(label, known)}")
    texts = {(row["image_name"], row["class"]): row["rle"] for row in rows}
    for name, label in product(names, classes):
        if (name, label) not in texts:
            near = suggestion(name, {row["image_name"] for row in rows} - set(names))
            raise BonepipeError(f"{where}: no row of {name}, {label}; an empty mask has an empty code{near}")
    return {name: [texts.get((name, label), "") for label in known] for name in names}


def code(where: str, row: Mapping[str, str], column: str = "rle") -> str:
    """The run-length code in a column of a row. BonepipeError, naming `where` and the column, for one that is none."""
    try:
        rle.parse(row[column])
    except ValueError as error:
        raise BonepipeError(f"{where}: column {column}: {error}") from error
    return row[column]


def require_inside(text: str, shape: tuple[int, int], where: str) -> None:
    """Raise BonepipeError, naming `where`, for a run-length code that is none of an image of this height and width."""
    try:
        rle.check(rle.parse(text), shape[0] * shape[1])
    except ValueError as error:
        raise BonepipeError(f"{where}: {error}") from error


def planes_of(texts: Sequence[str], shape: tuple[int, int], where: str) -> np.ndarray:
    """Bit-planes uint8 `[H, W, P]` of one run-length code a class. BonepipeError, naming `where`, if one is wrong."""
    planes = np.zeros((*shape, bitplane.plane_count(len(texts))), np.uint8)
    for number, text in enumerate(texts):
        try:
            planes[..., number // 8] |= rle.decode(text, shape).astype(np.uint8) << number % 8
        except ValueError as error:
            raise BonepipeError(f"{where}, class {number}: {reason(error)}") from error
    return planes
