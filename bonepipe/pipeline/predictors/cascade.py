"""A cascade, coarse to fine: where a first stage has found a region, a run that sees only that is asked once more."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from bonepipe import config as configs
from bonepipe.data.catalog import Radiograph
from bonepipe.errors import BonepipeError, UsageError
from bonepipe.inference.cascade import BlendedStages, SecondStage, blend_stages, predict_second_stage
from bonepipe.inference.oof.predict import Predict
from bonepipe.inference.oof.results import HISTOGRAMS, Pooled, read_counts
from bonepipe.parallel import overlapped
from bonepipe.pipeline import run_folder
from bonepipe.pipeline.experiment import Experiment
from bonepipe.pipeline.predictors.base import WholePredictor, require_current
from bonepipe.pipeline.predictors.ensemble import OUTPUTS, open_ensemble
from bonepipe.pipeline.predictors.run import Run, open_run, refined_classes, require_finished, voting_folds
from bonepipe.pipeline.run_folder import CASCADE, CONFIG, THRESHOLDS, Inputs, Step, recorded_folds
from bonepipe.pipeline.steps import Steps

Shown = tuple[Radiograph, np.ndarray, np.ndarray]  # an image, its grey bytes [H, W], the first stage's maps [C, h, w]
Looked = tuple[Radiograph, np.ndarray, np.ndarray, SecondStage | None]  # the same, and the second stage's answer


@dataclass(frozen=True)
class CascadePredictor:
    """Two stages, and how much the second counts.

    Attributes:
        first: what sees the whole images.
        second: a finished run with data.region.
        experiment: the first's settings in the folder of the results.
        weights: of the second stage, one a class of the first, `[C]`.
    """

    first: WholePredictor
    second: Experiment
    experiment: Experiment
    weights: Sequence[float]

    def predictions(self, images: Sequence[Radiograph]) -> Iterator[tuple[Radiograph, BlendedStages]]:
        """Every image with both stages' maps."""
        labels = region_labels(self.first.experiment, self.second)
        models = [self.second.fold_model(fold) for fold in voting_folds(self.second)]
        predict = self.second.predictor(models, refined_classes(self.second))
        whole = ((image, prediction.maps) for image, prediction in self.first.predictions(images))
        for image, grey, maps, seen in looks(predict, self.second, list(labels), shown(whole, self.second)):
            yield image, blend_stages(maps, seen, labels, self.weights, (grey.shape[0], grey.shape[1]))

    def out_of_fold(self) -> Pooled:
        """The histograms that `bonepipe cascade` left."""
        names, counts = read_counts(self.experiment.folder / HISTOGRAMS, self.experiment.data.classes)
        folds = trained_folds(self.second)
        return Pooled(names, np.array([folds[name] for name in names]), counts)

    def runs(self) -> Sequence[Experiment]:
        """The first stage's: the second is shown crops in the proportions that it knows."""
        return self.first.runs()

    def provenance(self) -> Inputs:
        """Both stages and the weights."""
        weights = dict(zip(self.experiment.data.classes, self.weights, strict=True))
        return {**self.stages(), "weights": weights}

    def stages(self) -> Inputs:
        """What each stage predicts from."""
        return {"first": self.first.provenance(), "second": Run(self.second).provenance()}

    def cross_validation(self, *, dataset: bool = False) -> Step:
        """The choice of weights and thresholds from both stages."""
        groups = {key: self.experiment.config[key] for key in ("thresholds", "strata", "postprocess")}
        steps, outputs = Steps(self.experiment), (THRESHOLDS, CASCADE, *OUTPUTS)
        inputs = {"settings": groups, **self.stages(), **(steps.told_strata() if dataset else {})}
        return Step(self.experiment.folder, "cross_validation", inputs, outputs, steps.cache)


def shown(whole: Iterable[tuple[Radiograph, np.ndarray]], second: Experiment) -> Iterator[Shown]:
    """Add their grey bytes to images with maps.

    The first stage has decoded them already, but at full size it would have to hold all of a batch; here they are read
    once more, while it predicts the next ones.
    """

    def read(item: tuple[Radiograph, np.ndarray]) -> Shown:
        return item[0], item[0].read(), item[1]

    return overlapped(read, whole, second.prediction.batch_size)


def looks(predict: Predict, second: Experiment, labels: Sequence[int], items: Iterable[Shown]) -> Iterator[Looked]:
    """Add the second stage's answer to images with their maps, a batch at a time; None where no region was found.

    `labels` are the region's classes in these maps.
    """
    data = second.data
    assert data.region is not None
    rest = iter(items)
    while batch := list(islice(rest, second.prediction.batch_size)):
        seen = predict_second_stage(predict, data.region, labels, data.shape, [(grey, maps) for _, grey, maps in batch])
        yield from ((*item, answer) for item, answer in zip(batch, seen, strict=True))


def region_labels(first: Experiment, second: Experiment) -> dict[int, int]:
    """The region's classes: index in the first stage -> index in the second."""
    return {first.data.classes.index(name): second.data.classes.index(name) for name in region_names(second)}


def region_names(second: Experiment) -> tuple[str, ...]:
    """The region's classes."""
    assert second.data.region is not None
    return second.data.region.classes


def trained_folds(experiment: Experiment) -> dict[str, int]:
    """Image name -> the fold that validated it when the run was trained; the same for all folds that are there."""
    folders = [experiment.fold_folder(fold) for fold in voting_folds(experiment)]
    first, *others = (recorded_folds(folder) for folder in folders)
    for folder, other in zip(folders[1:], others, strict=True):
        if other != first:
            raise BonepipeError(f"{folder}: was trained on another split than {folders[0]}; train one of them again")
    return first


def open_first(folder: Path, words: Sequence[str] = ()) -> WholePredictor:
    """The first stage in a folder: a finished run or ensemble.

    Raises:
        BonepipeError: there is none, or it is not finished.
        UsageError: it is a cascade.
    """
    kind = run_folder.kind_of(folder)
    if kind == "cascade":
        raise UsageError(f"{folder}: is a cascade already; name its first stage, a run or an ensemble")
    return open_ensemble(folder, words) if kind == "ensemble" else require_finished(open_run(folder, words))


def open_second(folder: Path, first: WholePredictor, words: Sequence[str] = ()) -> Experiment:
    """The run that sees a region.

    Raises:
        UsageError: it sees whole images, or does not belong to the first stage.
        BonepipeError: it is not finished.
    """
    second = open_run(folder, words)
    if second.data.region is None:
        raise UsageError(f"{second.folder}: sees whole images; the second run needs data.region (see experiment=wrist)")
    for label in region_names(second):
        if label not in first.experiment.data.classes:
            raise UsageError(f"{second.folder}: looks for {label}, which {first.experiment.folder} does not know")
    for run in first.runs():
        _require_same_folds(run, second)
    return second


def _require_same_folds(first: Experiment, second: Experiment) -> None:
    """By what both were trained on, whatever a fold file says today."""
    others = trained_folds(second)
    for name, fold in trained_folds(first).items():
        if others.get(name) != fold:
            raise UsageError(
                f"{second.folder}: {name} validated fold {others.get(name)} there and fold {fold} in {first.folder} "
                f"when they were trained; train it with folds.file={first.folds.file}"
            )


def open_cascade(folder: Path, words: Sequence[str] = ()) -> CascadePredictor:
    """What `bonepipe cascade` left in a folder; its stages' folders are named as they were then.

    Raises:
        BonepipeError: it is not whole, or a stage has changed since.
    """
    record = run_folder.read_cascade(folder)
    weights = {name: float(row["weight"]) for name, row in record["classes"].items()}
    stages = Path(record["first"]), Path(record["second"])
    way_out = f"run `bonepipe cascade {stages[0]} {stages[1]} -o {folder}` again"
    if not (folder / CONFIG).is_file():
        raise BonepipeError(f"{folder / CONFIG}: is missing, so this cascade was not finished; {way_out}")
    first = open_first(stages[0], words)
    config = configs.recompose(run_folder.load_config(folder / CONFIG, way_out.removeprefix("run ")), words)
    experiment = Experiment(config).placed(folder, store=first.experiment.store_folder)
    second = open_second(stages[1], first, words)
    shares = [weights.get(name, 0.0) for name in experiment.data.classes]
    predictor = CascadePredictor(first, second, experiment, shares)
    require_current(predictor, way_out)
    return predictor
