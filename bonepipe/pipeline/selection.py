"""Which finished runs to average: what they predicted out of fold, and the search over their mixtures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from bonepipe.data.catalog import Radiograph
from bonepipe.errors import BonepipeError, UsageError
from bonepipe.inference.crossfit import Split
from bonepipe.inference.ensemble import library, members, selection
from bonepipe.inference.ensemble.average import common_shape
from bonepipe.inference.ensemble.library import Band, ClassPixels, ImagePixels
from bonepipe.inference.ensemble.selection import Library, Search
from bonepipe.inference.oof.results import PROBABILITIES
from bonepipe.inference.oof.store import OofStore
from bonepipe.labels.histogram import HALF_BIN
from bonepipe.pipeline.experiment import Experiment, say
from bonepipe.pipeline.predictors.run import open_run, refuse_other_truth, refuse_region
from bonepipe.pipeline.run_folder import ENSEMBLE, refuse_taken
from bonepipe.report.selection import Result, short_names

TUNED = tuple(range(64, 193, 8))  # thresholds from 0.25 to 0.75 in steps of 1 / 32
PLAIN = (HALF_BIN,)


@dataclass(frozen=True)
class Run:
    """A finished run: the folder as it was named, its experiment, and its out-of-fold predictions."""

    folder: str
    experiment: Experiment
    predictions: OofStore


def read_run(folder: str, words: Sequence[str] = ()) -> Run:
    """Read what a run left behind; overrides say where its data is. BonepipeError where it is not finished."""
    experiment = open_run(Path(folder), words)
    refuse_region(experiment)
    refuse_other_truth(experiment)
    files = {fold: experiment.fold_folder(fold) / PROBABILITIES for fold in range(experiment.folds.count)}
    return Run(folder, experiment, OofStore(files, experiment.data.classes, one_fold_at_a_time=True))


def read_runs(folders: Sequence[str], words: Sequence[str] = ()) -> list[Run]:
    """Read all runs. UsageError for fewer than two or one named twice, BonepipeError for other classes."""
    if len({Path(folder).resolve() for folder in folders}) < max(2, len(folders)):
        raise UsageError("name at least two runs, none of them twice")
    runs = [read_run(folder, words) for folder in folders]
    first = runs[0]
    for run in runs[1:]:
        if run.experiment.data.classes != first.experiment.data.classes:
            ours, theirs = (", ".join(r.experiment.data.classes) for r in (first, run))
            raise BonepipeError(f"{run.folder}: has other classes ({theirs}) than {first.folder} ({ours})")
        if run.experiment.data.path.resolve() != first.experiment.data.path.resolve():
            say(f"warning: {run.folder} was trained on {run.experiment.data.path}; truth is read from the first run's")
    return runs


def shared_images(runs: Sequence[Run]) -> list[Radiograph]:
    """The images that all runs predicted, fold by fold. BonepipeError where there are none, or their files are gone."""
    first = runs[0]
    names = set(first.predictions.folds)
    for run in runs[1:]:
        other = set(run.predictions.folds)
        if not names & other:
            raise BonepipeError(
                f"{run.folder}: predicted other images than {first.folder} (such as {min(other)} and {min(names)})"
            )
        if names != other:
            apart = min(names ^ other)
            say(f"warning: {run.folder} predicted other images than {first.folder} ({apart}); those of both count")
        names &= other
    images = {image.name: image for image in first.experiment.cohort.own_images}
    if not names <= set(images):
        raise BonepipeError(f"{first.experiment.data.path}: lacks {min(names - set(images))}, which the runs predicted")
    # A run whose folds are others opens each of its files as few times as can be.
    ordered = sorted(names, key=lambda name: ([run.predictions.folds[name] for run in runs], name))
    return [images[name] for name in ordered]


def tabulate(runs: Sequence[Run], images: Sequence[Radiograph], band: Band) -> list[ClassPixels]:
    """What all mixtures' Dice depend on, one table a class."""
    classes = runs[0].experiment.data.classes
    store = runs[0].experiment.cohort.store  # the truth as it was annotated, whatever is trained on
    pieces: list[list[ImagePixels]] = [[] for _ in classes]
    for image in tqdm(images, "disagreements", unit="image"):
        number = store.index[image.name]
        parts = [run.predictions.image(image.name) for run in runs]
        common = common_shape([part.shape for part in parts])
        compared = library.pixels_of_image(parts, common, store.shape(number), store.truth(number), band)
        for found, piece in zip(pieces, compared, strict=True):
            found.append(piece)
    # The pieces of a class are let go of before the next is joined.
    return [library.join_images(pieces.pop(0)) for _ in classes]


def select(
    folders: Sequence[str], output: Path, settings: Mapping[str, float], words: Sequence[str] = (), *,
    per_class: bool, thresholds: bool,
) -> Result:  # fmt: skip
    """Read the runs, search their mixtures, and write the one that is chosen as OUTPUT/ensemble.yaml.

    Args:
        folders: of finished runs.
        output: the ensemble's folder.
        settings: of `Search`.
        words: overrides that say where the data is.
        per_class: whether a class may have a mixture of its own.
        thresholds: whether to score at each class's best threshold, not at 0.5.
    """
    refuse_taken(output, ENSEMBLE)
    try:
        search = Search(**settings)  # type: ignore[arg-type]
    except ValueError as error:
        raise UsageError(f"--{error}") from error
    runs = read_runs(folders, words)
    images, tried = shared_images(runs), TUNED if thresholds else PLAIN
    mixtures = Library(tabulate(runs, images, Band(tried[0], tried[-1])), tried)
    folds = np.array([runs[0].predictions.folds[image.name] for image in images])
    split = Split(folds, np.array([image.patient for image in images]))
    classes = runs[0].experiment.data.classes
    choice = selection.select(mixtures, range(len(classes)), split, search, bar="selection without each fold")
    by_class = selection.select_per_class(mixtures, choice, split, search, bar="by class") if per_class else None
    path, stored = output / ENSEMBLE, sum(run.predictions.nbytes for run in runs)
    result = Result(short_names(folders), classes, folds, stored, mixtures, search, choice, by_class, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    members.write(path, selection.to_ensemble(folders, result.chosen, classes))
    return result
