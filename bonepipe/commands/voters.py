"""The members of an ensemble: finished runs that predict, each in its own way, and what they said out of fold."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bonepipe import config as configs
from bonepipe.commands.predictor import CONFIG, KINDS
from bonepipe.commands.train import RESULTS
from bonepipe.data.catalog import Radiograph
from bonepipe.errors import BonepipeError, UsageError, suggestion
from bonepipe.files import digest
from bonepipe.inference.ensemble.members import Entry
from bonepipe.inference.oof import byte_maps
from bonepipe.inference.oof.store import OofStore
from bonepipe.pipeline.experiment import (
    AFTER_PREDICTION,
    HARMLESS,
    Experiment,
    prediction_settings,
    refuse_region,
    say,
)

if TYPE_CHECKING:
    from bonepipe.inference.fold_model import FoldModel
    from bonepipe.inference.oof.predict import Predict

# What an entry may change: how trained weights predict, and nothing that they were trained with.
ALLOWED = ("tta", "windows", "postprocess.crf", "prediction.precision", "prediction.compile")


@dataclass(frozen=True)
class Voter:
    """An entry of an ensemble and the finished run that it names.

    Attributes:
        entry: as it was written.
        experiment: the run's own config with the entry's overrides.
        folds: whose models vote.
        anew: whether its out-of-fold predictions are to be made anew, because the run's own were made in another way.
        refined: the classes whose maps the CRF refines: those that the run chose.
    """

    entry: Entry
    experiment: Experiment
    folds: tuple[int, ...]
    anew: bool
    refined: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the images that it sees, and of its maps."""
        return self.experiment.windows.shape

    def predict(self) -> "Predict":
        """Probabilities of grey bytes `[N, *shape]`: the mean over its folds, epochs and views."""
        members = self._members(self.folds)
        windows = f" x {len(self.experiment.windows)} windows" if len(self.experiment.windows) > 1 else ""
        say(f"{self.entry.run}: {len(members)} models x {len(self.experiment.views)} views{windows}")
        return self.experiment.predictor(members, self.refined)

    def _members(self, folds: Sequence[int]) -> list["FoldModel"]:
        epochs: Sequence[int | None] = self.entry.epochs or (None,)
        return [self.experiment.member(fold, epoch) for fold in folds for epoch in epochs]

    def places(self) -> dict[str, int]:
        """Image name -> the fold that predicted it out of fold."""
        classes = self.experiment.data.classes
        paths = {fold: self.experiment.fold_folder(fold) / "probabilities.npz" for fold in self.folds}
        return {name: fold for fold, path in paths.items() for name in byte_maps.read_names(path, classes)}

    def provenance(self) -> dict[str, Any]:
        """The run, its share, the hashes of its weights, and how they predict."""
        epochs: Sequence[int | None] = self.entry.epochs or (None,)
        paths = [self.experiment.weights(fold, epoch) for fold in self.folds for epoch in epochs]
        return {
            "experiment": self.experiment.config["name"],
            "weight": self.entry.weight,
            "classes": self.entry.classes and list(self.entry.classes),
            "weights": {f"{path.parent.name}/{path.stem}": digest(path) for path in paths},
            **prediction_settings(self.experiment.config),
            "crf": list(self.refined),
        }

    def check(self) -> None:
        """Raise BonepipeError where weights are missing, or the model did not see a view in training."""
        from bonepipe.inference.fold_model import read_facts
        from bonepipe.inference.tta import seen_in_training

        for fold in self.folds:
            for epoch in self.entry.epochs or (None,):
                path = self.experiment.weights(fold, epoch)
                self.experiment.views.check(seen_in_training(read_facts(path)), path)

    def archive(self) -> OofStore:
        """What it said of the images that its folds validate."""
        files = {fold: self._out_of_fold(fold) for fold in self.folds}
        return OofStore(files, self.experiment.data.classes)

    def _out_of_fold(self, fold: int) -> Path:
        classes, folder = self.experiment.data.classes, self.experiment.fold_folder(fold)
        if not self.anew:
            return folder / "probabilities.npz"
        path = folder / f"probabilities-{self._key(fold)}.npz"
        if not path.is_file():
            self._predict_anew(fold, byte_maps.read_names(folder / "probabilities.npz", classes), path)
        return path

    def _predict_anew(self, fold: int, names: Sequence[str], path: Path) -> None:
        from bonepipe.inference.oof.predict import predict_bytes
        from bonepipe.inference.predict import TestImages

        known = {image.name: image for image in self.experiment.own_images}
        images = [_known(name, known, self.experiment.data.root) for name in names]
        predict = self.experiment.predictor(self._members([fold]), self.refined)
        batch_size = configs.build(self.experiment.config, "prediction").batch_size
        source = TestImages(images, self.shape)
        predict_bytes(predict, source, names, self.experiment.data.classes, path, batch_size)

    def _key(self, fold: int) -> str:
        """A name for these weights, predicting in this way."""
        weights = [digest(self.experiment.weights(fold, epoch)) for epoch in self.entry.epochs or (None,)]
        settings = [
            prediction_settings(self.experiment.config),
            self.experiment.config["prediction"].get("precision"),
            *self.refined,
        ]
        return hashlib.sha256(json.dumps([weights, settings], sort_keys=True).encode()).hexdigest()[:12]


def _known(name: str, images: dict[str, Radiograph], root: str) -> Radiograph:
    if name not in images:
        raise BonepipeError(f"{root}: has no training image {name}, which a member was validated on; give its --data")
    return images[name]


def open_voter(entry: Entry, root: str | None = None, device: str | None = None) -> Voter:
    """Find an entry's run and check that it is finished.

    Args:
        entry: of the ensemble.
        root: the dataset; None for the one that the run was trained on.
        device: where to predict; None for the run's own setting.

    Raises:
        BonepipeError: no such run or fold, its folds were predicted in different ways, or no choice of the classes
            that keep its CRF.
        UsageError: an override of something that training depends on, or a run that sees only a region.
    """
    folder = Path(entry.run)
    folds = _folds(entry, folder)
    own = _config(folder, folds)
    data = own["data"] if root is None else {**own["data"], "root": root}
    moved = {**own, "name": folder.name, "runs": str(folder.parent), "device": device or own["device"], "data": data}
    config = configs.override(moved, _allowed(entry))
    refuse_region(Experiment(config))  # a region's maps are no whole images: they have a place as a second look
    anew = entry.epochs is not None or prediction_settings(config) != prediction_settings(own)
    voter = Voter(entry, Experiment(config), folds, anew, _refined(entry, Experiment(config), Experiment(moved)))
    voter.check()
    return voter


def _refined(entry: Entry, experiment: Experiment, own: Experiment) -> tuple[str, ...]:
    """The classes that keep the CRF: the run's own choice, or none where the entry does without."""
    if experiment.postprocess.crf is None:
        return ()
    if experiment.postprocess.crf != own.postprocess.crf:
        raise UsageError(
            f"{entry.run}: overrides: postprocess.crf: is not the CRF that the run has tried, so which classes gain by "
            "it is not known; run `bonepipe train-all` with it, which finds out"
        )
    return tuple(own.refined_classes())


def _folds(entry: Entry, folder: Path) -> tuple[int, ...]:
    """The folds that vote: those that are named, or all that are finished."""
    if not folder.is_dir():
        near = (path.name for path in folder.parent.glob("*") if any(path.glob("fold-*")))
        raise BonepipeError(f"{folder}: no such run{suggestion(folder.name, near) or ' below the working directory'}")
    refuse_assembled(folder)
    found = sorted(int(path.name[5:]) for path in folder.glob("fold-*") if path.name[5:].isdigit())
    finished = [fold for fold in found if all((folder / f"fold-{fold}" / name).is_file() for name in RESULTS)]
    if not finished:
        raise BonepipeError(f"{folder}: holds no finished fold; `bonepipe train fold=K name={folder.name}` makes one")
    for fold in entry.folds or ():
        if fold not in finished:
            there = ", ".join(map(str, finished))
            raise BonepipeError(
                f"{folder}: folds: fold {fold} is not finished (finished: {there}); `bonepipe train fold={fold} "
                f"name={folder.name}` with the run's overrides finishes it"
            )
    return entry.folds or tuple(finished)


def refuse_assembled(folder: Path) -> None:
    """Raise BonepipeError where a member is an ensemble or a second look, which has no folds of its own."""
    for name, what in KINDS.items():
        if (folder / name).is_file():
            raise BonepipeError(f"{folder}: is {what} ({name}); name the runs that it is made of")


def _config(folder: Path, folds: Sequence[int]) -> configs.Config:
    """The config that all these folds share."""
    first, *others = (configs.load(folder / f"fold-{fold}" / "config.yaml") for fold in folds)
    ignore = [*HARMLESS, *AFTER_PREDICTION, "data.root"]
    for fold, other in zip(folds[1:], others, strict=True):
        changed = configs.differences(first, other, ignore)
        if changed:
            raise BonepipeError(
                f"{folder}: fold {fold} was trained or predicted in another way than fold {folds[0]} "
                f"({', '.join(changed)}); run `bonepipe train-all` with the overrides that shall hold"
            )
    path = folder / CONFIG  # which has the settings of what follows prediction, too
    whole = configs.load(path) if path.is_file() else first
    return first if configs.differences(first, whole, [*ignore, "strata", "data.strata"]) else whole


def _allowed(entry: Entry) -> tuple[str, ...]:
    """An entry's overrides, where they change nothing but how its weights predict."""
    for word in entry.overrides:
        key = word.partition("=")[0]
        if not any(key == name or key.startswith(f"{name}.") for name in ALLOWED):
            raise UsageError(
                f"{entry.run}: overrides: {key!r} cannot be changed in an ensemble{suggestion(key, ALLOWED)}; what "
                f"may differ from training is {', '.join(ALLOWED)}"
            )
    return entry.overrides


def open_voters(entries: Sequence[Entry], root: str | None = None, device: str | None = None) -> list[Voter]:
    """All members of an ensemble on one dataset and one device, by default those of the first.

    Raises:
        BonepipeError: as `open_voter`, or members are for different classes.
    """
    first = open_voter(entries[0], root, device)
    shared, device = first.experiment.data.root, first.experiment.config["device"]
    voters = [first, *(open_voter(entry, shared, device) for entry in entries[1:])]
    expected = list(first.experiment.data.classes)
    for voter in voters:
        classes = list(voter.experiment.data.classes)
        if classes != expected:
            unlike = sorted(set(classes) ^ set(expected)) or "another order"
            raise BonepipeError(
                f"{voter.entry.run}: has other classes than {first.entry.run} ({unlike}); members must agree on them"
            )
    return voters
