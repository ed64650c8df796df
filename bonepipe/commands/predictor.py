"""What predicts whole radiographs, as one thing: a finished run; an ensemble and a second look have files of their own.

Everything that makes masks (submit, ensemble, secondlook, predict, pseudo) takes a `Predictor` and asks no more.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bonepipe import config as configs
from bonepipe.commands.train import is_done
from bonepipe.data import strata
from bonepipe.data.catalog import Radiograph
from bonepipe.errors import BonepipeError, UsageError
from bonepipe.files import digest, write_json
from bonepipe.inference import thresholds
from bonepipe.inference.oof.store import OofStore
from bonepipe.labels import upsample
from bonepipe.labels.cutout import Cutout
from bonepipe.pipeline.experiment import (
    HARMLESS,
    PREDICTION,
    Experiment,
    prediction_settings,
    refuse_other_settings,
    refuse_region,
    say,
)

if TYPE_CHECKING:
    from bonepipe.inference.oof.results import Pooled
    from bonepipe.inference.postprocess.operations import Operations
    from bonepipe.inference.predict import Prediction, Whole

Shape = tuple[int, int]
CONFIG = "config.yaml"  # beside thresholds.json: the settings that they were chosen with
SOURCE = "source.json"  # what predictions come from
ENSEMBLE, SECOND_LOOK = "ensemble.yaml", "secondlook.json"
KINDS = {ENSEMBLE: "an ensemble", SECOND_LOOK: "a second look"}  # the file that tells what a folder without folds holds


class Predictor(Protocol):
    """A finished run, an ensemble of runs, or either with a second look."""

    @property
    def experiment(self) -> Experiment:
        """The settings, and the folder that holds thresholds.json."""

    def predictions(self, images: Sequence[Radiograph]) -> "Iterator[tuple[Radiograph, Prediction]]":
        """Every image, in order, with what its masks are made from."""

    def out_of_fold(self) -> "Pooled":
        """What is known of the images that were predicted out of fold."""

    def provenance(self) -> dict[str, Any]:
        """What the predictions depend on, besides `decisions`."""


class WholePredictor(Predictor, Protocol):
    """One whose predictions are maps of whole images: a first stage for a second look."""

    def predictions(self, images: Sequence[Radiograph]) -> "Iterator[tuple[Radiograph, Whole]]":
        """Every image, in order, with its maps."""

    def recall(self) -> Callable[[str], NDArray[np.float32]]:
        """Read what was said out of fold: from an image's name to its maps `[C, h, w]`."""

    def runs(self) -> Sequence[Experiment]:
        """The runs that predict together."""


@dataclass(frozen=True)
class Run:
    """A finished experiment: all its voting folds together."""

    experiment: Experiment

    def predictions(self, images: Sequence[Radiograph]) -> "Iterator[tuple[Radiograph, Whole]]":
        """Every image with the mean probabilities of all members and views."""
        from bonepipe.inference.predict import predictions

        experiment = self.experiment
        members = [experiment.member(fold) for fold in voting_folds(experiment)]
        windows = f" x {len(experiment.windows)} windows" if len(experiment.windows) > 1 else ""
        say(f"{len(members)} models x {len(experiment.views)} views{windows} on {experiment.device}")
        spec = configs.build(experiment.config, "prediction")
        return predictions(experiment.predictor(members), images, experiment.windows.shape, spec)

    def out_of_fold(self) -> "Pooled":
        """The histograms of all folds."""
        from bonepipe.inference.oof.results import pool

        return pool(self._folders(), self.experiment.data.classes)

    def recall(self) -> Callable[[str], NDArray[np.float32]]:
        """Maps out of fold, from the folds' bytes."""
        from bonepipe.inference.oof.results import PROBABILITIES

        classes = self.experiment.data.classes
        return OofStore({k: path / PROBABILITIES for k, path in self._folders().items()}, classes).maps

    def _folders(self) -> dict[int, Path]:
        return {fold: self.experiment.fold_folder(fold) for fold in range(self.experiment.folds.count)}

    def runs(self) -> Sequence[Experiment]:
        """The one run."""
        return [self.experiment]

    def provenance(self) -> dict[str, Any]:
        """The experiment's name, the hash of each member's weights, and how they predict."""
        experiment = self.experiment
        paths = [experiment.fold_folder(fold) / "weights.safetensors" for fold in voting_folds(experiment)]
        return {
            "experiment": experiment.config["name"],
            "weights": {path.parent.name: digest(path) for path in paths},
            **prediction_settings(experiment.config),
            **({} if experiment.postprocess.crf is None else {"crf": experiment.refined_classes()}),
        }


def voting_folds(experiment: Experiment) -> Sequence[int]:
    """The folds that vote."""
    chosen = configs.build(experiment.config, "prediction").folds
    return range(experiment.folds.count) if chosen is None else chosen


def require_finished(experiment: Experiment) -> None:
    """Raise BonepipeError unless every voting fold is trained and predicted with these settings and views.

    So it is where thresholds were chosen before a fold was trained or predicted anew. A run that sees only a region of
    the images is refused with a UsageError.
    """
    refuse_region(experiment)
    require_folds(experiment)
    _refuse_difference(
        experiment.folder / SOURCE, run_source(experiment), "run `bonepipe train-all` with the same overrides first"
    )


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


def open_run(folder: Path) -> Experiment:
    """The experiment of a run's folder, wherever it lies now, with the settings that its thresholds were chosen with.

    Raises:
        BonepipeError: there is none.
    """
    folds = sorted(folder.glob(f"fold-*/{CONFIG}"))
    if not folds:
        raise BonepipeError(f"{folder}: no run here (no fold-*/{CONFIG}); name the folder of a run, runs/NAME")
    own = folder / CONFIG
    return placed(configs.load(own if own.is_file() else folds[0]), folder)


def placed(config: configs.Config, folder: Path, shelf: str | None = None) -> Experiment:
    """An experiment whose results lie in a folder, whatever its config was called when it was written."""
    return Experiment({**config, "runs": str(folder.parent), "name": folder.name}, shelf)


def threshold_settings(config: configs.Config, given: Any) -> configs.Config:
    """A config's settings of thresholds with those that `--margin` and `--by-stratum` change."""
    settings = dict(config["thresholds"])
    if given.margin is not None:
        settings["margin"] = given.margin
    if given.by_stratum:
        settings["by"] = "stratum"
    return settings


def refuse_taken(output: Path, own: str) -> None:
    """Raise UsageError where the folder to write has no name, or holds a run or another kind of results than `own`."""
    others = {file: what for file, what in KINDS.items() if file != own}
    if not output.name or any(output.glob("fold-*")) or any((output / file).is_file() for file in others):
        held = " or ".join(["a run", *others.values()])
        raise UsageError(f"--output {output}: holds {held}; name a folder of its own, like runs/best")


def record_source(predictor: Predictor) -> None:
    """Note what the folder's thresholds and out-of-fold files were made from; done last, when all the rest is there."""
    write_json(predictor.experiment.folder / SOURCE, predictor.provenance())


def check_source(predictor: Predictor, way_out: str) -> None:
    """Raise BonepipeError unless all members still predict as they did when the folder's thresholds were chosen."""
    _refuse_difference(predictor.experiment.folder / SOURCE, predictor.provenance(), way_out)


def run_source(experiment: Experiment) -> dict[str, Any]:
    """What a run's thresholds are chosen from: the hash of each fold's results out of fold, and how it predicted."""
    from bonepipe.inference.oof.results import SCORES

    paths = [experiment.fold_folder(fold) / SCORES for fold in range(experiment.folds.count)]
    found = {path.parent.name: digest(path) for path in paths if path.is_file()}
    return {"experiment": experiment.config["name"], "folds": found, **prediction_settings(experiment.config)}


def _refuse_difference(path: Path, now: dict[str, Any], way_out: str) -> None:
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BonepipeError(f"{path}: cannot be read, so this folder is not finished ({error}); {way_out}") from error
    # The folder may have got another name.
    changed = list(configs.differences(before, json.loads(json.dumps(now)), ["experiment"]))
    if changed:
        raise BonepipeError(
            f"{path}: thresholds and repairs were chosen for other members or folds: {', '.join(changed[:3])} "
            f"{'are not what they were' if changed[1:] else 'is not what it was'}; {way_out}"
        )


def read_thresholds(experiment: Experiment) -> list[float]:
    """The experiment's thresholds in class order."""
    return thresholds.read(experiment.folder / "thresholds.json", experiment.data.classes)


def image_thresholds(experiment: Experiment, images: Sequence[Radiograph]) -> list[list[float]]:
    """Thresholds in class order, a row an image; with thresholds.by=stratum those of its stratum.

    An image of a stratum that no training image is of gets the common thresholds.
    """
    common = read_thresholds(experiment)
    by_stratum = _stratum_thresholds(experiment)
    if by_stratum is None:
        return [common] * len(images)
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
    if configs.build(experiment.config, "thresholds").by is None:
        return None
    if not experiment.strata.by:
        raise UsageError("thresholds.by=stratum: strata.by names nothing that tells strata apart")
    return {key: value for key, value in experiment.config["strata"].items() if key not in ("_target_", "test_mix")}


def make_refine(experiment: Experiment) -> Callable[[list[Cutout], Shape], list[Cutout]]:
    """What is done to an image's masks: the repairs that were chosen for each class."""
    return partial(experiment.postprocess.apply_all, _operations(experiment))


def _operations(experiment: Experiment) -> "list[Operations]":
    """The repairs of each class."""
    from bonepipe.inference.postprocess.operations import read_operations

    return read_operations(experiment.folder / "thresholds.json", experiment.data.classes, experiment.postprocess)


def masks(predictor: Predictor, images: Sequence[Radiograph]) -> Iterator[tuple[Radiograph, list[str]]]:
    """Every image with the run-length strings of its classes, at the chosen thresholds and with the chosen repairs."""
    from bonepipe.inference.predict import encode

    experiment = predictor.experiment
    limits, refine = image_thresholds(experiment, images), make_refine(experiment)
    ahead = configs.build(experiment.config, "prediction").ahead
    return encode(predictor.predictions(images), limits, refine, ahead)


def decisions(predictor: Predictor) -> dict[str, Any]:
    """All that the masks depend on: where the predictions come from, and the thresholds."""
    experiment = predictor.experiment
    by_stratum, tried = _stratum_thresholds(experiment), experiment.postprocess.operations
    return {
        **predictor.provenance(),
        **({"repairs": _operations(experiment), "min_area": experiment.postprocess.min_area} if tried else {}),
        "thresholds": dict(zip(experiment.data.classes, read_thresholds(experiment), strict=True)),
        **({} if by_stratum is None else {"thresholds_by_stratum": by_stratum}),
    }


def mask_maker(
    maps: Callable[[str], NDArray[np.float32]], experiment: Experiment
) -> Callable[[str, Sequence[float]], list[Cutout]]:
    """Masks of training images from their names and thresholds, given their maps."""
    store = experiment.store
    index = {name: number for number, name in enumerate(store.names)}
    return lambda name, limits: upsample.cutouts(maps(name), limits, store.shape(index[name]))
