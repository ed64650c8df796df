"""Handing a submission over: writing it, checking it as the competition would, scoring it where the answer is known."""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bonepipe import config as configs
from bonepipe.data import submission
from bonepipe.data.catalog import Radiograph
from bonepipe.data.image import read_shape
from bonepipe.errors import BonepipeError
from bonepipe.files import write_json
from bonepipe.pipeline.experiment import Experiment, say

ANSWER = "answer.csv"


def hand_over(
    experiment: Experiment,
    images: Sequence[Radiograph],
    masks: Iterable[tuple[Radiograph, list[str]]],
    artifacts: Sequence[str] = (),
) -> None:
    """Write submission.csv into the experiment's folder, check, score and track it, and print the scores.

    Args:
        experiment: whose thresholds.json and scores.json are there already.
        images: all of them, in the order of the submission.
        masks: each image with the run-length string of each class; made as they are written.
        artifacts: files of the folder to keep with the tracked run beside submission.csv and thresholds.json.

    Raises:
        BonepipeError: the file would be refused.
    """
    path, start = experiment.folder / "submission.csv", time.perf_counter()
    submission.write(path, _rows(experiment, images, masks))
    say(f"{path}: {len(images)} images in {time.perf_counter() - start:.1f} s")
    _check(path, images, experiment)
    scores = _score(path, experiment)
    _track(experiment, [path, *(experiment.folder / name for name in ("thresholds.json", *artifacts))], scores)
    print("  ".join(f"{key} {value:.4f}" for key, value in scores.items() if isinstance(value, float)))


def _rows(
    experiment: Experiment, images: Sequence[Radiograph], masks: Iterable[tuple[Radiograph, list[str]]]
) -> Iterator[tuple[str, str, str]]:
    """Rows of the submission, one image at a time."""
    for image, texts in tqdm(masks, "submission", len(images), unit="image"):
        for label, text in zip(experiment.data.classes, texts, strict=True):
            yield image.name, label, text


def _check(path: Path, images: Sequence[Radiograph], experiment: Experiment) -> None:
    """Never hand over a file that the competition would refuse."""
    shapes = {image.name: read_shape(image.path) for image in images}
    faults = submission.faults(submission.read(path), shapes, experiment.data.classes)
    if faults:
        raise BonepipeError(f"{path}: is not a valid submission: {faults[0]} ({len(faults)} faults)")


def _score(path: Path, experiment: Experiment) -> dict[str, Any]:
    """Add the test scores to scores.json where the answer is known; all scores are returned."""
    file = experiment.folder / "scores.json"
    scores: dict[str, Any] = json.loads(file.read_text())
    answer = experiment.data.path / ANSWER
    if answer.is_file():
        result = submission.score_tables(submission.read(path), submission.read(answer))
        scores |= {key: result[key] for key in ("public", "private") if key in result}
        scores |= {"test_dice": result["dice"], "test_dice_per_class": result["per_class"]}
        write_json(file, scores)
    return scores


def _track(experiment: Experiment, files: Sequence[Path], scores: dict[str, Any]) -> None:
    config = experiment.config
    run = configs.build(config, "tracking").start(config["name"], "submission", "submission", config, experiment.folder)
    run.summarise(scores)
    run.artifact(f"{config['name']}-submission", "submission", list(files))
    run.finish()
