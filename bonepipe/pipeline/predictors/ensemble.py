"""An ensemble of finished runs: the mean of their maps at a common resolution."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bonepipe import config as configs
from bonepipe.data.catalog import Radiograph
from bonepipe.errors import BonepipeError
from bonepipe.inference.ensemble import members as files
from bonepipe.inference.ensemble.average import average
from bonepipe.inference.ensemble.members import Ensemble, Entry, Mean
from bonepipe.inference.oof.results import HISTOGRAMS, Pooled, read_counts
from bonepipe.inference.oof.store import OofStore
from bonepipe.inference.predict import Whole, predictions
from bonepipe.pipeline import run_folder
from bonepipe.pipeline.experiment import Experiment
from bonepipe.pipeline.predictors.base import Maps, require_current
from bonepipe.pipeline.predictors.member import EnsembleMember, open_members
from bonepipe.pipeline.predictors.own_settings import of_networks, own_settings
from bonepipe.pipeline.predictors.run import refuse_other_truth
from bonepipe.pipeline.predictors.unlike import warned
from bonepipe.pipeline.run_folder import CONFIG, ENSEMBLE, THRESHOLDS, Inputs, Step
from bonepipe.pipeline.steps import Steps

OUTPUTS = (CONFIG, "oof.csv", "histograms.npz", "oof_dice.csv")  # of a cross-validation beside thresholds.json


@dataclass(frozen=True)
class EnsemblePredictor:
    """Members and the ensemble's own settings.

    Attributes:
        ensemble: entries that are alike made one.
        members: one an entry.
        experiment: the first member's settings in the ensemble's own folder, where all results go.
    """

    ensemble: Ensemble
    members: list[EnsembleMember]
    experiment: Experiment

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """`[M, C]`; those of a class add to 1."""
        return self.ensemble.weights(self.experiment.data.classes)

    @property
    def mean(self) -> Mean:
        """A single member is its own mean, to the last bit."""
        return self.ensemble.mean if len(self.members) > 1 else "arithmetic"

    @property
    def facts(self) -> dict[str, Any]:
        """What the dashboard shows of it beside its settings."""
        return {"mean": self.ensemble.mean, "members": [vars(entry) for entry in self.ensemble.members]}

    def predictions(self, images: Sequence[Radiograph]) -> Iterator[tuple[Radiograph, Whole]]:
        """Every image with the members' mean, each shown the frame that it sees, from one decoding."""
        distinct = self._distinct()
        predictors = [(member.frame, member.predict()) for member, _ in distinct]
        weights = np.array([shares for _, shares in distinct])
        mean = partial(average, weights=weights, mean=self.mean)
        first, told = self.members[0], predictions(predictors, images, self.experiment.prediction, mean)
        return warned(told, first.experiment.weights(first.folds[0], first.epochs[0]))

    def _distinct(self) -> list[tuple[EnsembleMember, NDArray[np.float64]]]:
        """Members with their weights `[C]`; entries that differ in these alone are one, which predicts once."""
        merged: dict[Entry, tuple[EnsembleMember, NDArray[np.float64]]] = {}
        for member, shares in zip(self.members, self.weights, strict=True):
            alike = replace(member.entry, weight=1.0, classes=None)
            first, before = merged.get(alike, (member, np.zeros_like(shares)))
            merged[alike] = first, before + shares
        return list(merged.values())

    def out_of_fold(self) -> Pooled:
        """The histograms that the cross-validation left, each image in the fold of the first member."""
        names, counts = read_counts(self.experiment.folder / HISTOGRAMS, self.experiment.data.classes)
        places = self.members[0].places()
        return Pooled(names, np.array([places[name] for name in names]), counts)

    def recall(self) -> Maps:
        """Mix an image's maps out of fold from the members' bytes."""
        return self.mixer([member.store() for member in self.members])

    def mixer(self, stores: Sequence[OofStore]) -> Maps:
        """As `recall`, from what was read already."""
        return lambda name: average([store.maps(name) for store in stores], self.weights, self.mean)

    def runs(self) -> Sequence[Experiment]:
        """The members' runs."""
        return [member.experiment for member in self.members]

    def provenance(self) -> Inputs:
        """The mean, and of each member its share, weights and way to predict."""
        members = {f"{number} {member.entry.run}": member.provenance() for number, member in enumerate(self.members)}
        return {"mean": self.mean, "members": members}

    def cross_validation(self, *, dataset: bool = False) -> Step:
        """The choice of thresholds from the members' mean."""
        groups = {key: self.experiment.config[key] for key in ("thresholds", "strata", "postprocess")}
        steps, outputs = Steps(self.experiment), (THRESHOLDS, ENSEMBLE, *OUTPUTS)
        inputs = {"settings": groups, **self.provenance(), **(steps.told_strata() if dataset else {})}
        return Step(self.experiment.folder, "cross_validation", inputs, outputs, steps.cache)


def assemble(ensemble: Ensemble, folder: Path, words: Sequence[str]) -> EnsemblePredictor:
    """The ensemble that shall write into a folder; the words are overrides of the first member's settings.

    Raises:
        BonepipeError: as `open_members`.
        UsageError: the folder holds something else, an override does not belong here, or a class has no member.
    """
    run_folder.refuse_taken(folder, ENSEMBLE)
    changes = own_settings(words)
    ensemble = ensemble.merged()
    members = open_members(ensemble.members, changes.get("data.root"), changes.get("device"), of_networks(words))
    first = members[0].experiment
    batch_size = min(member.experiment.prediction.batch_size for member in members)
    prediction = {**first.config["prediction"], "folds": None, "batch_size": batch_size}
    config = configs.recompose({**first.config, "prediction": prediction}, words)
    experiment = replace(first, config=config).placed(folder, store=first.store_folder)
    predictor = EnsemblePredictor(ensemble, members, experiment)
    _ = predictor.weights
    predictor.experiment.try_later_settings()
    for run in predictor.runs():
        refuse_other_truth(run)
    return predictor


def open_ensemble(folder: Path, words: Sequence[str] = ()) -> EnsemblePredictor:
    """The ensemble that `bonepipe ensemble` left in a folder; its members' folders are named as they were then.

    Raises:
        BonepipeError: it is not cross-validated, its members have changed since, or as `open_members`.
    """
    way_out = f"run `bonepipe ensemble {folder / ENSEMBLE} -o {folder}`"
    if not (folder / CONFIG).is_file():
        raise BonepipeError(f"{folder / CONFIG}: is missing, so this ensemble was not finished; {way_out}")
    config = run_folder.load_config(folder / CONFIG, way_out.removeprefix("run "))
    experiment = Experiment(configs.recompose(config, words)).placed(folder)
    try:
        ensemble = files.read(folder / ENSEMBLE).merged()
    except BonepipeError as error:
        raise BonepipeError(f"{error}; run `bonepipe ensemble MEMBERS... -o {folder}` again") from error
    members = open_members(ensemble.members, experiment.data.root, experiment.config["device"], of_networks(words))
    predictor = EnsemblePredictor(ensemble, members, replace(experiment, store=members[0].experiment.store_folder))
    _ = predictor.weights
    require_current(predictor, way_out)
    return predictor
