"""Lightning's data module of a fold: its split by patient and its loaders."""

from functools import cached_property, partial
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn
from torch.utils.data import DataLoader, Dataset

from bonepipe.data.augment import Augmentation
from bonepipe.data.batches import (
    Answer,
    PixelWeights,
    TestImages,
    TrainingImages,
    ValidationImages,
    WithTruth,
    annotated_truth,
    collate,
)
from bonepipe.data.cohort import Cohort
from bonepipe.data.loading import make_loader
from bonepipe.data.sampling import EpochSampler, SamplerSpec
from bonepipe.data.submission import ANSWER
from bonepipe.errors import BonepipeError
from bonepipe.parallel import cores


class FoldDataModule(pl.LightningDataModule):
    """Batches of one fold: to train on and to validate on, and of the test set. `data.batches` has their keys.

    A resumed training draws what an undisturbed one would have drawn, and the number of workers changes nothing.

    Args:
        fold: whose images validate; the others are trained on.
        augmentation: applied to training images only.
        batch_size: images a batch.
        workers: loader processes; None for one a core, at most 8.
        seed: of shuffling and augmentation.
        sampler: which training images come up, and how often.
        pixel_weights: makes the weights of a training image's pixels of its augmented planes, or None.
        fraction: share of the training patients that are used.
        overfit_batches: train and validate on the same so many batches, or None.
    """

    def __init__(
        self,
        cohort: Cohort,
        fold: int,
        augmentation: Augmentation,
        *,
        batch_size: int,
        workers: int | None,
        seed: int,
        sampler: SamplerSpec = SamplerSpec(),  # noqa: B008 - frozen
        pixel_weights: PixelWeights | None = None,
        fraction: float = 1.0,
        overfit_batches: int | None = None,
    ) -> None:
        super().__init__()
        self.cohort, self.fold, self.augmentation, self.batch_size = cohort, fold, augmentation, batch_size
        self.workers = min(8, cores()) if workers is None else workers
        self.seed, self.sampling, self.pixel_weights = seed, sampler, pixel_weights
        self.fraction, self.overfit_batches = fraction, overfit_batches

    @cached_property
    def split(self) -> tuple[list[int], list[int]]:
        """Store indices to train on and to validate on, no patient in both. Raises BonepipeError, see `data.folds`."""
        training, validation = self.cohort.indices(self.fold)
        training = self.cohort.fraction(training, self.fraction, self.seed)
        if self.overfit_batches is not None:
            training = validation = training[: self.overfit_batches * self.batch_size]
        return training, validation

    def prepare_data(self) -> None:
        """Read the catalog and build the store where it is missing."""
        _ = self.cohort.store

    def setup(self, stage: str) -> None:
        """Make and verify the split, and the datasets of a stage: `fit`, `validate`, `test` or `predict`.

        Raises:
            BonepipeError: a faulty split; a test set that is not there or, to test on, has no answer.
        """
        if stage in ("fit", "validate"):
            images = ValidationImages(self.cohort.store, self.split[1])
            self.validation = WithTruth(images, partial(annotated_truth, self.cohort.store))
        if stage == "fit":
            self.training = TrainingImages(
                self.cohort.store, self.augmentation, self.sampling.foreground, self.pixel_weights, self.cohort.shares
            )
            weights = self.cohort.draw_weights(self.split[0], self.sampling)
            self.sampler = EpochSampler(self.split[0], self.seed, weights, self.overfit_batches is not None)
        if stage in ("test", "predict"):
            self.prediction = self._test_images()
        if stage == "test":
            self.test = WithTruth(self.prediction, self._answer())

    def _test_images(self) -> TestImages:
        spec, images = self.cohort.spec, self.cohort.test_images
        if spec.region is not None:
            raise BonepipeError("data.region: a run that sees a part of each image predicts no test images by itself")
        if not images:
            raise BonepipeError(f"{spec.path / spec.test_images}: no test images ({spec.patterns}) here")
        return TestImages(images, spec.frame)

    def _answer(self) -> Answer:
        spec, path = self.cohort.spec, self.cohort.spec.path / ANSWER
        if not path.is_file():
            raise BonepipeError(f"{path}: no such file, nothing to compare with; predict instead of testing")
        return Answer(path, [image.name for image in self.cohort.test_images], spec.classes, spec.frame)

    def train_dataloader(self) -> DataLoader[Any]:
        """Augmented batches in this epoch's order; the last may be smaller."""
        return self._loader(self.training, sampler=self.sampler)

    def val_dataloader(self) -> DataLoader[Any]:
        """Validation batches with their truth, in a fixed order."""
        return self._loader(self.validation, collate_fn=collate)

    def test_dataloader(self) -> DataLoader[Any]:
        """Batches of the test set with their truth, in the order of the submission."""
        return self._loader(self.test, collate_fn=collate)

    def predict_dataloader(self) -> DataLoader[Any]:
        """Batches of the test set, in the order of the submission."""
        return self._loader(self.prediction)

    def _loader(self, dataset: Dataset[Any], **arguments: Any) -> DataLoader[Any]:
        return make_loader(dataset, self.batch_size, self.workers, persistent_workers=self.workers > 0, **arguments)

    def state_dict(self) -> dict[str, int]:
        """For the checkpoint: the epoch that the next iteration draws.

        A resuming trainer has loader processes fetch the first batches before it calls the sampler's `set_epoch`.
        """
        loop = self.trainer.fit_loop  # type: ignore[union-attr]
        done = loop.epoch_loop.batch_progress.is_last_batch
        return {"epoch": max(0, loop.epoch_progress.current.ready - (not done))}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """From the checkpoint, after `setup`; only a training has an order to go on in."""
        if self.trainer is not None and self.trainer.state.fn == TrainerFn.FITTING:
            self.sampler.set_epoch(state_dict["epoch"])
