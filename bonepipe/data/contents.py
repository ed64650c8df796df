"""What lies in a folder of arrays, file by file, so that damage is noticed before anything is read from it."""

from pathlib import Path

from bonepipe.digests import digest, digests
from bonepipe.errors import BonepipeError
from bonepipe.files import find_files, write_json
from bonepipe.forms import read_json

CONTENTS = "contents.json"  # of the folder: file -> digest of its content


def note(folder: Path) -> None:
    """Write down what a folder holds, once all of it is there."""
    write_json(folder / CONTENTS, {name: digest(path) for name, path in _files(folder).items()})


def fault(folder: Path, cache: Path) -> str | None:
    """Why a folder is not as it was noted, in words; None where it is.

    Files are only read where their times changed since somebody looked, see `bonepipe.digests`.

    Args:
        folder: as `note` left it.
        cache: of digests.
    """
    try:
        noted = read_json(folder / CONTENTS, dict[str, str], "it is made anew")
        files = _files(folder)
        there = dict(zip(files, digests(files.values(), cache), strict=True))
    except FileNotFoundError:
        return f"has no {CONTENTS}, which says what it holds" if folder.is_dir() else "is no folder"
    except (OSError, BonepipeError) as error:
        return f"cannot be read ({error})"
    changed = [name for name in sorted(noted.keys() | there.keys()) if noted.get(name) != there.get(name)]
    if not noted or changed:
        missing = [name for name in changed if name not in there]
        return f"{missing[0]} is missing" if missing else f"{', '.join(changed)} is not as it was written"
    return None


def _files(folder: Path) -> dict[str, Path]:
    paths = [path for path in find_files(folder) if path.name != CONTENTS]
    return {path.relative_to(folder).as_posix(): path for path in paths}
