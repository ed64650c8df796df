"""A finished experiment as one function from images to probabilities: what submit, predict and pseudo share."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from bonepipe import config as configs
from bonepipe.commands.experiment import HARMLESS, PREDICTION, Experiment, refuse_other_settings, refuse_region, say
from bonepipe.commands.train import is_done
from bonepipe.data import strata
from bonepipe.data.catalog import Radiograph
from bonepipe.errors import BonepipeError, UsageError
from bonepipe.files import digest
from bonepipe.inference import thresholds
from bonepipe.labels.cutout import Cutout

if TYPE_CHECKING:
    from bonepipe.inference.outoffold import Predict


def voting_folds(experiment: Experiment) -> Sequence[int]:
    """The folds that vote."""
    chosen = configs.build(experiment.config, "ensemble").folds
    return range(experiment.folds.count) if chosen is None else chosen


def require_finished(experiment: Experiment) -> None:
    """Raise BonepipeError unless every voting fold is trained and predicted with these settings and views.

    A run that sees only a region of the images is refused with a UsageError.
    """
    refuse_region(experiment)
    require_folds(experiment)


def require_folds(experiment: Experiment) -> None:
    """As `require_finished`, for whatever part of the images the run sees."""
    ignore = ["name", *HARMLESS, *PREDICTION]  # the name is the folder's: it may have got another one
    for fold in voting_folds(experiment):
        refuse_other_settings(experiment.fold_folder(fold) / "config.yaml", experiment.config, ignore)
        if not is_done(experiment, fold):
            raise BonepipeError(
                f"{experiment.fold_folder(fold)}: is not trained yet, or was predicted in another way (tta, windows, "
                "postprocess.crf); run `bonepipe train-all` with the same overrides first"
            )


def read_thresholds(experiment: Experiment) -> list[float]:
    """The experiment's thresholds in class order."""
    return thresholds.read(experiment.folder / "thresholds.json", experiment.data.classes)


def image_thresholds(experiment: Experiment, images: Sequence[Radiograph]) -> list[float] | list[list[float]]:
    """Thresholds in class order; with ensemble.thresholds_by=stratum a row an image, that of its stratum.

    An image of a stratum that no training image is of gets the common thresholds.
    """
    common = read_thresholds(experiment)
    by_stratum = _stratum_thresholds(experiment)
    if by_stratum is None:
        return common
    return [by_stratum.get(label, common) for label in strata.stratify(images, experiment.strata)]


def _stratum_thresholds(experiment: Experiment) -> dict[str, list[float]] | None:
    """Stratum -> thresholds in class order; None where all strata have the same."""
    settings = strata_settings(experiment)
    if settings is None:
        return None
    return thresholds.read_by_stratum(experiment.folder / "thresholds.json", experiment.data.classes, settings)


def strata_settings(experiment: Experiment) -> dict[str, Any] | None:
    """What tells the strata apart that have thresholds of their own; None where all have the same.

    Raises:
        UsageError: thresholds by stratum are asked for where nothing tells strata apart.
    """
    if configs.build(experiment.config, "ensemble").thresholds_by is None:
        return None
    if not experiment.strata.by:
        raise UsageError("ensemble.thresholds_by=stratum: strata.by names nothing that tells strata apart")
    return {key: value for key, value in experiment.config["strata"].items() if key not in ("_target_", "test_mix")}


def make_predict(experiment: Experiment) -> "Predict":
    """Load the voting folds: mean probabilities of grey bytes `[N, *windows.shape]` over members and views."""
    members = [experiment.member(fold) for fold in voting_folds(experiment)]
    windows = f" x {len(experiment.windows)} windows" if len(experiment.windows) > 1 else ""
    say(f"{len(members)} models x {len(experiment.views)} views{windows} on {experiment.device}")
    return experiment.predictor(members)


def make_refine(experiment: Experiment) -> Callable[[list[Cutout], tuple[int, int]], list[Cutout]]:
    """What is done to an image's masks: the post-processing that `train-all` chose for each class."""
    from bonepipe.inference.postprocess import read_operations

    path = experiment.folder / "thresholds.json"
    operations = read_operations(path, experiment.data.classes, experiment.postprocess)
    return partial(experiment.postprocess.apply_all, operations)


def provenance(experiment: Experiment) -> dict[str, Any]:
    """What predictions depend on: the experiment's name, the hash of each member's weights, views and thresholds."""
    paths = [experiment.fold_folder(fold) / "weights.safetensors" for fold in voting_folds(experiment)]
    by_stratum = _stratum_thresholds(experiment)
    return {
        "experiment": experiment.config["name"],
        "weights": {path.parent.name: digest(path) for path in paths},
        **{group: experiment.config[group] for group in PREDICTION},
        "thresholds": dict(zip(experiment.data.classes, read_thresholds(experiment), strict=True)),
        **({} if by_stratum is None else {"thresholds_by_stratum": by_stratum}),
        **({} if experiment.postprocess.crf is None else {"crf": experiment.refined_classes()}),
    }
