"""A finished experiment as one function from images to probabilities: what submit, predict and pseudo share."""

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bonepipe import config as configs
from bonepipe.commands.experiment import HARMLESS, Experiment, refuse_other_settings, say
from bonepipe.commands.train import is_done
from bonepipe.errors import BonepipeError
from bonepipe.inference import thresholds

if TYPE_CHECKING:
    from bonepipe.inference.outoffold import Predict


def voting_folds(experiment: Experiment) -> Sequence[int]:
    """The folds that vote."""
    chosen = configs.build(experiment.config, "ensemble").folds
    return range(experiment.folds.count) if chosen is None else chosen


def require_finished(experiment: Experiment) -> None:
    """Raise BonepipeError unless every voting fold is trained and predicted with these settings and views."""
    for fold in voting_folds(experiment):
        refuse_other_settings(experiment.fold_folder(fold) / "config.yaml", experiment.config, [*HARMLESS, "tta"])
        if not is_done(experiment, fold):
            raise BonepipeError(
                f"{experiment.fold_folder(fold)}: is not trained yet, or was predicted with other views (tta); run "
                "`bonepipe train-all` with the same overrides first"
            )


def read_thresholds(experiment: Experiment) -> list[float]:
    """The experiment's thresholds in class order."""
    return thresholds.read(experiment.folder / "thresholds.json", experiment.data.classes)


def make_predict(experiment: Experiment) -> "Predict":
    """Load the voting folds: mean probabilities of grey bytes over members and views."""
    from bonepipe.inference.members import mean_probabilities

    data = experiment.data
    members = [experiment.member(fold) for fold in voting_folds(experiment)]
    say(f"{len(members)} models x {len(experiment.views)} views on {experiment.device}")
    precision = configs.build(experiment.config, "ensemble").precision
    return partial(mean_probabilities, members, experiment.views, mean=data.mean, std=data.std, precision=precision)


def provenance(experiment: Experiment) -> dict[str, Any]:
    """What predictions depend on: the experiment's name, the hash of each member's weights, views and thresholds."""
    paths = [experiment.fold_folder(fold) / "weights.safetensors" for fold in voting_folds(experiment)]
    return {
        "experiment": experiment.config["name"],
        "weights": {path.parent.name: _digest(path) for path in paths},
        "tta": experiment.config["tta"],
        "thresholds": dict(zip(experiment.data.classes, read_thresholds(experiment), strict=True)),
    }


def _digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
