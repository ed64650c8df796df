"""Radiographs below a folder, found by what an annotation file calls them."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from bonepipe.data.formats.model import Notes
from bonepipe.data.image import SUFFIXES, find_images, read_shape
from bonepipe.data.limits import DEFAULTS, Limits
from bonepipe.errors import BonepipeError, quoted
from bonepipe.files import file_stem, name_fault
from bonepipe.labels.rle import LARGEST

LARGEST_SIDE = 1 << 16  # pixels


class Place(NamedTuple):
    """An image's safe name, its file where there is one, and its height and width in pixels."""

    name: str
    path: Path | None
    size: tuple[int, int]


class Images:
    """The image files below a folder, or none where no folder is given.

    Args:
        folder: searched with its subfolders.
        notes: told of images that are not there.
        limits: how large images and annotations may be.
    """

    def __init__(self, folder: Path | None, notes: Notes, limits: Limits = DEFAULTS) -> None:
        self.folder, self.notes, self.limits = folder, notes, limits
        self._by_stem: dict[str, list[PurePosixPath]] = {}
        for path in find_images(folder) if folder else []:
            name = PurePosixPath(path.relative_to(folder or path).as_posix())
            self._by_stem.setdefault(file_stem(name), []).append(name)
        if folder and not self._by_stem:
            raise BonepipeError(f"{folder}: no images in this folder ({', '.join(SUFFIXES)})")

    def place(
        self, names: Sequence[str], declared: tuple[int, int] | None, where: str, *, trusted: bool = True
    ) -> Place:
        """The image that a file calls by one of these names.

        Args:
            names: the likeliest first; the last is kept where there is no such file.
            declared: height and width that the file tells of; None where it tells of none.
            where: file and field, for messages.
            trusted: whether a declared size must be that of the image; otherwise the image's own counts.

        Raises:
            BonepipeError: the size is told nowhere, or differently; the name fits two files, or leads elsewhere.
        """
        path = next(filter(None, (self._find(name, where) for name in names)), None)
        if path is not None and self.folder is not None:
            size = read_shape(self.folder / path, self.limits)
            if declared is not None and trusted and declared != size:
                told, real = ("{} x {}".format(*reversed(pair)) for pair in (declared, size))
                message = f"an image of {told} pixels (width x height), but {self.folder / path} has {real}"
                raise BonepipeError(f"{where}: {message}; give the images that were annotated")
            return Place(path.as_posix(), self.folder / path, size)
        if declared is None:
            lacks = "is not there" if self.folder else "is not told"
            what = f"the image {quoted(names[-1])} {lacks}, and the format has no sizes"
            raise BonepipeError(f"{where}: {what}; give --images FOLDER with the radiographs")
        if self.folder:
            self.notes[f"images that are not below {self.folder}: their sizes are the annotations'"] += 1
        self.limits.require_pixels(checked_size(declared, where), where)
        return Place(safe(names[-1], where), None, declared)

    def _find(self, name: str, where: str) -> PurePosixPath | None:
        """The file whose path ends like the name, as far as both go; suffixes aside where none has the very one."""
        wanted = PurePosixPath(name.replace("\\", "/"))
        alike = [path for path in self._by_stem.get(file_stem(wanted), ()) if _ends_alike(path.parent, wanted.parent)]
        alike = [path for path in alike if path.name == wanted.name] or alike
        if len(alike) > 1:
            raise BonepipeError(f"{where}: {quoted(name)} may be {alike[0]} or {alike[1]} of {self.folder}")
        return alike[0] if alike else None


def _ends_alike(one: PurePosixPath, other: PurePosixPath) -> bool:
    return all(a == b for a, b in zip(reversed(one.parts), reversed(other.parts), strict=False))


def safe(name: str, where: str) -> str:
    """A name as a POSIX path that stays below its folder. Raises BonepipeError for any other, naming `where`."""
    path = PurePosixPath(name.replace("\\", "/"))
    inside = path.name and not path.is_absolute() and ":" not in path.parts[0]
    if not inside or any(part.startswith(".") for part in path.parts):
        why = "is no path below a folder of images, or hidden"
        raise BonepipeError(f"{where}: {quoted(name)} {why}; correct it, or give --images FOLDER to find it by its end")
    if fault := name_fault(Path(path)):
        raise BonepipeError(f"{where}: {quoted(name)}: {fault}")
    return path.as_posix()


def checked_size(size: tuple[int, int], where: str) -> tuple[int, int]:
    """Height and width as they are. Raises BonepipeError, naming `where`, where no image has them."""
    if min(size) < 1 or max(size) > LARGEST_SIDE or size[0] * size[1] > LARGEST:
        raise BonepipeError(f"{where}: no image is {size[1]} pixels wide and {size[0]} high")
    return size
