"""Predicted masks as files that people open: pictures, one mask a class, and polygons to correct."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import TypedDict

from bonepipe.data.annotation import write_annotation
from bonepipe.data.dicom_header import Spacing
from bonepipe.data.spec import DataSpec
from bonepipe.errors import BonepipeError
from bonepipe.files import file_stem
from bonepipe.forms import read_json
from bonepipe.labels import cutout, polygon
from bonepipe.labels.cutout import Cutout
from bonepipe.report import overlay

OVERLAYS, MASKS, POLYGONS = "overlays", "masks", "polygons"


class Mark(TypedDict, total=False):
    """Of an image's polygons only what they were made from."""

    file_id: str


def polygons_file(folder: Path, image: Path) -> Path:
    """Where an image's polygons go; they are written last, so that an image that has them is finished."""
    return folder / POLYGONS / f"{file_stem(image)}.json"


def read_mark(folder: Path, image: Path, classes: Sequence[str]) -> str | None:
    """The mark that an image's results were written with; None where they are not all there."""
    paths = [overlay_file(folder, image), *(mask_file(folder, image, label) for label in classes)]
    if not all(path.is_file() for path in paths):
        return None
    try:
        content = read_json(polygons_file(folder, image), Mark, "the image is predicted again")
        return content.get("file_id")
    except (OSError, BonepipeError):
        return None


def write_masks(
    folder: Path,
    image: Path,
    grey: np.ndarray,
    masks: Sequence[Cutout],
    data: DataSpec,
    mark: str = "",
    spacing: Spacing | None = None,
) -> None:
    """Write an image's masks in three forms.

    `overlays/NAME.jpg` shows them over the image, `masks/NAME/CLASS.png` is 255 inside and 0 outside at the image's
    size (one file a class, because classes overlap), `polygons/NAME.json` is an annotation file.

    Args:
        folder: of all results.
        image: the image's file.
        grey: the image, uint8 `[H, W]`.
        masks: one a class, at the image's size.
        data: class names and colours.
        mark: kept in the annotation file as its `file_id`, see `read_mark`.
        spacing: of the image's pixels, kept in the annotation file where it is known.
    """
    drawn = overlay.draw(grey, masks, overlay.palette(len(data.classes), data.palette))
    overlay.save(overlay_file(folder, image), drawn)
    for label, mask in zip(data.classes, masks, strict=True):
        overlay.save(mask_file(folder, image, label), cutout.to_mask(mask, grey.shape).astype(np.uint8) * 255)
    outlines = [(number, points) for number, mask in enumerate(masks) for points in polygon.outlines(mask)]
    path = polygons_file(folder, image)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_annotation(path, outlines, data.classes, image, grey.shape, mark, _attributes(spacing))


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
