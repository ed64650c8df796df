"""Predicted masks as files that people open: pictures, one mask a class, and polygons to correct."""

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from bonepipe.data.annotation import write_annotation
from bonepipe.data.spec import DataSpec
from bonepipe.errors import BonepipeError
from bonepipe.labels import cutout, polygon, rle
from bonepipe.labels.cutout import Cutout
from bonepipe.report import overlay

OVERLAYS, MASKS, POLYGONS = "overlays", "masks", "polygons"


def polygons_file(folder: Path, image: Path) -> Path:
    """Where an image's polygons go; they are written last, so that an image that has them is finished."""
    return folder / POLYGONS / f"{image.stem}.json"


def is_finished(folder: Path, image: Path, mark: str) -> bool:
    """Whether an image's results are there, with this mark."""
    try:
        content = json.loads(polygons_file(folder, image).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("file_id") == mark


def write_masks(
    folder: Path, image: Path, grey: np.ndarray, masks: Sequence[Cutout], data: DataSpec, mark: str = ""
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
        mark: kept in the annotation file as its `file_id`, see `is_finished`.
    """
    drawn = overlay.draw(grey, masks, overlay.palette(len(data.classes), data.palette))
    overlay.save(folder / OVERLAYS / f"{image.stem}.jpg", drawn)
    for label, mask in zip(data.classes, masks, strict=True):
        overlay.save(mask_file(folder, image, label), cutout.to_mask(mask, grey.shape).astype(np.uint8) * 255)
    outlines = [(number, points) for number, mask in enumerate(masks) for points in polygon.outlines(mask)]
    path = polygons_file(folder, image)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_annotation(path, outlines, data.classes, image, grey.shape, mark)


def mask_file(folder: Path, image: Path, label: str) -> Path:
    """Where the mask of a class goes."""
    return folder / MASKS / image.stem / f"{label.replace('/', '_')}.png"


def read_texts(folder: Path, image: Path, classes: Sequence[str]) -> list[str]:
    """Run-length codes of an image's masks as they were written. Raises BonepipeError where one is missing."""
    texts = []
    for label in classes:
        path = mask_file(folder, image, label)
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) if path.is_file() else None
        if mask is None:
            raise BonepipeError(f"{path}: is missing or no image; run again with --force to predict all images anew")
        texts.append(rle.encode(mask))
    return texts
