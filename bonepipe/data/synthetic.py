"""Whether a dataset was drawn by the phantom: then no patient is in it, and anybody may see what is made of it."""

from collections.abc import Iterable
from pathlib import Path

from bonepipe.data.catalog import image_paths
from bonepipe.data.spec import DataSpec
from bonepipe.digests import combined
from bonepipe.errors import BonepipeError
from bonepipe.files import find_files, write_json
from bonepipe.forms import read_json

MARK = "synthetic.json"  # in the dataset's folder


def write_mark(root: Path) -> None:
    """Say in a new dataset's folder that its images, and no others, are synthetic."""
    write_json(root / MARK, {"made_by": "bonepipe phantom", "images": _digest(root, find_files(root, (".png",)))})


def is_synthetic(spec: DataSpec) -> bool:
    """Whether a dataset and all external ones say so of exactly the images that are there.

    An image that was added, removed or replaced by one of another size in bytes makes a dataset a real one: people put
    radiographs of their own into the example's folders.
    """
    return all(map(_is_marked, (spec, *map(spec.of, spec.external))))


def _is_marked(spec: DataSpec) -> bool:
    try:
        mark = read_json(spec.path / MARK, dict[str, str], "the images count as patients'")
        images = _digest(spec.path, [path for _, path in image_paths(spec)])
    except (OSError, ValueError, BonepipeError):  # ValueError: images that are not below the root
        return False
    return mark.get("images") == images


def _digest(root: Path, paths: Iterable[Path]) -> str:
    return combined(sorted([path.relative_to(root).as_posix(), path.stat().st_size] for path in paths))
