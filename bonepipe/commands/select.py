"""`bonepipe select RUN...`: which finished runs to average, and with which weights."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from bonepipe import config as configs
from bonepipe.commands.predictor import ENSEMBLE, placed, refuse_taken
from bonepipe.commands.voters import refuse_assembled
from bonepipe.data.catalog import Radiograph
from bonepipe.errors import BonepipeError, UsageError
from bonepipe.inference.ensemble import library, members, selection
from bonepipe.inference.ensemble.average import common_shape
from bonepipe.inference.ensemble.library import Band, ClassPixels, ImagePixels
from bonepipe.inference.ensemble.selection import Library, Search
from bonepipe.inference.oof.store import OofStore
from bonepipe.labels.histogram import HALF_BIN
from bonepipe.pipeline.experiment import Experiment, refuse_region, say
from bonepipe.report.selection import Result, as_json, report, short_names

EPILOG = """\
RUN is the folder of a finished run (runs/NAME); its folds' probabilities.npz hold what it predicted out of fold. The
runs may differ in everything but the classes: model, size, seed, loss, views. Three things are done:
  1. every run alone and every pair is scored: mean out-of-fold Dice over images and classes
  2. greedy search (Caruana et al., ICML 2004): starting from the best run, the run that helps most is added again and
     again, up to --steps; a run that is added twice weighs twice. Of all these mixtures the simplest is taken that the
     best one beats by no more than noise: fewer runs first, then fewer steps
  3. all of this is repeated without each fold and scored on the fold that was left out. What remains of the gain over
     the best single run is what other data will see; below --margin standard errors the single run stays
With --per-class a class gets a mixture of its own where that gains more than noise over the common one, by the same
test. The result is runs/NAME/ensemble.yaml, a text to edit, and the command that predicts with it.

Memory: only pixels that some runs hold and others do not are kept, M bytes each (see the first line printed). With
--thresholds, all those between the thresholds are.

examples:
  bonepipe select runs/unet runs/fpn runs/seed2 -o runs/best
  bonepipe select runs/unet runs/fpn -o runs/best --per-class --json
"""
TUNED = tuple(range(64, 193, 8))  # thresholds from 0.25 to 0.75 in steps of 1 / 32
PLAIN = (HALF_BIN,)
WAY_OUT = "run `bonepipe train-all` with the run's settings"


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    result = argparse.ArgumentParser(
        "bonepipe select",
        description="Choose which finished runs to average, from what they predicted out of fold.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = result.add_argument
    add("runs", metavar="RUN", nargs="+", help="two folders of finished runs or more")
    add("-o", "--output", metavar="runs/NAME", type=Path, required=True, help="the ensemble's folder, a new one")
    add("--steps", metavar="N", type=int, default=Search.steps, help="runs in a mixture at most (default: %(default)s)")
    add(
        "--margin", metavar="X", type=float, default=Search.margin,
        help="standard errors that a gain must exceed (default: %(default)g)",
    )  # fmt: skip
    add("--per-class", action="store_true", help="let a class have a mixture of its own where that gains")
    add("--thresholds", action="store_true", help="score at each class's best threshold of 0.25 to 0.75, not at 0.5")
    add("--json", action="store_true", help="one JSON object in place of the tables")
    return result


@dataclass(frozen=True)
class Run:
    """A finished run: the folder as it was named, its experiment, and its out-of-fold predictions."""

    folder: str
    experiment: Experiment
    predictions: OofStore


def read_run(folder: str) -> Run:
    """Read what a run left behind. BonepipeError, with the way out, where it is not finished."""
    path = Path(folder)
    if not path.is_dir():
        raise BonepipeError(f"{folder}: no such folder; name finished runs (runs/NAME)")
    refuse_assembled(path)
    if not (path / "fold-0" / "config.yaml").is_file():
        raise BonepipeError(f"{folder}: holds no trained fold (fold-0/config.yaml); `bonepipe train-all` trains a run")
    experiment = placed(configs.load(path / "fold-0" / "config.yaml"), path)
    refuse_region(experiment)
    folds = range(experiment.folds.count)
    for fold in folds:
        here = path / f"fold-{fold}"
        if not (here / "oof_dice.csv").is_file():
            raise BonepipeError(f"{here}: fold {fold} of {len(folds)} is not finished; {WAY_OUT} first")
        if not (here / "probabilities.npz").is_file():
            raise BonepipeError(f"{here / 'probabilities.npz'}: is missing; {WAY_OUT}, which predicts this fold again")
    files = {fold: path / f"fold-{fold}" / "probabilities.npz" for fold in folds}
    return Run(folder, experiment, OofStore(files, experiment.data.classes, one_fold_at_a_time=True))


def read_runs(folders: Sequence[str]) -> list[Run]:
    """Read all runs. UsageError for fewer than two or one named twice, BonepipeError for other classes."""
    if len({Path(folder).resolve() for folder in folders}) < max(2, len(folders)):
        raise UsageError("name at least two runs, none of them twice")
    runs = [read_run(folder) for folder in folders]
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
    images = {image.name: image for image in first.experiment.own_images}
    if not names <= set(images):
        raise BonepipeError(f"{first.experiment.data.path}: lacks {min(names - set(images))}, which the runs predicted")
    # A run whose folds are others opens each of its files as few times as can be.
    ordered = sorted(names, key=lambda name: ([run.predictions.folds[name] for run in runs], name))
    return [images[name] for name in ordered]


def tabulate(runs: Sequence[Run], images: Sequence[Radiograph], band: Band) -> list[ClassPixels]:
    """What all mixtures' Dice depend on, one table a class."""
    classes = runs[0].experiment.data.classes
    common = common_shape([run.predictions.shape for run in runs])
    store = runs[0].experiment.store  # of training images: the truth as it was annotated, whatever is trained on
    index = {name: number for number, name in enumerate(store.names)}
    pieces: list[list[ImagePixels]] = [[] for _ in classes]
    for image in tqdm(images, "disagreements", unit="image"):
        number = index[image.name]
        parts = [run.predictions.image(image.name) for run in runs]
        compared = library.pixels_of_image(parts, common, store.shape(number), store.truth(number), band)
        for found, piece in zip(pieces, compared, strict=True):
            found.append(piece)
    joints = []
    while pieces:
        joints.append(
            library.join_images(pieces.pop(0))
        )  # the pieces of a class are let go of before the next is joined
    return joints


def choose(arguments: argparse.Namespace, search: Search) -> Result:
    """Read, tabulate, select, write the file."""
    runs = read_runs(arguments.runs)
    images = shared_images(runs)
    thresholds = TUNED if arguments.thresholds else PLAIN
    library = Library(tabulate(runs, images, Band(thresholds[0], thresholds[-1])), thresholds)
    folds = np.array([runs[0].predictions.folds[image.name] for image in images])
    classes = runs[0].experiment.data.classes
    choice = selection.select(library, range(len(classes)), folds, search, bar="selection without each fold")
    own = None
    if arguments.per_class:
        own = selection.select_per_class(library, choice, folds, search, bar="selection by class")
    path, stored = arguments.output / ENSEMBLE, sum(run.predictions.nbytes for run in runs)
    result = Result(short_names(arguments.runs), classes, folds, stored, library, search, choice, own, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    members.write(path, selection.to_ensemble(arguments.runs, result.chosen, classes))
    return result


def main(argv: list[str]) -> int:
    """Choose and print."""
    arguments = parser().parse_args(argv)
    refuse_taken(arguments.output, ENSEMBLE)
    try:
        search = Search(steps=arguments.steps, margin=arguments.margin)
    except ValueError as error:
        raise UsageError(f"--{error}") from error
    result = choose(arguments, search)
    print(json.dumps(as_json(result), indent=2, ensure_ascii=False) if arguments.json else report(result))
    return 0
