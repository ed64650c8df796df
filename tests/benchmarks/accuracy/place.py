"""What a system is asked to do, and where: the terms that all systems share."""

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from bonepipe import config as configs
from bonepipe.data import submission
from bonepipe.data.catalog import train_images
from bonepipe.data.folds import ensure
from bonepipe.errors import BonepipeError

from ..measure import REPOSITORY
from .sets import Set

RATES = (1e-3, 4e-3)  # of the script; the one that scores best on the test images counts, in its favour


@dataclass(frozen=True)
class Job:
    """One training of one system.

    Attributes:
        system: `pipeline`, `five folds`, `script` with its rate, `nnU-Net` or `nnU-Net mirrored`.
        minutes: of training on this machine, alone.
        seed: of everything random.
    """

    system: str
    minutes: float
    seed: int


@dataclass(frozen=True)
class Speed:
    """Of a system that runs alone.

    Attributes:
        training: images a second, of steps alone.
        prediction: seconds from a test image's file to its masks in the table.
    """

    training: float
    prediction: float


@dataclass(frozen=True)
class Place:
    """A set, and where everything that systems make of it is kept.

    Attributes:
        set: the set.
        folder: of its results.
        recipe: the pipeline's settings beside those that describe the set.
        paces: images a second that a system trains on, which make a budget of minutes one of images; `pipeline` for all
            that are the pipeline's.
    """

    set: Set
    folder: Path
    recipe: tuple[str, ...]
    paces: Mapping[str, float] = field(default_factory=dict)

    def words(self, *more: str) -> list[str]:
        """Overrides of the pipeline for a training on this set."""
        split = ("folds=holdout", f"folds.file={self.folder}/holdout.csv")
        fixed = (f"runs={self.folder}/runs", "tracking=none", "trainer.workers=0")
        return [*self.recipe, *self.set.words, *split, *fixed, *more]

    @cached_property
    def training(self) -> list[Path]:
        """The images that every system learns from: those of the hold-out's other patients."""
        config = configs.compose(self.words())
        data, folds = configs.build(config, "data"), configs.build(config, "folds")
        images = train_images(data)
        dealt = ensure(folds, images)
        return [image.path for image in images if dealt[image.name] != 0]

    def score(self, path: Path) -> float:
        """Test Dice of a table of masks."""
        truth = submission.read(self.set.root / "answer.csv")
        return float(submission.score_tables(submission.read(path), truth)["dice"])


def slug(words: str) -> str:
    """A folder's name for a system or a change."""
    return re.sub(r"[^\w.-]+", "_", words) or "default"  # no "=", which overrides would have to quote


def call(command: Sequence[str], log: Path, environment: dict[str, str] | None = None) -> str:
    """Run a command and give what it printed, which `log` keeps. Raises BonepipeError where it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as errors:
        settings = {**os.environ, **(environment or {})}
        streams = {"stdout": subprocess.PIPE, "stderr": errors}
        done = subprocess.run(command, check=False, cwd=REPOSITORY, env=settings, text=True, **streams)
        errors.write(done.stdout)
    if done.returncode:
        raise BonepipeError(f"{command[:4]} failed; {log} has what it said")
    return done.stdout
