"""The composition root: from a config to the built parts that the commands hand down."""

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bonepipe import config as configs
from bonepipe.data import folds as fold_files
from bonepipe.data import strata
from bonepipe.data.catalog import Radiograph, external_images, read_catalog, train_images
from bonepipe.data.corrections import Correction
from bonepipe.data.folds import FoldSpec
from bonepipe.data.pseudo import PseudoLabel, pseudo_images
from bonepipe.data.spec import DataSpec
from bonepipe.data.store import Store, amendments, open_store
from bonepipe.data.strata import StrataSpec
from bonepipe.errors import BonepipeError, UsageError
from bonepipe.files import epoch_file

if TYPE_CHECKING:
    from torch import nn

    from bonepipe.data.augment import Augmentation
    from bonepipe.inference.fold_model import FoldModel
    from bonepipe.inference.oof.results import Predict
    from bonepipe.inference.postprocess.operations import PostprocessSpec
    from bonepipe.inference.sliding_window import Windows
    from bonepipe.inference.tta import Views

# Settings that may differ between two runs of the same experiment without making its results another experiment's.
HARMLESS = (
    "fold",
    "runs",
    "device",
    "executor",
    "tracking",
    "prediction",
    "thresholds",
    "search",
    "cam",
    "trainer.workers",
    "trainer.compile",
)
# Groups that change how trained weights predict, and what in them no out-of-fold prediction depends on.
PREDICTION = ("tta", "windows", "postprocess")
AFTER_PREDICTION = ("windows.batch_size", "postprocess.operations", "postprocess.min_area")

OVERRIDES = """\
Settings come from conf/ and are changed by overrides, key=value:
  experiment=NAME      a file of conf/experiment/, for example demo, baseline, effunet_512
  data.root=PATH       the dataset
  GROUP=OPTION         another file of conf/GROUP/, for example loss=bce, tta=none
  GROUP.KEY=VALUE      one setting, for example trainer.epochs=30, optimizer.lr=1e-3
A misspelt key or a value of the wrong type is refused before anything runs."""


def parse(arguments: Sequence[str], description: str) -> configs.Config | None:
    """The checked config of a command's overrides; None after printing the help that was asked for."""
    if any(word in ("-h", "--help") for word in arguments):
        print(f"{description}\n\n{OVERRIDES}")
        return None
    flags = [word for word in arguments if word.startswith("-")]
    if flags:
        raise UsageError(f"no flag {flags[0]!r} here; settings are overrides, key=value (see --help)")
    return configs.compose(arguments)


def resolve_device(name: str) -> str:
    """`auto` to `cuda`, `mps` or `cpu`; anything else as it is."""
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


@dataclass(frozen=True)
class Experiment:
    """A config and what it describes, built when first asked for.

    Attributes:
        config: the settings.
        shelf: the folder that holds the image stores; None for that of the runs.
    """

    config: configs.Config
    shelf: str | None = None

    @cached_property
    def data(self) -> DataSpec:
        """The dataset's form."""
        spec: DataSpec = configs.build(self.config, "data")
        return spec

    @cached_property
    def folds(self) -> FoldSpec:
        """How patients are split."""
        spec: FoldSpec = configs.build(self.config, "folds")
        return spec

    @property
    def folder(self) -> Path:
        """Where the experiment's results go."""
        return Path(self.config["runs"]) / self.config["name"]

    def fold_folder(self, fold: int) -> Path:
        """Where a fold's results go."""
        return self.folder / f"fold-{fold}"

    @cached_property
    def own_images(self) -> list[Radiograph]:
        """The dataset's own annotated images: those that the folds split."""
        return train_images(self.data)

    @cached_property
    def images(self) -> list[Radiograph]:
        """All images to train on in the store's order: the dataset's own, external ones, then pseudo-labelled ones."""
        return [*self.own_images, *external_images(self.data), *pseudo_images(self.data)]

    @cached_property
    def amended(self) -> dict[str, Correction | PseudoLabel]:
        """Image name -> what takes the place of its annotation in training."""
        return amendments(self.images, self.data)

    def _left_out(self, image: Radiograph) -> bool:
        amendment = self.amended.get(image.name)
        return isinstance(amendment, Correction) and amendment.dropped

    @cached_property
    def shares(self) -> np.ndarray | None:
        """Weight of each image of the store in the loss, float32 `[N]`; None where all count alike."""
        if self.data.pseudo is None:
            return None
        return np.array([self.data.pseudo_weight if i.split == "pseudo" else 1.0 for i in self.images], np.float32)

    @cached_property
    def assignment(self) -> fold_files.Folds:
        """Image name -> the fold that validates it, verified; external images are not in it."""
        images, spec = self.own_images, self.folds
        folds = fold_files.ensure(spec, images, lambda: strata.stratify(images, replace(self.strata, by=spec.by)))
        torn = fold_files.torn_patients(images, folds)
        if torn:
            say(
                f"warning: {spec.file}: {len(torn)} patients have images in several folds (folds.kind={spec.kind}), so "
                "the out-of-fold Dice will look too good; folds=group keeps them together"
            )
        return folds

    @cached_property
    def strata(self) -> StrataSpec:
        """What tells the strata apart."""
        spec: StrataSpec = configs.build(self.config, "strata")
        return spec

    @cached_property
    def stratum(self) -> dict[str, str]:
        """Image name -> its stratum, for all annotated images."""
        names = [image.name for image in self.images]
        return dict(zip(names, strata.stratify(self.images, self.strata), strict=True))

    @cached_property
    def test_mix(self) -> dict[str, float] | None:
        """The shares of the strata in the test set; None where there are no test images."""
        images = [image for image in read_catalog(self.data) if image.split == "test"]
        return strata.test_mix(images, self.strata)

    def draw_weights(self, indices: Sequence[int]) -> np.ndarray | None:
        """How often each of these training images is drawn relative to the others; None for each once an epoch."""
        from bonepipe.data.datamodule import draw_weights

        spec = configs.build(self.config, "sampler")
        if spec.balance is None:
            return None
        try:
            return draw_weights(spec, [self.stratum[self.images[index].name] for index in indices], self.test_mix or {})
        except ValueError as error:
            raise BonepipeError(f"sampler.{error}") from error

    @cached_property
    def store(self) -> Store:
        """The training images at training size."""
        return open_store(self.images, self.data, Path(self.shelf or self.config["runs"]) / ".store")

    def indices(self, fold: int) -> tuple[list[int], list[int]]:
        """Store indices that a fold trains on and validates on; only training leaves out what a correction drops.

        Where data.region names a part of the image, images without it are in neither.
        """
        numbers = [self.assignment.get(image.name, fold_files.TRAIN_ONLY) for image in self.images]
        others = [index for index, number in enumerate(numbers) if number != fold]
        training = [index for index in others if not self._left_out(self.images[index])]
        validation = [index for index, number in enumerate(numbers) if number == fold]
        if self.data.region is not None:
            lacking = set(self.store.lacking())
            training, validation = ([i for i in part if i not in lacking] for part in (training, validation))
        return training, validation

    @cached_property
    def device(self) -> str:
        """Where models run: `cpu`, `cuda` or `mps`."""
        return resolve_device(self.config["device"])

    @cached_property
    def augmentation(self) -> "Augmentation":
        """The training recipe."""
        return configs.build(self.config, "augment", self.data)

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

    @cached_property
    def postprocess(self) -> "PostprocessSpec":
        """What happens to probabilities and masks."""
        return configs.build(self.config, "postprocess")

    def average(self, members: Sequence["FoldModel"]) -> "Predict":
        """Grey bytes `[N, *windows.shape]` to probabilities: members and views averaged, in windows."""
        from bonepipe.inference.fold_model import mean_probabilities

        data, precision = self.data, configs.build(self.config, "prediction").precision
        mean = partial(mean_probabilities, members, self.views, mean=data.mean, std=data.std, precision=precision)
        return self.windows.over(mean)

    def predictor(self, members: Sequence["FoldModel"], refined: Sequence[str] | None = None) -> "Predict":
        """As `average`, then the CRF on the classes `refined`; None for those that `train-all` found to gain by it.

        Raises:
            BonepipeError: as `refined_classes`.
        """
        from bonepipe.inference.postprocess import crf_choice

        predict, crf = self.average(members), self.postprocess.crf
        if crf is None:
            return predict
        names = self.refined_classes() if refined is None else refined
        return crf_choice.partly(predict, crf, [name in names for name in self.data.classes])

    def refined_classes(self) -> list[str]:
        """The classes that `train-all` chose to keep the CRF; none where there is no CRF.

        Raises:
            BonepipeError: thresholds.json does not name them for this CRF.
        """
        from bonepipe.inference.postprocess import crf_choice

        crf = self.postprocess.crf
        return [] if crf is None else crf_choice.read(self.folder / "thresholds.json", self.data.classes, crf)

    def model(self) -> "nn.Module":
        """A new model, its weights drawn from the seed or pretrained."""
        return configs.build(self.config, "model", len(self.data.classes))

    def weights(self, fold: int, epoch: int | None = None) -> Path:
        """The file of a fold's weights: those that were chosen, or those of an epoch, counted from 1.

        Raises:
            BonepipeError: there is no such file.
        """
        folder = self.fold_folder(fold)
        path = folder / ("weights.safetensors" if epoch is None else epoch_file(epoch))
        if path.is_file():
            return path
        if epoch is None:
            raise BonepipeError(
                f"{path}: fold {fold} is not trained yet; run `bonepipe train fold={fold}` or `make fold-{fold}`"
            )
        kept = sorted(int(file.stem.partition("-")[2]) for file in folder.glob(epoch_file("*")))
        there = f"epochs {', '.join(map(str, kept))} are" if kept else "none is"
        raise BonepipeError(
            f"{path}: the weights of epoch {epoch} were not kept ({there}); "
            "trainer.keep_epochs=N keeps the last N epochs of a training"
        )

    def member(self, fold: int, epoch: int | None = None) -> "FoldModel":
        """A fold's trained model on its device, checked against the views; with an epoch, its weights at that time."""
        from bonepipe.inference.fold_model import load_fold_model

        path = self.weights(fold, epoch)
        node = dict(self.config["model"])
        if "encoder_weights" in node:  # its own weights follow at once
            node["encoder_weights"] = None
        model = configs.build({"model": node}, "model", len(self.data.classes))
        compiled = configs.build(self.config, "prediction").compile
        member = load_fold_model(path, model, self.data.classes, self.device, compiled=compiled)
        self.views.check(member.seen, path)
        return member


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch: the model's first weights depend on the seed alone."""
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def refuse_other_settings(path: Path, config: configs.Config, ignore: Sequence[str] = HARMLESS) -> None:
    """Raise BonepipeError if results that are already there were made with other settings, naming each of them."""
    if not path.is_file():
        return
    if config["sampler"].get("balance") is None:
        ignore = [*ignore, "strata", "data.strata"]  # they then only weight the report
    changed = configs.differences(configs.load(path), config, ignore)
    if changed:
        rows = "\n".join(f"  {key}: {old!r} -> {new!r}" for key, (old, new) in changed.items())
        raise BonepipeError(
            f"{path}: this run was begun with other settings:\n{rows}\n"
            "Give the new settings a name of their own (name=...), or delete the folder to start anew"
        )


def refuse_region(experiment: Experiment) -> None:
    """Raise UsageError where a command is for whole images and the experiment only looks at a part of them."""
    if experiment.data.region is not None:
        raise UsageError(
            f"{experiment.folder}: sees only the part of an image that data.region names; use it beside a run that "
            f"sees all: bonepipe secondlook FIRST_RUN {experiment.folder}"
        )


def prediction_settings(config: configs.Config) -> configs.Config:
    """The settings that probabilities depend on beside the weights."""
    return {
        group: {key: value for key, value in config[group].items() if f"{group}.{key}" not in AFTER_PREDICTION}
        for group in PREDICTION
    }


def say(text: str) -> None:
    """A line about progress, on standard error so that results can be piped."""
    print(text, file=sys.stderr, flush=True)
