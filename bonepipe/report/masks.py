"""Predicted masks as files that people open: pictures, one mask a class, and polygons to correct."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import TypedDict

from bonepipe.data.annotation import write_annotation
from bonepipe.data.dicom_header import Spacing
from bonepipe.data.spec import DataSpec
from bonepipe.digests import digest
from bonepipe.errors import BonepipeError
from bonepipe.files import file_stem, write_json
from bonepipe.forms import read_json
from bonepipe.labels import cutout, polygon
from bonepipe.labels.cutout import Cutout
from bonepipe.report import overlay

OVERLAYS, MASKS, POLYGONS, CORRECTED = "overlays", "masks", "polygons", "corrected"
MARK = ".predicted"  # of an image's folder of masks; written last, so that an image that has it is finished


class Mark(TypedDict):
    """What an image's results were made from, and the digest of its polygons as they were written."""

    mark: str
    polygons: str


def polygons_file(folder: Path, image: Path) -> Path:
    """Where an image's polygons go."""
    return folder / POLYGONS / f"{file_stem(image)}.json"


def read_mark(folder: Path, image: Path, classes: Sequence[str]) -> str | None:
    """The mark that an image's results were written with; None where they are not all there."""
    paths = [overlay_file(folder, image), *(mask_file(folder, image, label) for label in classes)]
    if not all(path.is_file() for path in [*paths, polygons_file(folder, image)]):
        return None
    record = _read_record(folder, image)
    return record["mark"] if record else None


def _mark_file(folder: Path, image: Path) -> Path:
    return folder / MASKS / file_stem(image) / MARK


def _read_record(folder: Path, image: Path) -> Mark | None:
    try:
        return read_json(_mark_file(folder, image), Mark, "the image is predicted again")
    except (OSError, BonepipeError):
        return None


def forget(folder: Path, image: Path, mark: str) -> Path | None:
    """Forget an image's results, before it is predicted again; polygons that somebody corrected are never lost.

    They stay where they are if they are of the same `mark`. Those of another are moved.

    Returns:
        Where they were moved, or None.

    Raises:
        BonepipeError: there are corrected ones already where they would be moved.
    """
    record, path = _read_record(folder, image), polygons_file(folder, image)
    moved = None
    if path.is_file() and (record is None or digest(path) != record["polygons"]):
        if record is not None and record["mark"] == mark:
            return None
        moved = folder / CORRECTED / path.name
        if moved.exists():
            raise BonepipeError(f"{path}: was corrected, and so was {moved}, where it would be kept; move one away")
        moved.parent.mkdir(exist_ok=True)
        path.rename(moved)
    path.unlink(missing_ok=True)
    _mark_file(folder, image).unlink(missing_ok=True)
    return moved


def write_masks(
    folder: Path,
    image: Path,
    grey: np.ndarray,
    masks: Sequence[Cutout],
    data: DataSpec,
    mark: str = "",
    spacing: Spacing | None = None,
) -> None:
    """Write an image's masks in three forms; polygons that are there already stay.

    `overlays/NAME.jpg` shows them over the image, `masks/NAME/CLASS.png` is 255 inside and 0 outside at the image's
    size (one file a class, because classes overlap), `polygons/NAME.json` is an annotation file.

    Args:
        folder: of all results.
        image: the image's file.
        grey: the image, uint8 `[H, W]`.
        masks: one a class, at the image's size.
        data: class names and colours.
        mark: of what they are made from, see `read_mark`.
        spacing: of the image's pixels, kept in the annotation file where it is known.
    """
    drawn = overlay.draw(grey, masks, overlay.palette(len(data.classes), data.palette))
    overlay.save(overlay_file(folder, image), drawn)
    for label, mask in zip(data.classes, masks, strict=True):
        overlay.save(mask_file(folder, image, label), cutout.to_mask(mask, grey.shape).astype(np.uint8) * 255)
    outlines = [(number, points) for number, mask in enumerate(masks) for points in polygon.outlines(mask)]
    path = polygons_file(folder, image)
    if path.exists():  # corrected, see `forget`
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_annotation(path, outlines, data.classes, image, grey.shape, mark, _attributes(spacing))
    write_json(_mark_file(folder, image), Mark(mark=mark, polygons=digest(path)))


def _attributes(spacing: Spacing | None) -> dict[str, Any]:
    """What turns an annotation file's pixels into millimetres: from row to row, and from column to column."""
    if spacing is None:
        return {}
    return {"pixel_spacing_mm": [spacing.row, spacing.column], "pixel_spacing_from": spacing.source}


def overlay_file(folder: Path, image: Path) -> Path:
    """Where the picture of all masks goes."""
    return folder / OVERLAYS / f"{file_stem(image)}.jpg"


def mask_file(folder: Path, image: Path, label: str) -> Path:
    """Where the mask of a class goes."""
    return folder / MASKS / file_stem(image) / f"{label.replace('/', '_')}.png"
