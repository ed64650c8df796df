"""`bonepipe pseudo`: pseudo-labels of the test images from a finished experiment."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bonepipe import config as configs
from bonepipe.commands.experiment import OVERRIDES, Experiment
from bonepipe.commands.predictor import make_predict, provenance, require_finished, voting_folds
from bonepipe.data import pseudo
from bonepipe.data.catalog import Radiograph, test_images
from bonepipe.errors import UsageError
from bonepipe.files import write_json
from bonepipe.labels import rle

DESCRIPTION = """\
Predict the test images with all folds' models and views of a finished experiment, and keep what is sure: a pixel
belongs to a class where its probability is at least the confidence C, does not where it is at most 1 - C, and does not
count in between. Probabilities are calibrated a class: 0.9 means that of such pixels 90% were right out of fold, as
losses like focal make networks say 0.7 where they are right nearly always. --raw takes them as they are.
Writes runs/NAME/pseudo.csv and, on where it comes from, runs/NAME/pseudo.json. One more round:
  bonepipe train-all experiment=EXPERIMENT name=NAME-pseudo data.pseudo=runs/NAME/pseudo.csv data.pseudo_weight=0.5
There these images are trained on in every fold, and none of them validates."""


def parser() -> argparse.ArgumentParser:
    """Describe the command line, overrides apart."""
    result = argparse.ArgumentParser(
        "bonepipe pseudo",
        usage="bonepipe pseudo [--confidence C] [OVERRIDES]",
        description=DESCRIPTION,
        epilog=f"{OVERRIDES}\n\nexample: bonepipe pseudo experiment=demo --confidence 0.9",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("--confidence", metavar="C", type=float, default=0.9, help="above 0.5, below 1 (0.9)")
    result.add_argument("--raw", action="store_true", help="do not calibrate the probabilities")
    return result


def main(arguments: Sequence[str]) -> int:
    """Predict, separate, write."""
    overrides = [word for word in arguments if "=" in word and not word.startswith("-")]
    given = parser().parse_args([word for word in arguments if word not in overrides])
    confidence = given.confidence
    if not 0.5 < confidence < 1:
        raise UsageError(f"--confidence {confidence:g}: must lie above 0.5 and below 1")
    experiment = Experiment(configs.compose(overrides))
    require_finished(experiment)
    images, path = test_images(experiment.data), experiment.folder / "pseudo.csv"
    limits, counts = _limits(experiment, confidence, given.raw), [0, 0]
    pseudo.write(path, _counted(_rows(experiment, images, *limits), counts))
    write_json(path.with_suffix(".json"), _facts(experiment, images, confidence, limits, counts))
    print(f"{path}: {len(images)} images, {counts[0]} sure and {counts[1]} ambiguous pixels at {confidence:g}")
    return 0


def _limits(experiment: Experiment, confidence: float, raw: bool) -> tuple[list[float], list[float]]:
    """For each class, the probability from which it is sure to be there, and from which on it might be."""
    from bonepipe.inference import calibration
    from bonepipe.inference.outoffold import read_counts

    classes = experiment.data.classes
    if raw:
        return [confidence] * len(classes), [1 - confidence] * len(classes)
    files = (experiment.fold_folder(fold) / "histograms.npz" for fold in voting_folds(experiment))
    counts = sum(read_counts(path, classes)[1].sum(axis=0, dtype=np.int64) for path in files)
    sure, possible = calibration.limits(np.asarray(counts), confidence)
    return sure.tolist(), possible.tolist()


def _rows(
    experiment: Experiment, images: Sequence[Radiograph], sure: Sequence[float], possible: Sequence[float]
) -> Iterator[tuple[str, str, str, str]]:
    """Image name, class, code of the sure and of the ambiguous pixels."""
    import torch

    from bonepipe.inference.ensemble import predict_masks

    data, predict = experiment.data, make_predict(experiment)
    spec = configs.build(experiment.config, "ensemble")

    def twice(batch: torch.Tensor) -> torch.Tensor:
        """Every map once for each of its two limits."""
        return predict(batch).repeat(1, 2, 1, 1)

    predicted = predict_masks(twice, images, experiment.windows.shape, [*sure, *possible], spec)
    for image, texts in tqdm(predicted, "pseudo", len(images), unit="image"):
        pairs = zip(texts[: len(data.classes)], texts[len(data.classes) :], strict=True)
        for label, (inner, outer) in zip(data.classes, pairs, strict=True):
            yield image.name, label, inner, rle.format_runs(rle.difference(outer, inner))


def _counted(rows: Iterator[tuple[str, str, str, str]], counts: list[int]) -> Iterator[tuple[str, str, str, str]]:
    """The rows, their sure and ambiguous pixels added to two counts on the way."""
    for row in rows:
        for number, code in enumerate(row[2:]):
            counts[number] += rle.area(code)
        yield row


def _facts(
    experiment: Experiment,
    images: Sequence[Radiograph],
    confidence: float,
    limits: tuple[list[float], list[float]],
    counts: Sequence[int],
) -> dict[str, Any]:
    classes = experiment.data.classes
    return {
        **provenance(experiment),
        "data": str(Path(experiment.data.root)),
        "images": len(images),
        "confidence": confidence,
        "sure_from": dict(zip(classes, limits[0], strict=True)),
        "possible_from": dict(zip(classes, limits[1], strict=True)),
        "sure_pixels": counts[0],
        "ambiguous_pixels": counts[1],
    }
