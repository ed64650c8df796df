"""`bonepipe select RUN...`: which finished runs to average, and with which weights."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from bonepipe import config as configs
from bonepipe.commands.experiment import Experiment, say
from bonepipe.data.annotation import read_annotation
from bonepipe.data.catalog import Radiograph
from bonepipe.data.image import read_shape
from bonepipe.errors import BonepipeError, UsageError
from bonepipe.inference import joint, mixture, selection
from bonepipe.inference.joint import Band, Counts, Joint, Piece, Predictions
from bonepipe.inference.selection import Choice, ClassChoice, Library, Search, complexity, reduced, single
from bonepipe.labels import polygon
from bonepipe.labels.cutout import Cutout

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
PLAIN = (joint.HALF,)
WAY_OUT = "run `bonepipe train-all` with the run's settings"
TABLE_ROWS = 15  # of pairs, and of classes


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
    predictions: Predictions


def read_run(folder: str) -> Run:
    """Read what a run left behind. BonepipeError, with the way out, where it is not finished."""
    path = Path(folder)
    if not path.is_dir():
        raise BonepipeError(f"{folder}: no such folder; name finished runs (runs/NAME)")
    if not (path / "fold-0" / "config.yaml").is_file():
        raise BonepipeError(f"{folder}: holds no trained fold (fold-0/config.yaml); `bonepipe train-all` trains a run")
    experiment = Experiment(configs.load(path / "fold-0" / "config.yaml"))
    folds = range(experiment.folds.count)
    for fold in folds:
        here = path / f"fold-{fold}"
        if not (here / "oof_dice.csv").is_file():
            raise BonepipeError(f"{here}: fold {fold} of {len(folds)} is not finished; {WAY_OUT} first")
        if not (here / "probabilities.npz").is_file():
            raise BonepipeError(f"{here / 'probabilities.npz'}: is missing; {WAY_OUT}, which predicts this fold again")
    return Run(folder, experiment, Predictions(path, experiment.data.classes, folds))


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


def read_truth(image: Radiograph, classes: Sequence[str]) -> tuple[list[Cutout], tuple[int, int]]:
    """The annotated mask of every class, and the image's size."""
    shape, outlines = read_shape(image.path), [[] for _ in classes]  # type: tuple[int, int], list[list[Any]]
    for label, points in read_annotation(image.annotation, classes) if image.annotation else ():
        outlines[label].append(points)
    return [polygon.cutout(points, shape) for points in outlines], shape


def tabulate(runs: Sequence[Run], images: Sequence[Radiograph], band: Band) -> list[Joint]:
    """What all mixtures' Dice depend on, one table a class."""
    classes = runs[0].experiment.data.classes
    common = max((run.predictions.shape for run in runs), key=lambda shape: shape[0] * shape[1])
    pieces: list[list[Piece]] = [[] for _ in classes]
    for image in tqdm(images, "disagreements", unit="image"):
        truth, shape = read_truth(image, classes)
        parts = [run.predictions.part(image.name) for run in runs]
        for found, piece in zip(pieces, joint.compare(parts, common, shape, truth, band), strict=True):
            found.append(piece)
    joints = []
    while pieces:
        joints.append(joint.join(pieces.pop(0)))  # the pieces of a class are let go of before the next is joined
    return joints


@dataclass(frozen=True)
class Result:
    """All that is reported."""

    names: list[str]
    classes: Sequence[str]
    folds: NDArray[np.int64]
    library: Library
    search: Search
    choice: Choice
    per_class: ClassChoice | None
    path: Path

    @property
    def chosen(self) -> list[Counts]:
        """One mixture a class."""
        return [self.choice.counts] * len(self.classes) if self.per_class is None else self.per_class.counts

    @property
    def command(self) -> str:
        """What uses the file."""
        return f"bonepipe ensemble {self.path} -o {self.path.parent}"

    def per_label(self, counts: Counts) -> NDArray[np.float64]:
        """Dice `[C]` of a mixture, mean over all images."""
        everywhere = np.ones(self.library.images, np.bool_)
        return self.library.dice(counts, range(len(self.classes)), everywhere).mean(0)

    def dice(self, counts: Counts) -> float:
        """Dice of a mixture, mean over all images and classes."""
        return float(self.per_label(counts).mean())

    def greedy(self) -> list[Counts]:
        """The path of the search over all images."""
        everywhere = np.ones(self.library.images, np.bool_)
        return self.search.path(self.library, range(len(self.classes)), everywhere)

    def text(self, counts: Counts) -> str:
        """A mixture in words: `2 x wide + demo`."""
        terms = [(count, name) for count, name in zip(reduced(counts), self.names, strict=True) if count]
        return " + ".join(name if count == 1 else f"{count} x {name}" for count, name in terms)


def short_names(folders: Sequence[str]) -> list[str]:
    """The folders' last parts, or where these are not unique the folders."""
    names = [Path(folder).resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else list(folders)


def as_json(result: Result) -> dict[str, Any]:
    """Everything as plain values."""
    library, choice, names = result.library, result.choice, result.names
    mixtures = selection.singles_and_pairs(library.runs)
    sizes = selection.by_size(library)
    singles = {name: result.per_label(single(run, library.runs)) for run, name in enumerate(names)}
    found: dict[str, Any] = {
        "runs": names,
        "images": library.images,
        "folds": len(np.unique(result.folds)),
        "bytes": sum(table.nbytes for table in library.joints),
        "mixtures": {result.text(counts): result.dice(counts) for counts in mixtures},
        "path": [{"mixture": result.text(counts), "dice": result.dice(counts)} for counts in result.greedy()],
        "best_run": result.text(choice.best),
        "tried": result.text(choice.tried),
        "chosen": result.text(choice.counts),
        "counts": dict(zip(names, reduced(choice.counts), strict=True)),
        "optimistic_gain": choice.promised,
        "cross_fitted_gain": choice.gain,
        "standard_error": choice.error,
        "cross_fitted_dice": float(choice.dice.mean()),
        "runs_per_class": {name: dict(zip(result.classes, row.tolist(), strict=True)) for name, row in singles.items()},
        "size_limits": sizes.limits,
        "runs_by_size": dict(zip(names, np.where(np.isfinite(sizes.dice), sizes.dice, None).tolist(), strict=True)),
        "file": str(result.path),
        "command": result.command,
    }
    if result.per_class is not None:
        own = result.per_class
        rows = zip(own.counts, own.own.tolist(), own.gain.tolist(), own.error.tolist(), strict=True)
        found["cross_fitted_dice"] = float(own.dice.mean())
        found["per_class"] = {
            name: {"mixture": result.text(counts), "own": kept, "cross_fitted_gain": gain, "standard_error": error}
            for name, (counts, kept, gain, error) in zip(result.classes, rows, strict=True)
        }
    return found


def report(result: Result) -> str:
    """Lay the result out for people."""
    library = result.library
    kept = sum(table.nbytes for table in library.joints)
    head = (
        f"{library.runs} runs, {library.images} images in {len(np.unique(result.folds))} folds, {len(result.classes)} "
        f"classes; {kept / 1e6:.1f} MB of pixels on which the runs disagree"
    )
    blocks = [[head], _runs(result), _best_runs(result), _pairs(result), _path(result), [verdict(result)]]
    if result.per_class is not None:
        blocks.append(_own(result, result.per_class))
    blocks.append([f"wrote {result.path}; to use it:", f"  {result.command}"])
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _runs(result: Result) -> list[str]:
    sizes, runs = selection.by_size(result.library), result.library.runs
    width = max(map(len, ("run", *result.names)))
    head = f"{'run alone':<{width + 4}} {'OOF Dice':>9} {'small':>8} {'medium':>8} {'large':>8}"
    rows = []
    for run, name in enumerate(result.names):
        thirds = " ".join(f"{value:8.4f}" for value in sizes.dice[run])
        rows.append(f"{name:<{width + 4}} {result.dice(single(run, runs)):9.4f} {thirds}")
    limits = f"  (small and medium: true masks of up to {sizes.limits[0]:.0f} and {sizes.limits[1]:.0f} pixels)"
    return [head, *rows, limits]


def _best_runs(result: Result) -> list[str]:
    """The classes where another run than the best one is best, and by how much."""
    alone = np.stack([result.per_label(single(run, result.library.runs)) for run in range(result.library.runs)])
    best = result.choice.best.index(1)
    lead = alone.max(0) - alone[best]
    order = [int(label) for label in np.argsort(-lead) if lead[label] > 0]
    if not order:
        return [f"{result.names[best]} is the best single run in every class"]
    rows = [
        f"  {result.classes[label]:<24} {alone[:, label].max():8.4f} {lead[label]:+8.4f}  "
        f"{result.names[int(alone[:, label].argmax())]}"
        for label in order[:TABLE_ROWS]
    ]
    title = f"{result.names[best]} is the best single run; in {len(order)} of {len(alone[0])} classes another is better"
    return [f"{title}:", *rows, *_more(len(order))]


def _more(count: int) -> list[str]:
    return [f"  and {count - TABLE_ROWS} more (--json has all)"] if count > TABLE_ROWS else []


def _pairs(result: Result) -> list[str]:
    pairs = [counts for counts in selection.singles_and_pairs(result.library.runs) if complexity(counts)[0] == 2]
    pairs.sort(key=result.dice, reverse=True)
    rows = [f"  {result.dice(counts):.4f}  {result.text(counts)}" for counts in pairs[:TABLE_ROWS]]
    return ["pairs:", *rows, *_more(len(pairs))]


def _path(result: Result) -> list[str]:
    path = result.greedy()
    rows = [f"  {result.dice(counts):.4f}  {result.text(counts)}" for counts in path]
    stopped = "no run improves it further" if sum(path[-1]) < result.search.steps else "as many steps as allowed"
    return ["greedy search, Dice on the images that it is chosen on:", *rows, f"  ({stopped})"]


def verdict(result: Result) -> str:
    """What came out, in plain words."""
    choice, alone = result.choice, result.text(result.choice.best)
    if len(np.unique(result.folds)) == 1:
        return f"There is one fold only, so no gain can be verified on another: {alone}, the best single run, is taken."
    margin = f"{result.search.margin:g} standard errors"
    if choice.counts != choice.best:
        return (
            f"{result.text(choice.counts)} gains {choice.gain:+.4f} +- {choice.error:.4f} over the best single run on "
            f"folds that had no say in the choice ({choice.promised:+.4f} on its own images): it is taken."
        )
    if choice.tried == choice.best:
        return f"One run alone is as good: no mixture beats {alone} by more than {margin}."
    return (
        f"One run alone is as good: {result.text(choice.tried)} promises {choice.promised:+.4f} over {alone}, but on "
        f"folds that had no say in the choice the gain is {choice.gain:+.4f} +- {choice.error:.4f}, not above {margin}."
    )


def _own(result: Result, own: ClassChoice) -> list[str]:
    kept = np.flatnonzero(own.own)
    rows = [
        f"  {result.classes[label]:<24} {own.gain[label]:+8.4f} +- {own.error[label]:.4f}  "
        f"{result.text(own.counts[label])}"
        for label in kept[np.argsort(-own.gain[kept])]
    ]
    dice = f"cross-fitted Dice {result.choice.dice.mean():.4f} -> {own.dice.mean():.4f}"
    if not rows:
        return ["No class gains more than noise from a mixture of its own."]
    return [f"{len(rows)} of {len(own.own)} classes get a mixture of their own, {dice}:", *rows]


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
    path = arguments.output / "ensemble.yaml"
    result = Result(short_names(arguments.runs), classes, folds, library, search, choice, own, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    mixture.write(path, selection.to_ensemble(arguments.runs, result.chosen, classes))
    return result


def main(argv: list[str]) -> int:
    """Choose and print."""
    arguments = parser().parse_args(argv)
    if any(arguments.output.glob("fold-*")):
        raise UsageError(f"-o {arguments.output}: is a run itself; give the ensemble a folder of its own")
    try:
        search = Search(steps=arguments.steps, margin=arguments.margin)
    except ValueError as error:
        raise UsageError(f"--{error}") from error
    result = choose(arguments, search)
    print(json.dumps(as_json(result), indent=2, ensure_ascii=False) if arguments.json else report(result))
    return 0
