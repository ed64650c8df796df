"""A submission: the test images' masks, written, checked as the competition would, scored where the truth is known."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bonepipe import config as configs
from bonepipe.data import submission
from bonepipe.data.catalog import Radiograph, test_images
from bonepipe.data.image import read_shape
from bonepipe.errors import BonepipeError
from bonepipe.files import replacing, write_json
from bonepipe.pipeline.experiment import Experiment, say
from bonepipe.pipeline.predictors.base import Predictor, mask_provenance, masks
from bonepipe.pipeline.run_folder import SCORES, SUBMISSION, THRESHOLDS, locked, scores_of, shortened
from bonepipe.pipeline.steps import ANSWER, Steps

TEST_SCORES = ("public", "private", "test_dice", "test_dice_per_class")


def submit(predictor: Predictor, artifacts: Sequence[str] = ()) -> dict[str, Any]:
    """Write submission.csv into the predictor's folder and score it, unless that is done already.

    Args:
        predictor: whose thresholds.json and scores.json are there already.
        artifacts: files of the folder to keep with the tracked run beside submission.csv and thresholds.json.

    Returns:
        All scores of the folder, those of the test set among them where the answer is known.

    Raises:
        BonepipeError: no test images, or the file would be refused.
    """
    experiment = predictor.experiment
    steps = Steps(experiment)
    step, score = steps.submission(mask_provenance(predictor)), steps.score()
    fresh = not step.current
    if fresh:
        configs.check(experiment.config)
        _ = experiment.prediction, configs.build(experiment.config, "tracking")  # which refuse what could not be done
        if changes := step.changes():
            say(f"{experiment.folder}: the test images are predicted again, because of\n{shortened(changes)}")
        images = test_images(experiment.data)
        with locked(experiment.folder):
            _write(predictor, images)
            step.record()
        score = steps.score()
    else:
        say(f"{experiment.folder / SUBMISSION}: done already")
    if fresh or not score.current:
        scores = _score(experiment)
        score.record()
        files = [experiment.folder / name for name in (SUBMISSION, THRESHOLDS, *artifacts)]
        _track(experiment, files, scores)
    return dict(scores_of(experiment.folder))


def _write(predictor: Predictor, images: Sequence[Radiograph]) -> None:
    """Predict and write, in place of an earlier file only what the competition would take."""
    experiment, start = predictor.experiment, time.perf_counter()
    path, classes = experiment.folder / SUBMISSION, experiment.data.classes
    with replacing(path) as part:
        told = tqdm(masks(predictor, images), "submission", len(images), unit="image")
        rows = ((image.name, *row) for image, texts in told for row in zip(classes, texts, strict=True))
        submission.write(part, rows)
        shapes = {image.name: read_shape(image.path) for image in images}
        faults = submission.faults(submission.read(part), shapes, classes)
        if faults:
            raise BonepipeError(f"{path}: is not a valid submission: {faults[0]} ({len(faults)} faults)")
    say(f"{path}: {len(images)} images in {time.perf_counter() - start:.1f} s")


def _score(experiment: Experiment) -> dict[str, Any]:
    """Bring the test scores in scores.json up to date, and return all scores; none where the answer is not known."""
    path, answer = experiment.folder / SCORES, experiment.data.path / ANSWER
    scores = {key: value for key, value in scores_of(experiment.folder).items() if key not in TEST_SCORES}
    if answer.is_file():
        try:
            result = submission.score_tables(submission.read(experiment.folder / SUBMISSION), submission.read(answer))
            scores |= {key: result[key] for key in ("public", "private") if key in result}
            scores |= {"test_dice": result["dice"], "test_dice_per_class": result["per_class"]}
        except BonepipeError as error:
            say(f"warning: {answer}: is no answer to this test set, so the submission is not scored ({error})")
    write_json(path, scores)
    return scores


def _track(experiment: Experiment, files: Sequence[Path], scores: Mapping[str, Any]) -> None:
    config = experiment.config
    tracking = configs.build(config, "tracking")
    with tracking.start(config["name"], "submission", "submission", config, experiment.folder) as run:
        run.summarise(scores)
        run.artifact(f"{config['name']}-submission", "submission", list(files))
