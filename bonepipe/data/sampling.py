"""Which training images come up, in which order, with which augmentation seeds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bonepipe.data.strata import Mix, uncovered, weights

Draw = tuple[int, int]  # index into the store, augmentation seed


@dataclass(frozen=True, kw_only=True)
class SamplerSpec:
    """Which training images come up, and how often.

    Attributes:
        balance: None shows every image once an epoch. `test` draws with replacement, strata as often as the test set
            has them, those that it has not never; a dictionary gives factors by stratum, 1 for a stratum that it does
            not name.
        foreground: probability that an augmented image without any foreground is drawn again.
    """

    balance: Literal["test"] | dict[str, float] | None = None
    foreground: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.foreground <= 1:
            raise ValueError(f"foreground={self.foreground}: a probability from 0 to 1")
        if isinstance(self.balance, Mapping) and (not self.balance or min(self.balance.values()) <= 0):
            raise ValueError(f"balance={self.balance}: factors by stratum, all above 0")


def draw_weights(spec: SamplerSpec, labels: Sequence[str], mix: Mix) -> np.ndarray | None:
    """How often each image is drawn relative to the others, float64 `[N]`; None for each once.

    Args:
        mix: shares of the strata in the test set; only `balance=test` looks at them.

    Raises:
        ValueError: a stratum of the test set, or one that a factor names, has no training image.
    """
    if spec.balance is None:
        return None
    factors = mix if spec.balance == "test" else spec.balance
    missing = uncovered(labels, factors)
    if missing:
        raise ValueError(
            f"balance: no training image is of the stratum {', '.join(missing)}; there are "
            f"{', '.join(sorted(set(labels)))} (coarser strata: strata.by; other folds: folds=stratified_group)"
        )
    if spec.balance == "test":
        return weights(labels, mix)
    return np.array([factors.get(label, 1.0) for label in labels])


class EpochSampler:
    """Each epoch a shuffle and one augmentation seed an image, all functions of (seed, epoch).

    With weights, the epoch's images are drawn with replacement instead, as many as there are.

    Nothing is remembered between epochs, so a resumed run draws what an undisturbed one would have drawn, and the
    number of workers changes nothing. Lightning calls `set_epoch`. A fixed sampler draws its first epoch every time.
    """

    def __init__(
        self, indices: Sequence[int], seed: int, weights: np.ndarray | None = None, fixed: bool = False
    ) -> None:
        self.indices, self.seed, self.epoch, self.fixed = np.asarray(indices), seed, 0, fixed
        self.shares = None if weights is None else weights / weights.sum()

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration draws."""
        self.epoch = 0 if self.fixed else epoch

    def stretch(self, count: int) -> None:
        """Make epochs `count` draws long: images come up again, or some not at all."""
        self.indices = np.resize(self.indices, count)
        if self.shares is not None:
            shares = np.resize(self.shares, count)
            self.shares = shares / shares.sum()

    def draws(self, epoch: int) -> list[Draw]:
        """What an epoch draws."""
        generator = np.random.default_rng((self.seed, epoch))
        if self.shares is None:
            order = generator.permutation(self.indices)
        else:
            order = generator.choice(self.indices, len(self.indices), p=self.shares)
        return list(zip(order.tolist(), generator.integers(2**31, size=len(order)).tolist(), strict=True))

    def __iter__(self) -> Iterator[Draw]:
        return iter(self.draws(self.epoch))

    def __len__(self) -> int:
        return len(self.indices)
