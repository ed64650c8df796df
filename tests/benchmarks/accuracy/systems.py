"""The systems that are compared: each trains on the training images of a set's hold-out and predicts its test images.

A budget is a number of images seen: `minutes` times the pace of the system when it trains alone on this machine. So
what runs beside it changes no result, and the seeds of a system see equally many. Pace and budget count training steps
alone, neither the start nor validation.
"""

import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bonepipe import config as configs
from bonepipe.data import submission
from bonepipe.data.catalog import train_images
from bonepipe.data.folds import ensure
from bonepipe.errors import BonepipeError
from bonepipe.files import read_csv, write_json

from ..measure import REPOSITORY
from .sets import Set

RATES = (1e-3, 4e-3)  # of the script; the better one on the test images counts, in its favour
PLAIN = ("tta=none", "thresholds.margin=1e9")  # one view, threshold 0.5
PACED = 320  # images that pace is measured on, after as many that are not


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
class Place:
    """A set, and where everything that systems make of it is kept.

    Attributes:
        set: the set.
        folder: of its results.
        recipe: the pipeline's settings beside those that describe the set.
    """

    set: Set
    folder: Path
    recipe: tuple[str, ...]

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


def bonepipe(command: str, words: Sequence[str], log: Path) -> None:
    """Run one of the pipeline's commands."""
    call([sys.executable, "-m", "bonepipe", command, *words], log)


def pace(place: Place, system: str) -> float:
    """Images a second that a system trains on, measured alone and kept."""
    path = place.folder / "pace.json"
    known = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    if system not in known:
        known[system] = (_script_pace if system == "script" else _pipeline_pace)(place)
        write_json(path, known)
    return float(known[system])


def _script_pace(place: Place) -> float:
    return 1 / _script(place, PACED, RATES[0], 0, place.folder / "pace-script")["seconds_an_image"]


def _pipeline_pace(place: Place) -> float:
    epochs = 2 * math.ceil(PACED / len(place.training))
    run = place.folder / "runs" / "pace"
    shutil.rmtree(run, ignore_errors=True)
    lengths = (f"trainer.epochs={epochs}", f"trainer.validate_every={epochs}", "name=pace")
    bonepipe("train", place.words("fold=0", "averaging=none", *PLAIN, *lengths), place.folder / "logs" / "pace.log")
    paces = [float(row["time/images_per_second"]) for row in _metrics(run) if row["time/images_per_second"]]
    shutil.rmtree(run)
    return sorted(paces[epochs // 2 :])[len(paces[epochs // 2 :]) // 2]


def _metrics(run: Path) -> list[dict[str, str]]:
    return [row for _, row in read_csv(run / "fold-0" / "metrics.csv", ("epoch", "time/images_per_second"))]


def run(place: Place, job: Job) -> Iterator[dict[str, Any]]:
    """Train and predict; yields a row for everything that has a score of its own."""
    if job.system.startswith("script"):
        yield from _run_script(place, job)
    elif job.system.startswith("nnU-Net"):
        from .nnunet import run as run_nnunet

        yield from run_nnunet(place, job)
    else:
        yield from _run_pipeline(place, job)


def _run_pipeline(place: Place, job: Job) -> Iterator[dict[str, Any]]:
    """The pipeline's recipe: one model with one view at 0.5, then with views and thresholds; or five folds."""
    images = round(60 * job.minutes * pace(place, "pipeline"))
    epochs = max(1, round(images / len(place.training)))
    name = f"{job.system.replace(' ', '-')}-{job.minutes:g}-{job.seed}"
    log = place.folder / "logs" / f"{name}.log"
    fixed = [
        f"name={name}",
        f"seed={job.seed}",
        f"trainer.epochs={epochs}",
        f"trainer.validate_every={-(-epochs // 4)}",
    ]
    steps = {"one model": PLAIN, "one model, views and thresholds": ()}
    if job.system == "five folds":
        fixed += ["folds=group", f"folds.file={place.folder}/folds.csv"]
        steps = {"five folds, views and thresholds": ()}
    for step, words in steps.items():
        start = time.perf_counter()
        bonepipe("submit", place.words(*fixed, *words), log)
        seconds = time.perf_counter() - start
        dice = place.score(place.folder / "runs" / name / "submission.csv")
        yield {"system": f"pipeline: {step}", "images": epochs * len(place.training), "dice": dice, "seconds": seconds}
    for state in (place.folder / "runs" / name).glob("fold-*/last.ckpt"):
        state.unlink()


def _run_script(place: Place, job: Job) -> Iterator[dict[str, Any]]:
    images = round(60 * job.minutes * pace(place, "script"))
    rate = float(job.system.split()[-1])
    start = time.perf_counter()
    out = place.folder / "script" / f"{rate:g}-{job.minutes:g}-{job.seed}"
    _script(place, images, rate, job.seed, out)
    seconds = time.perf_counter() - start
    yield {"system": job.system, "images": images, "dice": place.score(out / "answer.csv"), "seconds": seconds}


def _script(place: Place, images: int, rate: float, seed: int, out: Path) -> dict[str, float]:
    out.mkdir(parents=True, exist_ok=True)
    about = {
        "classes": place.set.classes,
        "size": place.set.size,
        "train": [str(path) for path in place.training],
        "test": [str(path) for path in place.set.images("test")],
    }
    write_json(out / "set.json", about)
    words = [str(out / "set.json"), str(out / "answer.csv"), f"--images={images}", f"--lr={rate}", f"--seed={seed}"]
    printed = call([sys.executable, str(Path(__file__).parent / "script.py"), *words], out / "log.txt")
    costs: dict[str, float] = json.loads(printed.splitlines()[-1])
    return costs
