"""A CSV of masks by image: where each image's rows stand, so that one is read without the others."""

import threading
from collections.abc import Iterator
from pathlib import Path

from bonepipe.data import submission
from bonepipe.disk import require_file
from bonepipe.errors import BonepipeError

Places = dict[str, list[int]]  # image -> the bytes at which its rows begin


class MaskIndex:
    """The masks of a CSV (`image_name,class,rle`), which may be written anew at any time; threads may share it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._stamp: tuple[int, ...] = ()  # what of the file changes when it is written anew
        self._columns: tuple[int, int] = (0, 0)  # of class and code
        self._places: Places = {}

    @property
    def stamp(self) -> tuple[int, ...]:
        """What changes when the file is written anew; empty where it is not there."""
        try:
            status = self.path.stat()
        except OSError:
            return ()
        return status.st_mtime_ns, status.st_size, status.st_ino

    def images(self) -> list[str]:
        """The names of the images. Raises as `codes`."""
        with self._lock:
            return list(self._current())

    def codes(self, image: str) -> dict[str, str]:
        """Class -> run-length code of an image; empty where the file has none of it.

        Raises:
            BonepipeError: the file is missing, or no CSV of masks.
        """
        with self._lock:
            places = self._current().get(image)
            return dict(self._rows(places)) if places else {}

    def _rows(self, places: list[int]) -> Iterator[tuple[str, str]]:
        label, code = self._columns
        with self.path.open("rb") as file:
            for place in places:
                file.seek(place)
                fields = submission.split(file.readline().decode("utf-8"))
                yield fields[label], fields[code]

    def _current(self) -> Places:
        """Where the rows stand, looked for again when the file has changed."""
        try:
            require_file(self.path)
            if (stamp := self.stamp) != self._stamp:
                self._columns, self._places = _indexed(self.path)
                self._stamp = stamp
        except OSError as error:
            raise BonepipeError(f"{self.path}: cannot be read ({error.strerror})") from error
        return self._places


def _indexed(path: Path) -> tuple[tuple[int, int], Places]:
    """Where class and code stand in a row, and where the rows of each image begin."""
    next(submission.stream(path), None)  # it tells what is wrong with the header
    places: Places = {}
    try:
        with path.open("rb") as file:
            header = submission.split(file.readline().decode("utf-8-sig"))
            image, label, code = (header.index(name) for name in submission.COLUMNS)
            place = file.tell()
            for number, line in enumerate(file, 2):
                fields = submission.split(line.decode("utf-8"))
                if len(fields) == len(header):
                    places.setdefault(fields[image], []).append(place)
                elif fields != [""]:
                    what = f"{len(fields)} fields where the header has {len(header)}"
                    raise BonepipeError(f"{path}: line {number}: {what}")
                place += len(line)
    except UnicodeDecodeError as error:
        raise BonepipeError(f"{path}: is not UTF-8 text; save it as a UTF-8 CSV") from error
    return (label, code), places
