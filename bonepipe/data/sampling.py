"""Which training images come up, in which order, with which augmentation seeds."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bonepipe.data.strata import Mix, uncovered, weights
from bonepipe.ranges import Positive, Share

Draw = tuple[int, int]  # index into the store, augmentation seed


@dataclass(frozen=True, kw_only=True)
class SamplerSpec:
    """Which training images come up, and how often.

    Attributes:
        balance: None shows every image once an epoch. `test` draws with replacement, strata as often as the test set
            has them, within the two limits; a dictionary gives factors by stratum, 1 for a stratum that it does not
            name.
        floor: how often an epoch each image is drawn at least, on average; 0 lets strata that the test set lacks be
            drawn never.
        cap: how often at most, so that few images are not learned by heart. It gives way where too few can be drawn.
        foreground: probability that an augmented image without any foreground is drawn again.
    """

    balance: Literal["test"] | dict[str, Positive] | None = None
    floor: Share = 0.25
    cap: Positive = 3.0
    foreground: Share = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.floor <= 1 <= self.cap < math.inf:
            raise ValueError(f"floor={self.floor}, cap={self.cap}: draws an epoch, floor from 0 to 1, cap from 1")
        if not 0 <= self.foreground <= 1:
            raise ValueError(f"foreground={self.foreground}: a probability from 0 to 1")
        if isinstance(self.balance, Mapping) and not (
            self.balance and all(0 < factor < math.inf for factor in self.balance.values())
        ):
            raise ValueError(f"balance={self.balance}: factors by stratum, all above 0")


def draw_weights(spec: SamplerSpec, labels: Sequence[str], mix: Mix) -> np.ndarray | None:
    """How often each image is drawn relative to the others, within the limits, float64 `[N]`; None for each once.

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
        return bounded(weights(labels, mix), spec.floor, spec.cap)
    return bounded(np.array([factors.get(label, 1.0) for label in labels]), spec.floor, spec.cap)


def bounded(weights: np.ndarray, floor: float, cap: float) -> np.ndarray:
    """Weights of the same mean m, the small ones raised to floor * m and the large ones lowered to cap * m.

    What that takes or gives is shared by the others in proportion (weight trimming: F. J. Potter, "A study of
    procedures to identify and trim extreme sampling weights", Proc. ASA Survey Research Methods, 1990).

    Args:
        weights: float64 `[N]`, not negative, some above 0.
        floor, cap: at most 1 and at least 1.
    """
    mean = weights.mean()
    draws = weights / mean
    if floor <= draws.min() and draws.max() <= cap:
        return weights
    if floor > 0:
        draws = np.maximum(draws, 1e-9)  # images of weight 0 take over what the cap leaves, where no other can
    low, high = 0.0, cap / draws[draws > 0].min()
    for _ in range(100):  # the mean of what is clipped rises with the scale
        middle = (low + high) / 2
        low, high = (low, middle) if np.clip(middle * draws, floor, cap).mean() > 1 else (middle, high)
    return np.clip(high * draws, floor, cap) * mean


def describe_draws(weights: np.ndarray, labels: Sequence[str]) -> str:
    """How many images can be drawn, and how often an epoch on average: the most-drawn one, and each stratum's."""
    draws, at = weights / weights.mean(), np.array(labels)
    strata = ", ".join(
        f"{label} {int((at == label).sum())} images {draws[at == label].mean():.2f} times"
        for label in sorted(set(labels))
    )
    return (
        f"{int((draws > 0).sum())} of {len(draws)} images can be drawn, the most-drawn one {draws.max():.2f} times an "
        f"epoch on average ({strata})"
    )


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
