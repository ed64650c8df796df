"""A submission: the test images' masks, written, checked as the competition would, scored where the truth is known."""

import os
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from tqdm import tqdm

from bonepipe import config as configs
from bonepipe.data import submission
from bonepipe.data.catalog import Radiograph, test_images
from bonepipe.data.submission import ANSWER
from bonepipe.errors import BonepipeError
from bonepipe.files import replacing, write_json
from bonepipe.pipeline import tracked
from bonepipe.pipeline.experiment import Experiment, say
from bonepipe.pipeline.predictors.base import Predictor, mask_provenance, masks
from bonepipe.pipeline.run_folder import SCORES, SUBMISSION, THRESHOLDS, locked, scores_of, shortened
from bonepipe.pipeline.steps import Steps

TEST_SCORES = (
    "public", "private", "test_dice", "test_miou", "test_pixel_accuracy", "test_dice_per_class", "test_masks_unscored",
)  # fmt: skip


class Target(NamedTuple):
    """Test images, height and width in pixels of each by name, and what is known of their truth, if anything."""

    images: list[Radiograph]
    shapes: dict[str, tuple[int, int]]
    answer: submission.Answer | None


def read_test_set(experiment: Experiment) -> Target:
    """What is predicted and scored, checked before anything is trained or predicted for it; says what is odd.

    Raises:
        BonepipeError: no test images, one whose header cannot be read, or an answer.csv that is none to them.
    """
    images, path = test_images(experiment.data), experiment.data.path / ANSWER
    shapes = {image.name: image.shape() for image in images}
    answer = submission.read_answer(path, shapes, experiment.data.classes) if os.path.lexists(path) else None
    for warning in answer.warnings if answer else ():
        say(f"warning: {warning}")
    return Target(images, shapes, answer)


def submit(predictor: Predictor, artifacts: Sequence[str] = ()) -> dict[str, Any]:
    """Write submission.csv into the predictor's folder and score it, unless that is done already.

    Args:
        predictor: whose thresholds.json and scores.json are there already.
        artifacts: files of the folder to keep with the tracked run beside submission.csv and thresholds.json.

    Returns:
        All scores of the folder, those of the test set among them where the answer is known.

    Raises:
        BonepipeError: as `read_test_set`, or the file would be refused.
    """
    experiment = predictor.experiment
    steps = Steps(experiment)
    step, score = steps.submission(mask_provenance(predictor)), steps.score()
    fresh, seconds = not step.current, None
    if not fresh:
        say(f"{experiment.folder / SUBMISSION}: done already")
        if score.current:
            return dict(scores_of(experiment.folder))
    test = read_test_set(experiment)
    if fresh:
        configs.check(experiment.config)
        _ = experiment.prediction, configs.build(experiment.config, "tracking")  # which refuse what could not be done
        if changes := step.changes():
            say(f"{experiment.folder}: the test images are predicted again, because of\n{shortened(changes)}")
    with locked(experiment.folder):
        if fresh:
            seconds = _write(predictor, test)
            step.record()
            score = steps.score()
        scores = _score(experiment, test.answer)
        score.record()
        files = [experiment.folder / name for name in (SUBMISSION, THRESHOLDS, *artifacts)]
        tracked.tell_submission(experiment, files, scores, seconds)
    return dict(scores_of(experiment.folder))


def _write(predictor: Predictor, test: Target) -> float:
    """Predict and write, in place of an earlier file only what the competition would take; returns seconds an image.

    What would not be taken is kept beside it: hours went into it.
    """
    experiment, start = predictor.experiment, time.perf_counter()
    path, classes = experiment.folder / SUBMISSION, experiment.data.classes
    with replacing(path) as part:
        told = tqdm(masks(predictor, test.images), "submission", len(test.images), unit="image")
        rows = ((image.name, *row) for image, texts in told for row in zip(classes, texts, strict=True))
        submission.write(part, rows)
        faults = submission.faults(submission.read(part), test.shapes, classes)
        if faults:
            kept = part.replace(path.with_stem(f"{path.stem}.refused"))
            raise BonepipeError(f"{kept}: is not a valid submission: {faults[0]} ({len(faults)} faults)")
    seconds = time.perf_counter() - start
    say(f"{path}: {len(test.images)} images in {seconds:.1f} s")
    return seconds / len(test.images)


def _score(experiment: Experiment, answer: submission.Answer | None) -> dict[str, Any]:
    """Bring the test scores in scores.json up to date, and return all scores; none where the answer is not known."""
    path, written = experiment.folder / SCORES, experiment.folder / SUBMISSION
    scores = {key: value for key, value in scores_of(experiment.folder).items() if key not in TEST_SCORES}
    if answer is not None:
        predicted = submission.read(written)
        result = submission.score_tables(submission.restricted(predicted, answer.table), answer.table)
        scores |= {key: result[key] for key in ("public", "private") if key in result}
        scores |= {f"test_{key}": result[key] for key in ("dice", "miou", "pixel_accuracy")}
        scores["test_dice_per_class"] = result["per_class"]
        if unknown := len(predicted.rows) - len(answer.table.rows):
            scores["test_masks_unscored"] = unknown
    write_json(path, scores)
    return scores
