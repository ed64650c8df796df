"""The cohort: a dataset's annotated images, how patients are split, their strata and their store."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from bonepipe.data import strata
from bonepipe.data.catalog import Radiograph, external_images, read_catalog, train_images
from bonepipe.data.corrections import Correction
from bonepipe.data.folds import TRAIN_ONLY, Folds, FoldSpec, ensure, is_of_another_rule, take_patients, torn_patients
from bonepipe.data.pseudo import PseudoLabel, pseudo_images
from bonepipe.data.sampling import SamplerSpec, describe_draws, draw_weights
from bonepipe.data.spec import DataSpec
from bonepipe.data.store import Store, amendments, open_store
from bonepipe.data.strata import StrataSpec
from bonepipe.data.thumbnails import copies
from bonepipe.errors import BonepipeError
from bonepipe.screen import say


@dataclass(frozen=True)
class Cohort:
    """The annotated images, read and built when first asked for. All lists are in the order of the store.

    Attributes:
        folds: how patients are split.
        strata: what tells the strata apart.
    """

    spec: DataSpec
    folds: FoldSpec
    strata: StrataSpec
    cache: Path

    @cached_property
    def own_images(self) -> list[Radiograph]:
        """The dataset's own annotated images: those that the folds split."""
        return train_images(self.spec)

    @cached_property
    def images(self) -> list[Radiograph]:
        """All images to train on: the dataset's own, external ones, then pseudo-labelled ones."""
        return [*self.own_images, *external_images(self.spec), *pseudo_images(self.spec)]

    @cached_property
    def test_images(self) -> list[Radiograph]:
        """The images to predict, in the order of the submission; there may be none."""
        return [image for image in read_catalog(self.spec) if image.split == "test"]

    @cached_property
    def index(self) -> dict[str, int]:
        """Image name -> its number in the store."""
        return {image.name: number for number, image in enumerate(self.images)}

    @cached_property
    def patient(self) -> dict[str, str]:
        """Image name -> whose it is."""
        return {image.name: image.patient for image in self.images}

    @cached_property
    def store(self) -> Store:
        """The images at training size, built where they are missing."""
        return open_store(self.images, self.spec, self.cache)

    @cached_property
    def amended(self) -> dict[str, Correction | PseudoLabel]:
        """Image name -> what takes the place of its annotation in training."""
        return amendments(self.images, self.spec)

    @cached_property
    def twins(self) -> list[tuple[Radiograph, Radiograph]]:
        """Pairs of images to train or validate on that show the same picture, the later one first."""
        return [(self.images[later], self.images[first]) for later, first in copies(self.store.thumbnails)]

    @cached_property
    def copied(self) -> dict[str, str]:
        """The external and pseudo-labelled images that show the same picture as one of the dataset's own -> its name.

        No fold trains on them: another one would be validated on what it was trained on.
        """
        if len(self.images) == len(self.own_images):
            return {}
        return {a.name: b.name for a, b in self.twins if (a.split == "train") < (b.split == "train")}

    def leaks(self, fold: int) -> list[tuple[str, str]]:
        """The fold's validation images that show the same picture as one of its training images, with that one."""
        training, validation = ({self.images[index].name for index in part} for part in self.indices(fold))
        pairs = [(a.name, b.name) for pair in self.twins for a, b in (pair, pair[::-1])]
        return [(a, b) for a, b in pairs if a in validation and b in training]

    @cached_property
    def shares(self) -> np.ndarray | None:
        """Weight of each image in the loss, float32 `[N]`; None where all count alike."""
        if self.spec.pseudo is None:
            return None
        return np.array([self.spec.pseudo_weight if i.split == "pseudo" else 1.0 for i in self.images], np.float32)

    @cached_property
    def assignment(self) -> Folds:
        """Image name -> the fold that validates it, verified; external images are not in it."""
        images, spec = self.own_images, self.folds
        folds = ensure(spec, images)
        if is_of_another_rule(spec, images, folds):
            rule = ", ".join(f"folds.{key}={value}" for key, value in spec.rule.items())
            _warn(f"{spec.file}: is not the split that {rule} would make; it is used as it is")
        if torn := torn_patients(images, folds):
            _warn(
                f"{spec.file}: {len(torn)} patients have images in several folds (folds.kind={spec.kind}), so "
                "the out-of-fold Dice will look too good; folds=group keeps them together"
            )
        return folds

    def indices(self, fold: int) -> tuple[list[int], list[int]]:
        """Store indices that a fold trains on and validates on; only training leaves out what a correction drops.

        Nor does it see copies of the dataset's own images among the external and pseudo-labelled ones.

        Where data.region names a part of the image, images without it are in neither.
        """
        numbers = [self.assignment.get(image.name, TRAIN_ONLY) for image in self.images]
        others = [index for index, number in enumerate(numbers) if number != fold]
        training = [index for index in others if not self._left_out(self.images[index])]
        validation = [index for index, number in enumerate(numbers) if number == fold]
        if self.spec.region is not None:
            nothing, unseen = set(self.store.lacking(training=True)), set(self.store.lacking())
            training = [index for index in training if index not in nothing]
            validation = [index for index in validation if index not in unseen]
        return training, validation

    def _left_out(self, image: Radiograph) -> bool:
        amendment = self.amended.get(image.name)
        return image.name in self.copied or (isinstance(amendment, Correction) and amendment.dropped)

    def fraction(self, indices: Sequence[int], share: float, seed: int) -> list[int]:
        """Those of the indices that belong to a share of their patients, drawn by the seed."""
        patients = [self.images[index].patient for index in indices]
        return [indices[position] for position in take_patients(patients, share, seed)]

    @cached_property
    def stratum(self) -> dict[str, str]:
        """Image name -> its stratum."""
        names = [image.name for image in self.images]
        return dict(zip(names, strata.stratify(self.images, self.strata), strict=True))

    @cached_property
    def test_mix(self) -> dict[str, float] | None:
        """The shares of the strata in the test set; None where there are no test images."""
        return strata.test_mix(self.test_images, self.strata)

    def draw_weights(self, indices: Sequence[int], spec: SamplerSpec) -> np.ndarray | None:
        """How often each of these images is drawn relative to the others, float64 `[N]`; None for each once an epoch.

        Raises:
            BonepipeError: there are no test images to balance by, or none of these is of a stratum of the test set,
                or of one that a factor names.
        """
        if spec.balance is None:
            return None
        if spec.balance == "test" and self.test_mix is None:
            way_out = "state strata.test_mix, or use another sampler"
            raise BonepipeError(f"sampler.balance=test: {self.spec.root} has no test images to balance by; {way_out}")
        try:
            return draw_weights(spec, self._strata_of(indices), self.test_mix or {})
        except ValueError as error:
            raise BonepipeError(f"sampler.{error}") from error

    def describe_draws(self, indices: Sequence[int], spec: SamplerSpec) -> str | None:
        """How often these images are drawn, in words; None for each once an epoch. Raises as `draw_weights`."""
        weights = self.draw_weights(indices, spec)
        return None if weights is None else describe_draws(weights, self._strata_of(indices))

    def _strata_of(self, indices: Sequence[int]) -> list[str]:
        return [self.stratum[self.images[index].name] for index in indices]


def _warn(text: str) -> None:
    say(f"warning: {text}")
