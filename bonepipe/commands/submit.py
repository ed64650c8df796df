"""`bonepipe submit`: the test images' masks from all folds together."""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bonepipe import config as configs
from bonepipe.commands.experiment import Experiment, parse, say
from bonepipe.commands.predictor import image_thresholds, make_predict, make_refine, require_finished
from bonepipe.data.catalog import Radiograph, test_images
from bonepipe.data.image import read_shape
from bonepipe.errors import BonepipeError
from bonepipe.files import write_json
from bonepipe.inference import submission

HELP = """usage: bonepipe submit [OVERRIDES]

Average the probabilities of all folds' models and test-time views, apply the thresholds, and write the masks of the
test images as runs/NAME/submission.csv. The file is checked against the test set, and scored where the dataset has an
answer.csv. Needs `bonepipe train-all` before.

example: bonepipe submit experiment=demo tta=none"""

ANSWER = "answer.csv"


def main(arguments: Sequence[str]) -> int:
    """Predict, write, check, score, track."""
    config = parse(arguments, HELP)
    if config is None:
        return 0
    experiment = Experiment(config)
    require_finished(experiment)
    images, path = test_images(experiment.data), experiment.folder / "submission.csv"
    start = time.perf_counter()
    submission.write(path, _rows(experiment, images))
    say(f"{path}: {len(images)} images in {time.perf_counter() - start:.1f} s")
    _check(path, images, experiment)
    scores = _score(path, experiment)
    _track(experiment, path, scores)
    print("  ".join(f"{key} {value:.4f}" for key, value in scores.items() if isinstance(value, float)))
    return 0


def _rows(experiment: Experiment, images: Sequence[Radiograph]) -> Iterator[tuple[str, str, str]]:
    """Rows of the submission, one image at a time."""
    from bonepipe.inference.ensemble import predict_masks

    spec, shape = configs.build(experiment.config, "ensemble"), experiment.windows.shape
    masks: Iterable[tuple[Radiograph, list[str]]] = predict_masks(
        make_predict(experiment), images, shape, image_thresholds(experiment, images), spec, make_refine(experiment)
    )
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


def _track(experiment: Experiment, path: Path, scores: dict[str, Any]) -> None:
    config = experiment.config
    run = configs.build(config, "tracking").start(config["name"], "submission", "submission", config, experiment.folder)
    run.summarise(scores)
    run.artifact(f"{config['name']}-submission", "submission", [path, experiment.folder / "thresholds.json"])
    run.finish()
