"""What W&B keeps until it is uploaded lies in the run's folder, and not in the user's home."""

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

PLACES = {"WANDB_DATA_DIR": "data", "WANDB_CACHE_DIR": "cache"}
_set_here: dict[str, str] = {}


def keep_in(folder: Path) -> None:
    """Have W&B keep its copies of small files and its logs in a folder, where no variable of the user's says another.

    W&B has no setting of a run for these, only variables.

    Args:
        folder: `wandb/` of a run.
    """
    for variable, name in PLACES.items():
        if os.environ.get(variable) in (None, _set_here.get(variable)):  # not set, or set here for another run
            os.environ[variable] = _set_here[variable] = str((folder / name).resolve())


def add_file(artifact: Any, path: Path, part: Path) -> None:
    """Add a file as it is now to an artifact that is uploaded now or much later, without a second copy of its bytes.

    The pipeline never changes a finished file but puts a new one in its place, so that a hard link keeps the old one.

    Args:
        artifact: `wandb.Artifact`.
        path: of the file.
        part: W&B's folder of the run.
    """
    staged = part / "staging" / artifact.name.partition(":")[0] / path.name
    staged.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        staged.unlink()
    try:
        staged.hardlink_to(path)
    except OSError:  # of a file system without links
        shutil.copyfile(path, staged)
    artifact.add_file(str(staged), policy="immutable", skip_cache=True)
