"""The systems that are compared: each trains on the training images of a set's hold-out and predicts its test images.

A budget is a number of images seen: `minutes` times the speed of the system when it trains alone. So what runs beside
it changes no result, and the seeds of a system see equally many. Speed and budget count training steps alone, neither
the start nor validation.
"""

import json
import math
import re
import shutil
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bonepipe.files import read_csv, write_json

from . import nnunet
from .place import RATES, Job, Place, Speed, call

PLAIN = ("tta=none", "thresholds.margin=1e9")  # one view, threshold 0.5
STEPS = {"one model": PLAIN, "one model, two views": ()}
PACED = 320  # training images that speed is measured on, after as many that are not


def bonepipe(command: str, words: Sequence[str], log: Path) -> None:
    """Run one of the pipeline's commands."""
    call([sys.executable, "-m", "bonepipe", command, *words], log)


def speeds(place: Place, system: str) -> dict[str, Speed]:
    """How fast a system is, measured with a short training that must run alone."""
    if system.startswith("nnU-Net"):
        return nnunet.speeds(place, system, 2 * PACED)
    return (_script_speeds if system == "script" else _pipeline_speeds)(place)


def _script_speeds(place: Place) -> dict[str, Speed]:
    costs = _script(place, PACED, RATES[0], 0, place.folder / "speed-script")
    return {"script": Speed(1 / costs["seconds_an_image"], costs["prediction"] / len(place.set.images("test")))}


def _pipeline_speeds(place: Place) -> dict[str, Speed]:
    epochs = 2 * math.ceil(PACED / len(place.training))
    run, log = place.folder / "runs" / "speed", place.folder / "logs" / "speed.log"
    shutil.rmtree(run, ignore_errors=True)
    log.unlink(missing_ok=True)
    lengths = (f"trainer.epochs={epochs}", f"trainer.validate_every={epochs}", "averaging=none", "name=speed")
    for words in STEPS.values():
        bonepipe("submit", place.words(*lengths, *words), log)
    paces = [float(row["time/images_per_second"]) for row in _metrics(run) if row["time/images_per_second"]]
    predicted = re.findall(r"(\d+) images in ([\d.]+) s", log.read_text("utf-8"))
    shutil.rmtree(run)
    training = statistics.median(paces[epochs // 2 :])
    return {
        f"pipeline: {step}": Speed(training, float(seconds) / int(images))
        for step, (images, seconds) in zip(STEPS, predicted, strict=True)
    }


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
    """The pipeline's recipe: one model with one view, then with all of its views, a hold-out's thresholds staying 0.5;
    or five folds with views and thresholds.
    """
    images = round(60 * job.minutes * place.paces["pipeline"])
    epochs = max(1, round(images / len(place.training)))
    name = f"{job.system.replace(' ', '-')}-{job.minutes:g}-{job.seed}"
    log = place.folder / "logs" / f"{name}.log"
    fixed = [
        f"name={name}",
        f"seed={job.seed}",
        f"trainer.epochs={epochs}",
        f"trainer.validate_every={-(-epochs // 4)}",
    ]
    steps: dict[str, Sequence[str]] = STEPS
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
    images = round(60 * job.minutes * place.paces["script"])
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
