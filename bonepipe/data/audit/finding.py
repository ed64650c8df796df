"""What an audit finds, and what it knows of an image."""

from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from bonepipe.data.catalog import Radiograph
from bonepipe.errors import BonepipeError
from bonepipe.files import printable


@dataclass(frozen=True)
class Finding:
    """One problem.

    Attributes:
        severity: `error` where training or the submission would fail, else `warning`.
        field: the place in the file, for example `annotations[3].label`; empty where the whole file is meant.
        topic: the kind of problem, the same words for the same kind.
    """

    severity: Literal["error", "warning"]
    path: Path
    field: str
    message: str
    topic: str

    def __str__(self) -> str:
        return ": ".join(part for part in (printable(self.path), self.field, self.message) if part)


@dataclass(frozen=True)
class Checked:
    """What is known about an image once it has been opened; all but the findings is None where that failed.

    Attributes:
        digest: of its pixels.
        thumbnail: see `bonepipe.data.thumbnails`.
        depth: bits that its greys use, of an image with 16.
    """

    image: Radiograph
    findings: tuple[Finding, ...]
    shape: tuple[int, int] | None = None
    digest: bytes | None = None
    thumbnail: np.ndarray | None = None
    depth: int | None = None

    @property
    def path(self) -> Path:
        """The image's file."""
        return self.image.path


def repeats(pairs: Iterable[tuple[Hashable, Path]]) -> list[tuple[Path, Path]]:
    """The paths whose key an earlier one has, each with the first that has it, key by key."""
    groups: dict[Hashable, list[Path]] = defaultdict(list)
    for key, path in pairs:
        groups[key].append(path)
    return [(path, group[0]) for group in groups.values() for path in group[1:]]


def from_error(error: BonepipeError, path: Path, topic: str) -> Finding:
    """An error that somebody raised about a file, as a finding."""
    return Finding("error", path, "", without_path(path, error), topic)


def without_path(path: Path, text: object) -> str:
    """A message without the path that it begins with."""
    return str(text).removeprefix(f"{path}: ")
