"""A run, or an ensemble, with a second look: where the first has found a region, a run that sees only that is asked."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bonepipe import config as configs
from bonepipe.commands.predictor import (
    CONFIG,
    ENSEMBLE,
    SECOND_LOOK,
    Run,
    WholePredictor,
    check_source,
    open_run,
    placed,
    require_finished,
    require_folds,
    voting_folds,
)
from bonepipe.commands.team import open_team
from bonepipe.data.catalog import Radiograph
from bonepipe.data.image import read_grey
from bonepipe.errors import BonepipeError, UsageError
from bonepipe.parallel import overlapped
from bonepipe.pipeline.experiment import Experiment

if TYPE_CHECKING:
    from bonepipe.inference.cascade import BlendedStages, SecondStage
    from bonepipe.inference.oof.predict import Predict
    from bonepipe.inference.oof.results import Pooled

Shown = tuple[Radiograph, np.ndarray, np.ndarray]  # an image, its grey bytes [H, W], the first stage's maps [C, h, w]


@dataclass(frozen=True)
class SecondLook:
    """Two stages, and how much the second counts.

    Attributes:
        first: what sees the whole images.
        second: a finished run with data.region.
        experiment: the first's settings in the folder of the results.
        weights: of the second look, one a class of the first, `[C]`.
    """

    first: WholePredictor
    second: Experiment
    experiment: Experiment
    weights: Sequence[float]

    def predictions(self, images: Sequence[Radiograph]) -> "Iterator[tuple[Radiograph, BlendedStages]]":
        """Every image with both stages' maps."""
        from bonepipe.inference.cascade import blend_stages

        labels = region_labels(self.first.experiment, self.second)
        predict = self.second.predictor([self.second.member(fold) for fold in voting_folds(self.second)])
        whole = ((image, prediction.maps) for image, prediction in self.first.predictions(images))
        for image, grey, maps, seen in looks(predict, self.second, list(labels), shown(whole, self.second)):
            yield image, blend_stages(maps, seen, labels, self.weights, (grey.shape[0], grey.shape[1]))

    def out_of_fold(self) -> "Pooled":
        """The histograms that `bonepipe secondlook` left."""
        from bonepipe.inference.oof.results import HISTOGRAMS, Pooled, read_counts

        names, counts = read_counts(self.experiment.folder / HISTOGRAMS, self.experiment.data.classes)
        return Pooled(names, np.array([self.second.assignment[name] for name in names]), counts)

    def provenance(self) -> dict[str, Any]:
        """Both stages and the weights."""
        return {
            "experiment": self.experiment.config["name"],
            "first": self.first.provenance(),
            "second": Run(self.second).provenance(),
            "second_look": dict(zip(self.experiment.data.classes, self.weights, strict=True)),
        }


def shown(whole: Iterable[tuple[Radiograph, np.ndarray]], second: Experiment) -> Iterator[Shown]:
    """Add their grey bytes to images with maps.

    The first stage has decoded them already, but at full size it would have to hold all of a batch; here they are read
    once more, while it predicts the next ones.
    """

    def read(item: tuple[Radiograph, np.ndarray]) -> Shown:
        return item[0], read_grey(item[0].path), item[1]

    return overlapped(read, whole, batch_size(second))


def batch_size(second: Experiment) -> int:
    """Images a forward pass of the second look."""
    return int(configs.build(second.config, "prediction").batch_size)


def looks(
    predict: "Predict", second: Experiment, labels: Sequence[int], items: Iterable[Shown]
) -> "Iterator[tuple[Radiograph, np.ndarray, np.ndarray, SecondStage | None]]":
    """Add the second look to images with their maps, a batch at a time; None where no region was found.

    `labels` are the region's classes in these maps.
    """
    from bonepipe.inference.cascade import predict_second_stage

    data = second.data
    assert data.region is not None
    rest = iter(items)
    while batch := list(islice(rest, batch_size(second))):
        seen = predict_second_stage(predict, data.region, labels, data.shape, [(grey, maps) for _, grey, maps in batch])
        yield from ((*item, one) for item, one in zip(batch, seen, strict=True))


def region_labels(first: Experiment, second: Experiment) -> dict[int, int]:
    """The region's classes: index in the first stage -> index in the second look."""
    return {first.data.classes.index(name): second.data.classes.index(name) for name in region_names(second)}


def region_names(second: Experiment) -> tuple[str, ...]:
    """The region's classes."""
    assert second.data.region is not None
    return second.data.region.classes


def open_first(folder: Path) -> WholePredictor:
    """The first stage in a folder: a finished run or ensemble.

    Raises:
        BonepipeError: there is none, or it is not finished.
        UsageError: it is something else.
    """
    if (folder / SECOND_LOOK).is_file():
        raise UsageError(f"{folder}: is a second look already; name its first stage, a run or an ensemble")
    if (folder / ENSEMBLE).is_file():
        return open_team(folder)
    run = open_run(folder)
    require_finished(run)
    return Run(run)


def open_second(folder: Path, first: WholePredictor) -> Experiment:
    """The run that sees a region.

    Raises:
        UsageError: it sees whole images, or does not belong to the first stage.
        BonepipeError: it is not finished.
    """
    second = open_run(folder)
    if second.data.region is None:
        raise UsageError(f"{second.folder}: sees whole images; the second run needs data.region (see experiment=wrist)")
    for label in region_names(second):
        if label not in first.experiment.data.classes:
            raise UsageError(f"{second.folder}: looks for {label}, which {first.experiment.folder} does not know")
    require_folds(second)
    for run in first.runs():
        _require_same_folds(run, second)
    return second


def _require_same_folds(first: Experiment, second: Experiment) -> None:
    for name, fold in first.assignment.items():
        other = second.assignment.get(name)
        if other != fold:
            raise UsageError(
                f"{second.folder}: {name} validates fold {other} there and fold {fold} in {first.folder}; train it "
                f"with folds.file={first.folds.file}"
            )


def open_look(folder: Path) -> SecondLook:
    """What `bonepipe secondlook` left in a folder; its stages' folders are named as they were then.

    Raises:
        BonepipeError: it is not whole, or a stage has changed since.
    """
    path = folder / SECOND_LOOK
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        weights = {name: float(row["weight"]) for name, row in record["classes"].items()}
        stages = Path(record["first"]), Path(record["second"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise BonepipeError(f"{path}: is no record of a second look ({error!r}); run `bonepipe secondlook`") from error
    way_out = f"run `bonepipe secondlook {stages[0]} {stages[1]} -o {folder}` again"
    if not (folder / CONFIG).is_file():
        raise BonepipeError(f"{folder / CONFIG}: is missing, so this second look was not finished; {way_out}")
    first = open_first(stages[0])
    experiment = placed(configs.load(folder / CONFIG), folder)
    classes = experiment.data.classes
    second = open_second(stages[1], first)
    look = SecondLook(first, second, experiment, [weights.get(name, 0.0) for name in classes])
    check_source(look, way_out)
    return look
