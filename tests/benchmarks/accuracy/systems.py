"""The systems that are compared: each trains on the training images of a set's hold-out and predicts its test images.

A budget is a number of images seen: `minutes` times the pace of the system when it trains alone on this machine. So
what runs beside it changes no result, and the seeds of a system see equally many. Pace and budget count training steps
alone, neither the start nor validation.
"""

import json
import math
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bonepipe.files import read_csv, write_json

from . import nnunet
from .place import RATES, Job, Place, call

PLAIN = ("tta=none", "thresholds.margin=1e9")  # one view, threshold 0.5
PACED = 320  # images that pace is measured on, after as many that are not


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


def copy_pace(source: Path, target: Path) -> None:
    """Take over the paces of another recipe, which must have been measured."""
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source / "pace.json", target / "pace.json")


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
        yield from nnunet.run(place, job)
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
