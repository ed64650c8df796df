"""The members of an ensemble: finished runs that predict, each in its own way, and what they said out of fold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bonepipe import config as configs
from bonepipe.data.batches import TestImages
from bonepipe.data.frame import Frame
from bonepipe.digests import combined
from bonepipe.errors import BonepipeError, UsageError, suggestion
from bonepipe.inference.ensemble.members import Entry
from bonepipe.inference.fold_model import FoldModel
from bonepipe.inference.oof import byte_maps
from bonepipe.inference.oof.predict import Predict, predict_bytes
from bonepipe.inference.oof.store import OofStore
from bonepipe.inference.tta import seen_in_training
from bonepipe.pipeline import decisions, run_folder
from bonepipe.pipeline.experiment import Experiment, say, tell_versions, with_group
from bonepipe.pipeline.predictors.base import require_current
from bonepipe.pipeline.predictors.run import WAY_OUT, Run, refuse_region, require_folds
from bonepipe.pipeline.run_folder import CONFIG, Inputs
from bonepipe.pipeline.steps import AFTER_PREDICTION, NOT_TRAINING, PREDICTION, Steps, prediction_settings
from bonepipe.training.weights_file import read_facts

# What an entry may change: how trained weights predict, and nothing that they were trained with.
ALLOWED = ("tta", "windows", "postprocess.crf", "prediction.precision", "prediction.compile")


@dataclass(frozen=True)
class EnsembleMember:
    """An entry of an ensemble and the finished run that it names.

    Attributes:
        entry: as it was written.
        experiment: the run's config with the entry's overrides.
        folds: whose models predict.
        anew: whether its out-of-fold predictions are to be made anew, because the run's were made in another way.
        refined: the classes whose maps the CRF refines: those that the run chose.
    """

    entry: Entry
    experiment: Experiment
    folds: tuple[int, ...]
    anew: bool
    refined: tuple[str, ...] = ()

    @property
    def frame(self) -> Frame:
        """How it is shown images."""
        return self.experiment.windows.frame

    @property
    def epochs(self) -> Sequence[int | None]:
        """Whose weights predict; None for those that training chose."""
        return self.entry.epochs or (None,)

    def predict(self) -> Predict:
        """Probabilities of grey bytes `[N, *frame.shape]`: the mean over its folds, epochs and views."""
        tell_versions(self.experiment, self.folds)
        models = self._models(self.folds)
        say(f"{self.entry.run}: {len(models)} models x {self.experiment.ways}")
        return self.experiment.predictor(models, self.refined)

    def _models(self, folds: Sequence[int]) -> list[FoldModel]:
        return [self.experiment.fold_model(fold, epoch) for fold in folds for epoch in self.epochs]

    def weights(self, folds: Sequence[int]) -> dict[str, str]:
        """The digest of each file of weights that predicts."""
        paths = [self.experiment.weights(fold, epoch) for fold in folds for epoch in self.epochs]
        return Steps(self.experiment).digests({f"{path.parent.name}/{path.name}": path for path in paths})

    def provenance(self) -> Inputs:
        """Its share, its weights, and how they predict."""
        return {
            "weight": self.entry.weight,
            "classes": self.entry.classes and list(self.entry.classes),
            "files": self.weights(self.folds),
            "settings": prediction_settings(self.experiment.config),
            "crf": list(self.refined),
        }

    def places(self) -> dict[str, int]:
        """Image name -> the fold that predicted it out of fold."""
        return self._store({fold: self._validated(fold) for fold in self.folds}).folds

    def check(self) -> None:
        """Raise BonepipeError where weights are missing, or the model did not see a view in training."""
        for fold in self.folds:
            for epoch in self.epochs:
                path = self.experiment.weights(fold, epoch)
                self.experiment.views.check(seen_in_training(read_facts(path)), path)

    def store(self) -> OofStore:
        """What it said of the images that its folds validate."""
        return self._store({fold: self._out_of_fold(fold) for fold in self.folds})

    def _store(self, files: Mapping[int, Path]) -> OofStore:
        return OofStore(files, self.experiment.data.classes)

    def _validated(self, fold: int) -> Path:
        return self.experiment.fold_folder(fold) / "probabilities.npz"

    def _out_of_fold(self, fold: int) -> Path:
        """The file of a fold's maps, made first where they are wanted in another way than the run's."""
        if not self.anew:
            return self._validated(fold)
        path = self.experiment.fold_folder(fold) / f"probabilities-{self._key(fold)}.npz"
        if not byte_maps.is_whole(path):
            self._predict_anew(fold, path)
        return path

    def _predict_anew(self, fold: int, path: Path) -> None:
        names = byte_maps.read_names(self._validated(fold), self.experiment.data.classes)
        known = {image.name: image for image in self.experiment.cohort.own_images}
        missing = [name for name in names if name not in known]
        if missing:
            raise BonepipeError(
                f"{self.experiment.data.root}: has no training image {missing[0]}, which {self.entry.run} was "
                "validated on; give its data.root=..."
            )
        source = TestImages([known[name] for name in names], self.frame)
        predict = self.experiment.predictor(self._models([fold]), self.refined)
        spec, classes = self.experiment.prediction, self.experiment.data.classes
        predict_bytes(predict, source, self.frame, names, classes, path, spec.batch_size, spec.workers)

    def _key(self, fold: int) -> str:
        """The digest of these weights, predicting in this way."""
        precision = self.experiment.config["prediction"].get("precision")
        settings = prediction_settings(self.experiment.config)
        return combined([list(self.weights([fold]).values()), settings, precision, self.refined])[:12]


def open_member(
    entry: Entry, root: str | None = None, device: str | None = None, words: Sequence[str] = ()
) -> EnsembleMember:
    """Find an entry's run and check that it is finished.

    Args:
        entry: of the ensemble.
        root: the dataset; None for the one that the run was trained on.
        device: where to predict; None for the run's setting.
        words: overrides of how it predicts, such as prediction.batch_size; they win over the entry's.

    Raises:
        BonepipeError: no such run or fold, its folds were predicted in different ways, or no choice of the classes
            that keep its CRF.
        UsageError: an override of something that training depends on, or a run that sees only a region.
    """
    folder = Path(entry.run)
    kind = run_folder.kind_of(folder)
    if kind != "run":
        raise BonepipeError(f"{folder}: is no run but holds a finished {kind}; name the runs that it is made of")
    recorded = _shared_config(folder, _folds(entry, folder))
    placed = Experiment(recorded).placed(folder, device=device, root=root)
    folds = _folds(entry, folder)
    require_folds(with_group(placed, "prediction", folds=list(folds)))
    config = configs.recompose(placed.config, [*_allowed(entry), *words])
    experiment = replace(placed, config=config)
    refuse_region(experiment)  # a region's maps are no whole images: they have a place in a cascade
    anew = entry.epochs is not None or prediction_settings(config) != prediction_settings(recorded)
    member = EnsembleMember(entry, experiment, folds, anew, _refined(entry, experiment, placed))
    member.check()
    return member


def _refined(entry: Entry, experiment: Experiment, recorded: Experiment) -> tuple[str, ...]:
    """The classes that keep the CRF: the run's choice, or none where the entry does without."""
    if experiment.postprocess.crf is None:
        return ()
    if experiment.postprocess.crf != recorded.postprocess.crf:
        raise UsageError(
            f"{entry.run}: overrides: postprocess.crf: is not the CRF that the run has tried, so which classes gain by "
            "it is not known; run `bonepipe train-all` with it, which finds out"
        )
    chosen = Experiment(run_folder.recorded_config(recorded.folder)).placed(recorded.folder)
    require_current(Run(chosen), WAY_OUT)
    return decisions.read(recorded.folder, recorded.data.classes).crf


def _folds(entry: Entry, folder: Path) -> tuple[int, ...]:
    """The folds that predict: those that are named, or all of the split. Raises BonepipeError where one is missing."""
    count = run_folder.recorded_config(folder)["folds"]["count"]
    finished = [fold for fold, path in run_folder.fold_folders(folder).items() if _is_finished(path)]
    missing = [fold for fold in entry.folds or range(count) if fold not in finished]
    if missing or not finished:
        there = ", ".join(map(str, finished)) or "none"
        fold = missing[0] if missing else 0
        raise BonepipeError(
            f"{folder}: fold {fold} is not finished (finished: {there}); `bonepipe train fold={fold} "
            f"name={folder.name}` with the run's overrides finishes it, or name others in a YAML file, folds: [{there}]"
        )
    return entry.folds or tuple(finished)


def _is_finished(fold: Path) -> bool:
    return (fold / CONFIG).is_file() and "out_of_fold" in run_folder.read_fingerprint(fold)


def _shared_config(folder: Path, folds: Sequence[int]) -> configs.Config:
    """The config that all these folds share."""
    first, *others = (run_folder.load_config(folder / f"fold-{fold}" / CONFIG) for fold in folds)
    ignore = [*(key for key in NOT_TRAINING if key not in PREDICTION), *AFTER_PREDICTION, "data.root"]
    for fold, other in zip(folds[1:], others, strict=True):
        if changed := configs.differences(first, other, ignore):
            raise BonepipeError(
                f"{folder}: fold {fold} was trained or predicted in another way than fold {folds[0]} "
                f"({', '.join(changed)}); run `bonepipe train-all` with the overrides that shall hold"
            )
    path = folder / CONFIG  # which has the settings of what follows prediction, too
    whole = run_folder.recorded_config(folder) if path.is_file() else first
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


def open_members(
    entries: Sequence[Entry], root: str | None = None, device: str | None = None, words: Sequence[str] = ()
) -> list[EnsembleMember]:
    """All members of an ensemble on one dataset and one device, by default those of the first; see `open_member`.

    Raises:
        BonepipeError: as `open_member`, or members are for different classes.
    """
    first = open_member(entries[0], root, device, words)
    shared, device = first.experiment.data.root, first.experiment.config["device"]
    members = [first, *(open_member(entry, shared, device, words) for entry in entries[1:])]
    expected = list(first.experiment.data.classes)
    for member in members:
        classes = list(member.experiment.data.classes)
        if classes != expected:
            unlike = sorted(set(classes) ^ set(expected)) or "another order"
            raise BonepipeError(
                f"{member.entry.run}: has other classes than {first.entry.run} ({unlike}); members must agree on them"
            )
    return members
