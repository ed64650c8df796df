"""What predicts whole radiographs, as one thing: whoever makes masks takes a `Predictor` and asks no more."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from bonepipe.data.catalog import Radiograph
from bonepipe.data.frame import Span, strangers
from bonepipe.errors import BonepipeError
from bonepipe.labels import upsample
from bonepipe.labels.cutout import Cutout
from bonepipe.pipeline import decisions, run_folder
from bonepipe.pipeline.experiment import Experiment, say
from bonepipe.pipeline.run_folder import WEIGHTS, Inputs, Step

if TYPE_CHECKING:
    from bonepipe.inference.oof.results import Pooled
    from bonepipe.inference.predict import Prediction, Whole

Masks = Callable[[str, Sequence[float]], list[Cutout]]  # of a training image, from its name and thresholds
Maps = Callable[[str], NDArray[np.float32]]  # of a training image, from its name: probabilities [C, h, w]


class Predictor(Protocol):
    """A finished run, an ensemble of runs, or a cascade."""

    @property
    def experiment(self) -> Experiment:
        """The settings, and the folder that holds thresholds.json."""

    def predictions(self, images: Sequence[Radiograph]) -> "Iterator[tuple[Radiograph, Prediction]]":
        """Every image, in order, with what its masks are made from."""

    def out_of_fold(self) -> "Pooled":
        """What is known of the images that were predicted out of fold."""

    def runs(self) -> Sequence[Experiment]:
        """The runs that see whole images."""

    def provenance(self) -> Inputs:
        """What the predictions depend on, besides thresholds.json."""

    def cross_validation(self, *, dataset: bool = False) -> Step:
        """The choice of thresholds from these predictions; with `dataset`, of what strata are told from, too."""


class WholePredictor(Predictor, Protocol):
    """One whose predictions are maps of whole images: a first stage of a cascade."""

    def predictions(self, images: Sequence[Radiograph]) -> "Iterator[tuple[Radiograph, Whole]]":
        """Every image, in order, with its maps."""

    def recall(self) -> Maps:
        """Read what was said out of fold."""


def masks(predictor: Predictor, images: Sequence[Radiograph]) -> Iterator[tuple[Radiograph, list[str]]]:
    """Every image with the run-length strings of its classes, as the folder's thresholds.json says."""
    from bonepipe.inference.predict import encode

    experiment = predictor.experiment
    chosen = decisions.read(experiment.folder, experiment.data.classes)
    limits, refine = chosen.limits(images, experiment.strata), chosen.refine(experiment.postprocess)
    return encode(watched(predictor, images), limits, refine, experiment.prediction.ahead)


def watched(predictor: Predictor, images: Sequence[Radiograph]) -> "Iterator[tuple[Radiograph, Prediction]]":
    """What the predictor says of every image, and a warning where images have another aspect than it was trained on."""
    shapes = {}
    for image, prediction in predictor.predictions(images):
        shapes[image.name] = prediction.shape
        yield image, prediction
    for run in predictor.runs():
        if (known := trained_aspects(run)) and (message := strangers(shapes, known, run.data.fit)):
            say(f"warning: {run.folder}: {message}")


def trained_aspects(run: Experiment) -> Span | None:
    """The aspects of the images that a run's folds were trained on; None where its weights do not tell."""
    from bonepipe.training.weights_file import read_facts

    spans = [read_facts(path).get("aspects") for path in _weights(run.folder)]
    known = [span for span in spans if span]
    return (min(low for low, _ in known), max(high for _, high in known)) if known else None


def _weights(folder: Path) -> list[Path]:
    """The weights of the folds in a run's folder."""
    return [path / WEIGHTS for path in run_folder.fold_folders(folder).values() if (path / WEIGHTS).is_file()]


def mask_provenance(predictor: Predictor) -> Inputs:
    """All that masks depend on: where the predictions come from, and what was chosen for them."""
    experiment, config = predictor.experiment, predictor.experiment.config
    chosen = decisions.read(experiment.folder, experiment.data.classes).plain()
    if chosen["by_stratum"]:
        chosen["strata"] = [config["strata"], config["data"].get("strata")]
    return {**predictor.provenance(), "decisions": {**chosen, "min_area": config["postprocess"].get("min_area")}}


def mask_maker(maps: Maps, experiment: Experiment) -> Masks:
    """Masks of training images from their names and thresholds, given their maps."""
    store = experiment.cohort.store
    return lambda name, limits: upsample.cutouts(maps(name), limits, store.shape(experiment.cohort.index[name]))


def require_current(predictor: Predictor, way_out: str) -> None:
    """Raise BonepipeError unless the folder's thresholds were chosen from what predicts now, and are whole."""
    step = predictor.cross_validation()
    if step.recorded is None or step.damage():
        missing = run_folder.FINGERPRINT if step.recorded is None else ", ".join(step.damage())
        why = f"{missing} is missing or not as it was written"
        raise BonepipeError(f"{step.folder}: is not finished ({why}); {way_out}")
    if changes := step.changes():
        raise BonepipeError(
            f"{step.folder}: its thresholds were chosen from other predictions:\n{run_folder.shortened(changes)}\n"
            f"{way_out[0].upper()}{way_out[1:]}"
        )
