"""A finished run: all its voting folds together."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bonepipe import config as configs
from bonepipe.data.catalog import Radiograph
from bonepipe.errors import BonepipeError, UsageError
from bonepipe.pipeline import decisions, run_folder
from bonepipe.pipeline.experiment import Experiment, say, tell_versions
from bonepipe.pipeline.predictors.base import Maps, require_current
from bonepipe.pipeline.run_folder import FINGERPRINT, WEIGHTS, Inputs, Step
from bonepipe.pipeline.steps import DELETE, UNKNOWN, Steps, prediction_settings

if TYPE_CHECKING:
    from bonepipe.inference.oof.results import Pooled
    from bonepipe.inference.predict import Whole

SHOWN = ("size", "fit", "mean", "std", "region")  # of a dataset: how an image looks to a network
WAY_OUT = "run `bonepipe train-all` with the run's settings first"


@dataclass(frozen=True)
class Run:
    """An experiment whose folds are trained."""

    experiment: Experiment

    def predictions(self, images: Sequence[Radiograph]) -> "Iterator[tuple[Radiograph, Whole]]":
        """Every image with the mean probabilities of all fold models and views."""
        from bonepipe.inference.predict import predictions
        from bonepipe.pipeline.predictors.unlike import warned

        experiment = self.experiment
        folds = voting_folds(experiment)
        tell_versions(experiment, folds)
        models = [experiment.fold_model(fold) for fold in folds]
        say(f"{len(models)} models x {experiment.ways} on {experiment.device}")
        predict = experiment.predictor(models, refined_classes(experiment))
        told = predictions([(experiment.windows.frame, predict)], images, experiment.prediction)
        return warned(told, experiment.weights(folds[0]))

    def out_of_fold(self) -> "Pooled":
        """The histograms of all folds."""
        from bonepipe.inference.oof.results import pool

        return pool(self._folders(), self.experiment.data.classes)

    def recall(self) -> Maps:
        """Maps out of fold, from the folds' bytes."""
        from bonepipe.inference.oof.results import PROBABILITIES
        from bonepipe.inference.oof.store import OofStore

        files = {fold: path / PROBABILITIES for fold, path in self._folders().items()}
        return OofStore(files, self.experiment.data.classes).maps

    def _folders(self) -> dict[int, Path]:
        return {fold: self.experiment.fold_folder(fold) for fold in range(self.experiment.folds.count)}

    def runs(self) -> Sequence[Experiment]:
        """The one run."""
        return [self.experiment]

    def provenance(self) -> Inputs:
        """The weights of each fold model, and how they predict."""
        experiment = self.experiment
        weights = {f"fold-{fold}/{WEIGHTS}": experiment.weights(fold) for fold in voting_folds(experiment)}
        return {
            "settings": prediction_settings(experiment.config),
            "files": Steps(experiment).digests(weights),
            "crf": dict.fromkeys(refined_classes(experiment), True),
        }

    def cross_validation(self, *, dataset: bool = False) -> Step:
        """The choice of thresholds from the folds' predictions."""
        return Steps(self.experiment).cross_validation(dataset=dataset)


def voting_folds(experiment: Experiment) -> Sequence[int]:
    """The folds that vote. Raises UsageError where prediction.folds names one that is not there."""
    chosen, count = experiment.config["prediction"].get("folds"), experiment.folds.count
    for fold in chosen or ():
        if not 0 <= fold < count:
            raise UsageError(f"prediction.folds={list(chosen)}: there are folds 0 to {count - 1}")
    return range(count) if chosen is None else chosen


def refined_classes(experiment: Experiment) -> tuple[str, ...]:
    """The classes that keep the CRF; none where there is no CRF."""
    if experiment.config["postprocess"].get("crf") is None:
        return ()
    return decisions.read(experiment.folder, experiment.data.classes).crf


def require_folds(experiment: Experiment) -> None:
    """Raise BonepipeError unless every voting fold is trained and predicted, in this way, and nothing is damaged."""
    steps = Steps(experiment)
    for fold in voting_folds(experiment):
        folder = experiment.fold_folder(fold)
        trained = run_folder.read_training(folder)
        step = steps.out_of_fold(fold)
        if trained is None and (folder / WEIGHTS).is_file():
            raise BonepipeError(f"{folder / FINGERPRINT}: {UNKNOWN}; put back a copy, or {DELETE}")
        if trained is None or not (folder / WEIGHTS).is_file():
            raise BonepipeError(f"{folder}: is not trained yet; {WAY_OUT}")
        if trained["outputs"].get(WEIGHTS) != step.inputs["files"][WEIGHTS]:
            way_out = f"put the file back, or move {folder} away to train it anew"
            raise BonepipeError(f"{folder / WEIGHTS}: is not the file that training wrote; {way_out}")
        with run_folder.blamed(folder):
            unlike = seen_otherwise(trained["inputs"]["settings"], experiment.config)
        if unlike:
            raise BonepipeError(
                f"{folder}: was trained on images that were shown in another way:\n{run_folder.shortened(unlike)}\n"
                f"Give the settings that it was trained with, or `bonepipe train-all` with a name of its own"
            )
        if not step.current:
            changed = [*step.damage(), *step.changes()] or ["out-of-fold predictions"]
            raise BonepipeError(
                f"{folder}: is not predicted out of fold, or was in another way:\n{run_folder.shortened(changed)}\n"
                f"R{WAY_OUT[1:]}"
            )


def refuse_other_truth(experiment: Experiment) -> None:
    """Raise BonepipeError where an image or annotation is not the one that the voting folds have seen.

    What they said out of fold would be compared with what they were not asked.
    """
    now = Steps(experiment).own_files()
    for fold in voting_folds(experiment):
        folder = experiment.fold_folder(fold)
        trained = run_folder.read_training(folder)
        then: dict[str, str] = {} if trained is None else trained["inputs"]["files"]
        shared = now.keys() & then.keys()
        before, after = ({"files": {name: files[name] for name in shared}} for files in (then, now))
        if changes := run_folder.differences(before, after):
            raise BonepipeError(
                f"{folder}: was trained and predicted with other files of {experiment.data.root}:\n"
                f"{run_folder.shortened(changes)}\nPut them back, or train it anew"
            )


def seen_otherwise(then: Mapping[str, Any], config: configs.Config) -> list[str]:
    """The settings of what a network sees of an image that are not those its weights were trained with, in words."""
    nodes = ({"_target_": data["_target_"], **_shown(data)} for data in (then["data"], config["data"]))
    return run_folder.differences(*({"settings": {"data": node}} for node in nodes))


def _shown(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: data[key] for key in SHOWN if key in data}


def open_run(folder: Path, words: Sequence[str] = ()) -> Experiment:
    """The experiment of a run's folder, wherever it lies now, with the settings that its thresholds were chosen with.

    Args:
        folder: of the run.
        words: overrides of how it predicts.

    Raises:
        BonepipeError: there is none, or a voting fold is not finished.
    """
    if (kind := run_folder.kind_of(folder)) != "run":
        what = f"is no run, but holds the files of another kind ({kind})"
        raise UsageError(f"{folder}: {what}; name a run that is part of it")
    experiment = Experiment(configs.recompose(run_folder.recorded_config(folder), words)).placed(folder)
    require_folds(experiment)
    return experiment


def require_finished(experiment: Experiment) -> Run:
    """The run, its thresholds chosen from what its folds say now. Raises BonepipeError; UsageError for a region's."""
    refuse_region(experiment)
    require_folds(experiment)
    run = Run(experiment)
    require_current(run, WAY_OUT)
    return run


def refuse_region(experiment: Experiment) -> None:
    """Raise UsageError where a command is for whole images and the experiment only looks at a part of them."""
    if experiment.data.region is not None:
        raise UsageError(
            f"{experiment.folder}: sees only the part of an image that data.region names; use it beside a run that "
            f"sees all: bonepipe cascade FIRST_RUN {experiment.folder}"
        )
