"""Annotation formats of other tools: a module each, with `read` and `write`; `guess` tells which one a path holds."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from bonepipe.data.formats import coco, competition, cvat, label_studio, labelme, masks, table
from bonepipe.data.formats.fields import read_bytes
from bonepipe.data.formats.folder import Images
from bonepipe.data.formats.model import Dataset, Notes
from bonepipe.errors import BonepipeError
from bonepipe.files import find_files


class Format(NamedTuple):
    """How a format is read and written, and whether it is a folder."""

    read: Callable[[Path, Images, Notes], Dataset]
    write: Callable[..., None]
    folder: bool


FORMATS = {
    "coco": Format(coco.read, coco.write, False),
    "labelme": Format(labelme.read, labelme.write, True),
    "cvat": Format(cvat.read, cvat.write, False),
    "label-studio": Format(label_studio.read, label_studio.write, False),
    "masks": Format(masks.read, masks.write, True),
    "competition": Format(competition.read, competition.write, True),
    "table": Format(table.read, table.write, False),
}
KEYS = {"labelme": rb'"shapes"\s*:', "coco": rb'"categories"\s*:', "competition": rb'"annotations"\s*:'}


def guess(path: Path) -> str:
    """The format that a path holds. Raises BonepipeError where it looks like none of them."""
    if not path.exists():
        raise BonepipeError(f"{path}: no such file or folder")
    name = _of_folder(path) if path.is_dir() else _of_content(read_bytes(path))
    if name is None:
        raise BonepipeError(
            f"{path}: looks like no known annotations; --from names the format, an archive is unpacked first"
        )
    return name


def _of_folder(path: Path) -> str | None:
    if (path / competition.ANNOTATIONS).is_dir():
        return "competition"
    if (path / "predictions.csv").is_file():
        raise BonepipeError(
            f"{path}: holds predictions in several forms; name predictions.csv, masks/ or polygons/ in it"
        )
    if files := find_files(path, (".json",)):
        return _of_content(read_bytes(files[0]))
    return "masks" if find_files(path, (".png",)) else None


def _of_content(content: bytes) -> str | None:
    start = content[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()
    if start[:1] == b"{":
        return next((name for name, key in KEYS.items() if re.search(key, content)), None)
    if b"image_name" in start.partition(b"\n")[0]:
        return "table"
    return {b"<": "cvat", b"[": "label-studio"}.get(start[:1])
