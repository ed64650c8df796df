"""Pseudo-labels: what a predictor is sure of in the test images, to train on in one more round (Lee 2013)."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from bonepipe.data import pseudo
from bonepipe.data.catalog import Radiograph, test_images
from bonepipe.files import write_json
from bonepipe.inference import calibration
from bonepipe.inference.predict import Prediction, texts
from bonepipe.labels import rle
from bonepipe.parallel import overlapped
from bonepipe.pipeline.predictors.base import Predictor, mask_provenance, watched

Row = tuple[str, str, str, str]  # image name, class, code of the sure and of the ambiguous pixels


class PseudoLabels(NamedTuple):
    """The file that was written, and its numbers of images, sure and ambiguous pixels."""

    path: Path
    images: int
    sure: int
    ambiguous: int


def write(predictor: Predictor, confidence: float, *, raw: bool) -> PseudoLabels:
    """Predict the test images; write pseudo.csv, and a JSON file on where it comes from, into the predictor's folder.

    Args:
        predictor: of anything finished.
        confidence: from which a pixel is sure, above 0.5 and below 1.
        raw: whether probabilities are taken as they are, not calibrated out of fold.
    """
    experiment = predictor.experiment
    images, path = test_images(experiment.data), experiment.folder / "pseudo.csv"
    for image in images:
        image.shape()  # one that cannot be read is named before hours of work
    limits, counts = _limits(predictor, confidence, raw), [0, 0]
    pseudo.write(path, _counted(_rows(predictor, images, *limits), counts))
    sure, possible = (dict(zip(experiment.data.classes, values, strict=True)) for values in limits)
    facts = {
        **mask_provenance(predictor), "data": str(Path(experiment.data.root)), "images": len(images),
        "confidence": confidence, "sure_from": sure, "possible_from": possible,
        "sure_pixels": counts[0], "ambiguous_pixels": counts[1],
    }  # fmt: skip
    write_json(path.with_suffix(".json"), facts)
    return PseudoLabels(path, len(images), *counts)


def _limits(predictor: Predictor, confidence: float, raw: bool) -> tuple[list[float], list[float]]:
    """For each class, the probability from which it is sure to be there, and from which on it might be."""
    if raw:
        count = len(predictor.experiment.data.classes)
        return [confidence] * count, [1 - confidence] * count
    counts = predictor.out_of_fold().counts.sum(axis=0, dtype=np.int64)
    sure, possible = calibration.limits(counts, confidence)
    return sure.tolist(), possible.tolist()


def _rows(
    predictor: Predictor, images: Sequence[Radiograph], sure: Sequence[float], possible: Sequence[float]
) -> Iterator[Row]:

    def both(item: tuple[Radiograph, Prediction]) -> tuple[str, list[str], list[str]]:
        image, prediction = item
        inner, outer = (texts(prediction.cutouts(limits), prediction.shape) for limits in (sure, possible))
        return image.name, inner, outer

    ahead, classes = predictor.experiment.prediction.ahead, predictor.experiment.data.classes
    predicted = overlapped(both, watched(predictor, images), ahead)
    for name, *codes in tqdm(predicted, "pseudo", len(images), unit="image"):
        for label, inner, outer in zip(classes, *codes, strict=True):
            yield name, label, inner, rle.format_runs(rle.difference(outer, inner))


def _counted(rows: Iterator[Row], counts: list[int]) -> Iterator[Row]:
    """The rows, their sure and ambiguous pixels added to two counts on the way."""
    for row in rows:
        for number, code in enumerate(row[2:]):
            counts[number] += rle.area(code)
        yield row
