"""The composition root: from a config to the built parts that everything else is handed."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bonepipe import config as configs
from bonepipe.data.cohort import Cohort
from bonepipe.data.folds import FoldSpec
from bonepipe.data.spec import DataSpec
from bonepipe.data.strata import StrataSpec
from bonepipe.errors import BonepipeError, UsageError
from bonepipe.files import epoch_file
from bonepipe.pipeline.run_folder import WEIGHTS, mixed_versions
from bonepipe.screen import say as say  # noqa: PLC0414 - what pipelines tell, they tell with it

if TYPE_CHECKING:
    from torch import nn

    from bonepipe.data.augment import Augmentation
    from bonepipe.data.datamodule import FoldDataModule
    from bonepipe.inference.fold_model import FoldModel
    from bonepipe.inference.oof.predict import Predict
    from bonepipe.inference.postprocess.operations import PostprocessSpec
    from bonepipe.inference.predict import PredictionSpec
    from bonepipe.inference.sliding_window import Windows
    from bonepipe.inference.thresholds import ThresholdSpec
    from bonepipe.inference.tta import Views
    from bonepipe.training.fit import TrainerSpec
    from bonepipe.training.module import SegmentationModule


@dataclass(frozen=True)
class Experiment:
    """A config and what it describes, built when first asked for.

    Attributes:
        config: the settings.
        store: folder of the image stores; None for the one beside the runs.
    """

    config: configs.Config
    store: Path | None = None

    def placed(
        self, folder: Path, *, store: Path | None = None, root: str | None = None, device: str | None = None
    ) -> "Experiment":
        """The same experiment with its results in another folder, and on other data or another device if need be."""
        data = {**self.config["data"], **({} if root is None else {"root": root})}
        place = {"runs": str(folder.parent), "name": folder.name, "device": device or self.config["device"]}
        return Experiment({**self.config, **place, "data": data}, store)

    @property
    def folder(self) -> Path:
        """Where the experiment's results go."""
        return Path(self.config["runs"]) / self.config["name"]

    def fold_folder(self, fold: int) -> Path:
        """Where a fold's results go."""
        return self.folder / f"fold-{fold}"

    @property
    def store_folder(self) -> Path:
        """Where image stores and digests of files are kept."""
        return self.store or Path(self.config["runs"]) / ".store"

    @cached_property
    def data(self) -> DataSpec:
        """The dataset's form."""
        return configs.build(self.config, "data")

    @cached_property
    def folds(self) -> FoldSpec:
        """How patients are split."""
        return configs.build(self.config, "folds")

    @cached_property
    def strata(self) -> StrataSpec:
        """What tells the strata apart."""
        return configs.build(self.config, "strata")

    @cached_property
    def cohort(self) -> Cohort:
        """The dataset's annotated images, how they are split, and their store."""
        return Cohort(self.data, self.folds, self.strata, self.store_folder)

    @cached_property
    def device(self) -> str:
        """Where models run: `cpu`, `cuda` or `mps`."""
        return resolve_device(self.config["device"])

    @cached_property
    def trainer(self) -> "TrainerSpec":
        """How a fold is trained, its batch size found where that is `auto`."""
        spec: TrainerSpec = configs.build(self.config, "trainer")
        if isinstance(spec.batch_size, int):
            return spec
        from bonepipe.pipeline.batch_size import resolved

        return resolved(self, spec)

    @cached_property
    def augmentation(self) -> "Augmentation":
        """The training recipe."""
        return configs.build(self.config, "augment", self.data)

    @cached_property
    def prediction(self) -> "PredictionSpec":
        """How trained models predict together."""
        return configs.build(self.config, "prediction")

    @cached_property
    def thresholds(self) -> "ThresholdSpec":
        """How thresholds are chosen.

        Raises:
            UsageError: thresholds by stratum are asked for where nothing tells strata apart.
        """
        spec: ThresholdSpec = configs.build(self.config, "thresholds")
        if spec.by and not self.strata.by:
            raise UsageError("thresholds.by=stratum: strata.by names nothing that tells strata apart")
        return spec

    @cached_property
    def views(self) -> "Views":
        """The test-time views."""
        return configs.build(self.config, "tta", self.data)

    @cached_property
    def windows(self) -> "Windows":
        """At which size, and in which windows, images are predicted."""
        windows: Windows = configs.build(self.config, "windows", self.data)
        if self.data.region is not None and windows.shape != self.data.shape:
            raise UsageError(f"windows.size={windows.shape}: with data.region it must be data.size, {self.data.shape}")
        return windows

    @property
    def ways(self) -> str:
        """In how many ways a model looks at an image, in words."""
        windows = f" x {len(self.windows)} windows" if len(self.windows) > 1 else ""
        return f"{len(self.views)} views{windows}"

    @cached_property
    def postprocess(self) -> "PostprocessSpec":
        """What happens to probabilities and masks."""
        return configs.build(self.config, "postprocess")

    def try_later_settings(self) -> None:
        """Build what is needed only after hours of work, so that what it refuses is known before. Raises UsageError."""
        _ = self.thresholds, self.prediction, self.postprocess, self.strata
        configs.build(self.config, "tracking")

    def average(self, models: Sequence["FoldModel"]) -> "Predict":
        """Grey bytes `[N, *windows.shape]` to probabilities: models and views averaged, in windows."""
        from bonepipe.inference.fold_model import mean_probabilities

        data, precision = self.data, self.prediction.precision
        mean = partial(mean_probabilities, models, self.views, mean=data.mean, std=data.std, precision=precision)
        return self.windows.over(mean)

    def predictor(self, models: Sequence["FoldModel"], refined: Sequence[str]) -> "Predict":
        """As `average`, then the CRF on the classes that are named, where there is one."""
        from bonepipe.inference.postprocess import crf_choice

        predict, crf = self.average(models), self.postprocess.crf
        if crf is None:
            return predict
        return crf_choice.with_crf(predict, crf, [name in refined for name in self.data.classes])

    def model(self, *, pretrained: bool = True) -> "nn.Module":
        """A new model, its weights drawn from the seed; with pretrained ones where its settings name some."""
        return configs.build({"model": self._model_node(pretrained)}, "model", len(self.data.classes))

    def _model_node(self, pretrained: bool) -> configs.Config:
        node = dict(self.config["model"])
        if not pretrained and "encoder_weights" in node:
            node["encoder_weights"] = None
        return node

    def datamodule(self, fold: int) -> "FoldDataModule":
        """The batches of a fold."""
        from bonepipe.data.datamodule import FoldDataModule

        spec = self.trainer
        weights = configs.build(self.config, "loss").pixel_weights(len(self.data.classes))
        return FoldDataModule(
            self.cohort,
            fold,
            self.augmentation,
            batch_size=spec.batch,
            workers=spec.workers,
            seed=self.config["seed"],
            sampler=configs.build(self.config, "sampler"),
            pixel_weights=weights,
            fraction=spec.fraction,
            overfit_batches=spec.overfit_batches,
        )

    def module(self, fold: int, *, pretrained: bool = True) -> "SegmentationModule":
        """A new module to train on a fold; its first weights are the same for each, as those of `model`."""
        from bonepipe.training.module import SegmentationModule

        config, data = self.config, self.data
        seed_everything(config["seed"])
        return SegmentationModule(
            self._model_node(pretrained),
            *(config[group] for group in ("loss", "optimizer", "scheduler", "mixing")),
            classes=data.classes,
            mean=data.mean,
            std=data.std,
            seed=config["seed"],
            compiled=self.trainer.compile,
            hold=configs.build(config, "averaging").hold_from,
        )

    def weights(self, fold: int, epoch: int | None = None) -> Path:
        """The file of a fold's weights: those that were chosen, or those of an epoch, counted from 1.

        Raises:
            BonepipeError: there is no such file.
        """
        folder = self.fold_folder(fold)
        path = folder / (WEIGHTS if epoch is None else epoch_file(epoch))
        if path.is_file():
            return path
        if epoch is None:
            ways = f"run `bonepipe train fold={fold}` or `make fold-{fold}`"
            raise BonepipeError(f"{path}: fold {fold} is not trained yet; {ways}")
        kept = sorted(int(file.stem.partition("-")[2]) for file in folder.glob(epoch_file("*")))
        there = f"epochs {', '.join(map(str, kept))} are" if kept else "none is"
        raise BonepipeError(
            f"{path}: the weights of epoch {epoch} were not kept ({there}); "
            "trainer.keep_epochs=N keeps the last N epochs of a training"
        )

    def fold_model(self, fold: int, epoch: int | None = None) -> "FoldModel":
        """A fold's trained model on its device, checked against the views; with an epoch, its weights at that time."""
        from bonepipe.inference.fold_model import load_fold_model

        path, model = self.weights(fold, epoch), self.model(pretrained=False)  # its own weights follow at once
        loaded = load_fold_model(path, model, self.data.classes, self.device, compiled=self.prediction.compile)
        self.views.check(loaded.seen, path)
        return loaded


def with_group(experiment: Experiment, group: str, **settings: object) -> Experiment:
    """The same experiment with other settings of a group."""
    return replace(experiment, config={**experiment.config, group: {**experiment.config[group], **settings}})


def resolve_device(name: str) -> str:
    """`auto` to `cuda`, `mps` or `cpu`. Raises UsageError for one that PyTorch does not find here."""
    if name == "cpu":
        return name
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return next((device for device, is_there in there.items() if is_there), "cpu")
    if not there[name]:
        raise UsageError(f"device={name}: PyTorch finds no such device here; device=auto takes what there is")
    return name


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch: the model's first weights depend on the seed alone."""
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def tell_versions(experiment: Experiment, folds: Iterable[int]) -> None:
    """Warn where folds were trained with other versions of the libraries than each other or than those here."""
    if warning := mixed_versions([experiment.fold_folder(fold) for fold in folds]):
        say(warning)
