"""The files that a config names and training depends on: what was in them is kept beside a fold's config.

A path alone would not tell that somebody has edited the file since, and a fold that goes on, or folds of one run, would
be trained on different things without a word.
"""

import json
from pathlib import Path

from bonepipe import config as configs
from bonepipe.errors import BonepipeError
from bonepipe.files import digest, write_json
from bonepipe.pipeline.experiment import Experiment

FILE = "inputs.json"
KEYS = ("data.corrections", "data.pseudo", "data.masks", "augment.file", "folds.file")


def digests(config: configs.Config) -> dict[str, str]:
    """Key -> SHA-256 of the file that it names; `missing` where there is none. Keys that name none are left out."""
    settings = configs.flatten(config)
    return {key: _digest(Path(settings[key])) for key in KEYS if settings.get(key) is not None}


def _digest(path: Path) -> str:
    try:
        return digest(path)
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        raise BonepipeError(f"{path}: cannot be read ({error.strerror})") from error


def record(experiment: Experiment, fold: int) -> None:
    """Note what the files hold now; called once, before a fold's config is first written."""
    write_json(experiment.fold_folder(fold) / FILE, digests(experiment.config))


def refuse_changed(experiment: Experiment, fold: int) -> None:
    """Raise BonepipeError if a file holds something else than when the fold was begun, or is gone, naming each.

    Predicting with finished weights depends on none of them and need not ask.
    """
    path = experiment.fold_folder(fold) / FILE
    if not path.is_file():  # not begun, or begun before such notes were taken
        return
    if not Path(experiment.folds.file).is_file():
        _ = experiment.cohort.assignment  # a lost fold file is made anew, and is the same for the same images
    before, now = _read(path), digests(experiment.config)
    changed = [key for key in now if before.get(key, now[key]) != now[key]]
    if changed:
        settings = configs.flatten(experiment.config)
        rows = "\n".join(f"  {key}: {settings[key]} {_how(now[key])}" for key in changed)
        raise BonepipeError(
            f"{path}: this run was begun with other contents of the files that its settings name:\n{rows}\n"
            "Put back the old contents, give the run a name of its own (name=...), or delete the folder to start anew"
        )


def _how(now: str) -> str:
    return "is no longer there" if now == "missing" else "has been changed since"


def _read(path: Path) -> dict[str, str]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BonepipeError(f"{path}: cannot be read ({error}); delete the fold's folder to start anew") from error
    if not isinstance(content, dict):
        raise BonepipeError(f"{path}: is no list of files; delete the fold's folder to start anew")
    return content
