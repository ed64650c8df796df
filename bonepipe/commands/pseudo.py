"""`bonepipe pseudo`: pseudo-labels of the test images from a finished experiment."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bonepipe import config as configs
from bonepipe.commands.finished import make_parser, open_finished, parse
from bonepipe.commands.predictor import Predictor, decisions
from bonepipe.data import pseudo
from bonepipe.data.catalog import Radiograph, test_images
from bonepipe.errors import UsageError
from bonepipe.files import write_json
from bonepipe.labels import rle
from bonepipe.parallel import overlapped

DESCRIPTION = """\
Predict the test images with all models and views of a finished experiment or, with --run, of any run, ensemble or
second look, and keep what is sure: a pixel belongs to a class where its probability is at least the confidence C, does
not where it is at most 1 - C, and does not count in between. Probabilities are calibrated a class: 0.9 means that of
such pixels 90% were right out of fold, as losses like focal make networks say 0.7 where they are right nearly always.
--raw takes them as they are.
Writes pseudo.csv into that folder (runs/NAME) and, on where it comes from, runs/NAME/pseudo.json. One more round:
  bonepipe train-all experiment=EXPERIMENT name=NAME-pseudo data.pseudo=runs/NAME/pseudo.csv data.pseudo_weight=0.5
There these images are trained on in every fold, and none of them validates. The out-of-fold Dice of that round flatters
it all the same: its labels come from the models of all folds, and all but one of these have seen what a fold validates.
The test score does not."""
EXAMPLES = """\
  bonepipe pseudo experiment=demo --confidence 0.9
  bonepipe pseudo --run runs/demo-wrist"""


def parser() -> argparse.ArgumentParser:
    """Describe the command line, overrides apart."""
    result = make_parser("pseudo", "[--confidence C] [--raw] ", DESCRIPTION, EXAMPLES)
    result.add_argument("--confidence", metavar="C", type=float, default=0.9, help="above 0.5, below 1 (0.9)")
    result.add_argument("--raw", action="store_true", help="do not calibrate the probabilities")
    return result


def main(arguments: Sequence[str]) -> int:
    """Predict, separate, write."""
    given, overrides = parse(parser(), arguments)
    confidence = given.confidence
    if not 0.5 < confidence < 1:
        raise UsageError(f"--confidence {confidence:g}: must lie above 0.5 and below 1")
    predictor = open_finished(given.run, overrides)
    experiment = predictor.experiment
    images, path = test_images(experiment.data), experiment.folder / "pseudo.csv"
    limits, counts = _limits(predictor, confidence, given.raw), [0, 0]
    pseudo.write(path, _counted(_rows(predictor, images, *limits), counts))
    write_json(path.with_suffix(".json"), _facts(predictor, images, confidence, limits, counts))
    print(f"{path}: {len(images)} images, {counts[0]} sure and {counts[1]} ambiguous pixels at {confidence:g}")
    return 0


def _limits(predictor: Predictor, confidence: float, raw: bool) -> tuple[list[float], list[float]]:
    """For each class, the probability from which it is sure to be there, and from which on it might be."""
    from bonepipe.inference import calibration

    if raw:
        count = len(predictor.experiment.data.classes)
        return [confidence] * count, [1 - confidence] * count
    counts = predictor.out_of_fold().counts.sum(axis=0, dtype=np.int64)
    sure, possible = calibration.limits(counts, confidence)
    return sure.tolist(), possible.tolist()


def _rows(
    predictor: Predictor, images: Sequence[Radiograph], sure: Sequence[float], possible: Sequence[float]
) -> Iterator[tuple[str, str, str, str]]:
    """Image name, class, code of the sure and of the ambiguous pixels."""
    from bonepipe.inference.predict import Prediction, texts

    def both(item: tuple[Radiograph, Prediction]) -> tuple[str, list[str], list[str]]:
        image, prediction = item
        inner, outer = (texts(prediction.cutouts(limits), prediction.shape) for limits in (sure, possible))
        return image.name, inner, outer

    ahead, classes = configs.build(predictor.experiment.config, "prediction").ahead, predictor.experiment.data.classes
    predicted = overlapped(both, predictor.predictions(images), ahead)
    for name, *found in tqdm(predicted, "pseudo", len(images), unit="image"):
        for label, inner, outer in zip(classes, *found, strict=True):
            yield name, label, inner, rle.format_runs(rle.difference(outer, inner))


def _counted(rows: Iterator[tuple[str, str, str, str]], counts: list[int]) -> Iterator[tuple[str, str, str, str]]:
    """The rows, their sure and ambiguous pixels added to two counts on the way."""
    for row in rows:
        for number, code in enumerate(row[2:]):
            counts[number] += rle.area(code)
        yield row


def _facts(
    predictor: Predictor,
    images: Sequence[Radiograph],
    confidence: float,
    limits: tuple[list[float], list[float]],
    counts: Sequence[int],
) -> dict[str, Any]:
    data = predictor.experiment.data
    return {
        **decisions(predictor),
        "data": str(Path(data.root)),
        "images": len(images),
        "confidence": confidence,
        "sure_from": dict(zip(data.classes, limits[0], strict=True)),
        "possible_from": dict(zip(data.classes, limits[1], strict=True)),
        "sure_pixels": counts[0],
        "ambiguous_pixels": counts[1],
    }
