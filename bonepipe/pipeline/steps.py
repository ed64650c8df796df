"""What each step of a run depends on: the one place that decides what makes a result stale."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bonepipe import config as configs
from bonepipe.data import folds as fold_files
from bonepipe.data.catalog import Radiograph, external_images, read_catalog, train_images
from bonepipe.data.metadata import ROTATED_FILE
from bonepipe.data.pseudo import pseudo_images
from bonepipe.data.store import DIGESTS, existing, files_of
from bonepipe.data.submission import ANSWER
from bonepipe.digests import digests
from bonepipe.errors import BonepipeError
from bonepipe.pipeline import run_folder
from bonepipe.pipeline.run_folder import CHECKPOINT, CONFIG, FINGERPRINT, SCORES, SUBMISSION, THRESHOLDS, WEIGHTS

if TYPE_CHECKING:
    from bonepipe.pipeline.experiment import Experiment

# Settings that no trained weights depend on: names, places, devices, and what follows training.
NOT_TRAINING = (
    "name", "fold", "runs", "device", "executor", "tracking", "tta", "windows", "postprocess", "prediction",
    "thresholds", "search", "cam", "data.palette", "data.images", "data.closeup", "data.negatives", "data.limits",
    "trainer.workers", "trainer.compile", "trainer.detect_anomaly",
)  # fmt: skip
# Settings that name files: their contents count, and not where they lie.
FILES = ("data.root", "data.corrections", "data.pseudo", "data.masks", "augment.file", "folds.file")
# Groups that change how trained weights predict, and what in them no out-of-fold prediction depends on.
PREDICTION = ("tta", "windows", "postprocess")
AFTER_PREDICTION = ("windows.batch_size", "postprocess.operations", "postprocess.min_area")
OUT_OF_FOLD = ("oof.csv", "histograms.npz", "probabilities.npz", "oof_dice.csv")


def prediction_settings(config: configs.Config) -> configs.Config:
    """The settings that probabilities depend on beside the weights."""
    return without({group: config[group] for group in PREDICTION}, AFTER_PREDICTION)


def without(config: Mapping[str, Any], keys: Sequence[str]) -> configs.Config:
    """A nested config without some keys, groups or dotted."""
    return {
        key: without(value, [k.removeprefix(f"{key}.") for k in keys if k.startswith(f"{key}.")])
        if isinstance(value, Mapping)
        else value
        for key, value in config.items()
        if key not in keys
    }


def turned(images: Sequence[Radiograph]) -> dict[str, bool]:
    """The images that are read as negatives, by name: settings name them by patterns, and these alone say nothing."""
    return {f"{image.name} as a negative": True for image in images if image.negative}


def training_settings(config: configs.Config) -> configs.Config:
    """The settings that trained weights depend on."""
    left_out = [*NOT_TRAINING, *FILES]
    if config["sampler"].get("balance") is None:
        left_out += ["strata", "data.strata"]  # they then only weight the report
    settings = without(config, left_out)
    listed = settings["data"].get("external") or ()
    external = [{**without(dataset, ["negatives"]), "root": None} for dataset in listed]
    return {**settings, "data": {**settings["data"], "external": external}}


@dataclass(frozen=True)
class Steps:
    """The steps of an experiment as its settings and files are now; nothing is read that is not asked for."""

    experiment: "Experiment"

    @property
    def cache(self) -> Path:
        """Where digests are cached."""
        return self.experiment.store_folder / DIGESTS

    def digests(self, files: Mapping[str, Path]) -> dict[str, str]:
        """Name -> digest of a file's content."""
        return dict(zip(files, digests(files.values(), self.cache), strict=True))

    @cached_property
    def training_inputs(self) -> run_folder.Inputs:
        """What the weights of every fold depend on."""
        config, data = self.experiment.config, replace(self.experiment.data, metadata=None)
        images = [*train_images(data), *external_images(data), *pseudo_images(data)]
        files = files_of(images, data)
        if config["augment"].get("file") is not None:
            files["augment.file"] = existing("augment.file", Path(config["augment"]["file"]))
        negatives, balance = turned(images), config["sampler"].get("balance")
        if balance is not None:
            files |= self.tables()
        if balance == "test":
            files |= self.strata_files()
            negatives |= self._turned_for_strata()
        return {
            "settings": training_settings(config),
            "files": self.digests(files),
            "folds": self._folds([image for image in images if image.split == "train"]),
            "negatives": negatives,
        }

    def _folds(self, images: Sequence[Radiograph]) -> fold_files.Folds:
        """Which fold validates each of the dataset's own images."""
        spec = self.experiment.folds
        if not Path(spec.file).is_file():
            return self.experiment.cohort.assignment  # which makes the file
        return fold_files.read(Path(spec.file), images, spec.count, groups=spec.groups)

    def tables(self) -> dict[str, Path]:
        """The files that strata are told from, those that are there."""
        data = self.experiment.data
        names = [name for name in (data.metadata, ROTATED_FILE) if name is not None]
        return {name: data.path / name for name in names if (data.path / name).is_file()}

    def training(self, fold: int) -> run_folder.Step:
        """The weights of a fold."""
        folder = self.experiment.fold_folder(fold)
        return run_folder.Step(folder, "training", self.training_inputs, (WEIGHTS,), self.cache)

    def out_of_fold(self, fold: int) -> run_folder.Step:
        """What a fold's weights say of its validation images."""
        folder, crf = self.experiment.fold_folder(fold), self.experiment.config["postprocess"].get("crf")
        variants = [f"{variant}/{name}" for variant in ("plain", "crf") for name in OUT_OF_FOLD] if crf else []
        inputs = {
            "settings": prediction_settings(self.experiment.config),
            "files": self.digests({WEIGHTS: folder / WEIGHTS}) if (folder / WEIGHTS).is_file() else {},
        }
        return run_folder.Step(folder, "out_of_fold", inputs, (*OUT_OF_FOLD, CONFIG, *variants), self.cache)

    def cross_validation(self, *, dataset: bool = True) -> run_folder.Step:
        """Thresholds and scores from the predictions of all folds; without `dataset` those files need not be there."""
        experiment, config = self.experiment, self.experiment.config
        names = [f"fold-{fold}/{name}" for fold in range(experiment.folds.count) for name in OUT_OF_FOLD]
        folds = {name: experiment.folder / name for name in names}
        groups = ("thresholds", "strata", "postprocess")
        inputs = {
            "settings": {
                **prediction_settings(config),
                **{group: config[group] for group in groups},
                "data": {"strata": config["data"].get("strata")},
            },
            "files": self.digests({name: path for name, path in folds.items() if path.is_file()}),
            **(self.told_strata() if dataset else {}),
        }
        return run_folder.Step(experiment.folder, "cross_validation", inputs, (THRESHOLDS, CONFIG), self.cache)

    def told_strata(self) -> run_folder.Inputs:
        """What strata and the test set's mix are told from."""
        return {"dataset": self.digests(self.strata_files()), "negatives": self._turned_for_strata()}

    def own_files(self) -> dict[str, str]:
        """Name -> digest of the dataset's own annotated images and their annotations."""
        own = replace(self.experiment.data, metadata=None, corrections=None, pseudo=None, masks=None, external=())
        return self.digests(files_of(train_images(own), own))

    def _turned_for_strata(self) -> dict[str, bool]:
        """The test images that are read as negatives, where the mix of strata is told from them."""
        told = self.experiment.strata.by and self.experiment.strata.test_mix is None
        return turned(self.test_images) if told else {}

    def strata_files(self) -> dict[str, Path]:
        """What the test set's mix is told from; nothing where no strata are told apart."""
        strata = self.experiment.strata
        if not strata.by:
            return {}
        return self.tables() | ({} if strata.test_mix is not None else self.test_files())

    @cached_property
    def test_images(self) -> list[Radiograph]:
        """The test images; there may be none."""
        data = replace(self.experiment.data, metadata=None)
        return [image for image in read_catalog(data) if image.split == "test"]

    def test_files(self) -> dict[str, Path]:
        """The files of the test images, and none of those that only training needs."""
        data = replace(self.experiment.data, corrections=None, pseudo=None, masks=None)
        return files_of(self.test_images, data)

    def submission(self, provenance: run_folder.Inputs) -> run_folder.Step:
        """The test images' masks, from a predictor's provenance and the folder's thresholds."""
        folder = self.experiment.folder
        files = {**self.test_files(), THRESHOLDS: folder / THRESHOLDS}
        if provenance["decisions"]["by_stratum"]:
            files |= self.tables()
        inputs = {
            **provenance,
            "test": self.digests(files),
            "negatives": turned(self.test_images),
            "classes": list(self.experiment.data.classes),
        }
        return run_folder.Step(folder, "submission", inputs, (SUBMISSION,), self.cache)

    def score(self) -> run_folder.Step:
        """The submission's score where the answer is known, beside the scores out of fold."""
        folder, answer = self.experiment.folder, self.experiment.data.path / ANSWER
        files = {SUBMISSION: folder / SUBMISSION, ANSWER: answer}
        inputs = {"files": self.digests({name: path for name, path in files.items() if path.is_file()})}
        return run_folder.Step(folder, "score", inputs, (SCORES,), self.cache)

    def refuse_stale(self, fold: int) -> None:
        """Raise BonepipeError where a fold, trained or half-trained, was begun with other settings or files."""
        step = self.training(fold)
        if step.recorded is None:
            if any((step.folder / name).is_file() for name in (CHECKPOINT, WEIGHTS, CONFIG)):
                raise BonepipeError(f"{step.folder / FINGERPRINT}: {UNKNOWN}; {WAY_OUT}")
        elif changes := step.changes():
            raise BonepipeError(
                f"{step.folder}: this fold was trained with other settings or files:\n{run_folder.shortened(changes)}\n"
                f"Put them back, or {WAY_OUT}"
            )
        elif (step.folder / WEIGHTS).is_file() and step.recorded["outputs"].get(WEIGHTS) and step.damage():
            raise BonepipeError(
                f"{step.folder / WEIGHTS}: is not the file that training wrote; put it back, or {WAY_OUT}"
            )

    def is_done(self, fold: int) -> bool:
        """Whether a fold is trained and its validation images are predicted, with these settings and files."""
        return self.training(fold).current and self.out_of_fold(fold).current

    @property
    def cross_validated(self) -> bool:
        """Whether all folds are done and the thresholds were chosen from what they say now."""
        done = all(self.is_done(fold) for fold in range(self.experiment.folds.count))
        return done and self.cross_validation().current and (self.experiment.folder / SCORES).is_file()


UNKNOWN = "is missing, so what this fold was trained on is unknown"
DELETE = "delete the fold's folder to train it anew"
WAY_OUT = f"give the run a name of its own (name=...), or {DELETE}"
