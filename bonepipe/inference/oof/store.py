"""A run's out-of-fold probabilities, from the files of its folds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from bonepipe.inference.oof import byte_maps
from bonepipe.inference.oof.byte_maps import ByteMaps, ImageBytes


class OofStore:
    """Out-of-fold probabilities of several folds; a fold's file is read when one of its images is first asked for.

    Attributes:
        folds: image name -> the fold that validates it; in the order of the files.
    """

    def __init__(self, files: Mapping[int, Path], classes: Sequence[str], *, one_fold_at_a_time: bool = False) -> None:
        """Read the images' names.

        Args:
            files: of each fold.
            one_fold_at_a_time: let a fold go before another is read. Asking for images fold by fold is then fast.

        Raises:
            BonepipeError: a file is missing, broken, or of other classes.
        """
        self._files, self._classes, self._one_at_a_time = dict(files), tuple(classes), one_fold_at_a_time
        self._read: dict[int, ByteMaps] = {}
        self._lock = Lock()  # threads ask at once, and none shall read a file again that another is reading
        names = {fold: byte_maps.read_names(path, classes) for fold, path in files.items()}
        self.folds = {name: fold for fold, of_fold in names.items() for name in of_fold}
        self._positions = {name: position for of_fold in names.values() for position, name in enumerate(of_fold)}

    @property
    def nbytes(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self._files.values())

    def image(self, name: str) -> ImageBytes:
        """Boxes and bytes of an image."""
        return self._fold(self.folds[name]).image(self._positions[name])

    def maps(self, name: str) -> NDArray[np.float32]:
        """Probabilities float32 `[C, h, w]` of an image."""
        return self._fold(self.folds[name]).maps(self._positions[name])

    def _fold(self, fold: int) -> ByteMaps:
        with self._lock:
            if fold not in self._read:
                if self._one_at_a_time:
                    self._read.clear()
                self._read[fold] = byte_maps.read(self._files[fold], self._classes)
            return self._read[fold]
