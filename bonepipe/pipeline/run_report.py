"""Reading a run's folder for its report, and writing the report where what it shows has changed."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm
from typing_extensions import TypedDict

from bonepipe import __version__
from bonepipe import config as configs
from bonepipe.data import dicom_header, submission
from bonepipe.data.region import cut
from bonepipe.data.store import DIGESTS
from bonepipe.digests import digests
from bonepipe.errors import BonepipeError
from bonepipe.forms import read_json
from bonepipe.inference.mistakes import Mistakes, mistakes
from bonepipe.inference.oof.results import HISTOGRAMS, MASKS, pool
from bonepipe.labels import histogram
from bonepipe.labels.cutout import Cutout, from_runs
from bonepipe.parallel import cores
from bonepipe.pipeline import comparison, fold_costs, leaderboard, run_folder
from bonepipe.pipeline.experiment import Experiment, say
from bonepipe.pipeline.predictors.opening import open_predictor
from bonepipe.pipeline.run_folder import ANEW, METRICS, SCORES, THRESHOLDS, Step, locked
from bonepipe.pipeline.steps import Steps, without
from bonepipe.report import overlay
from bonepipe.report import run as report
from bonepipe.report.page import Section, write
from bonepipe.report.run import drawing, many
from bonepipe.report.run.results import Results

REPORT = "report.html"
SHOWN = (HISTOGRAMS, MASKS, METRICS, fold_costs.COSTS)  # of a fold's files
PLACES = ("runs", "name", "device", "data.root")  # settings that may be others without a change of what is shown


class Chosen(TypedDict, total=False):
    """What thresholds.json says of the choice."""

    thresholds: dict[str, float]
    cross_fitted_gain: dict[str, float]
    standard_error: dict[str, float]
    kept: list[str]


def write_report(folder: Path, root: str | None = None) -> Path:
    """Write the report of a run, an ensemble or a cascade, unless the one that is there shows what lies there.

    Args:
        folder: its folder.
        root: of its dataset, where that has moved.

    Raises:
        BonepipeError: nothing was predicted out of fold yet.
    """
    step = _step(folder, root)
    if step.current:
        say(f"{folder / REPORT}: done already")
        return folder / REPORT
    with locked(folder):
        write(folder / REPORT, report.page(read(folder, root=root), _leaderboard(_siblings(folder))))
        step.record()
    return folder / REPORT


def write_comparison(folders: Sequence[Path], output: Path) -> None:
    """Write the report of several runs side by side."""
    names = leaderboard.names(folders)
    runs = [read(folder, name, pictures=False) for name, folder in names.items()]
    first, *others = (comparison.read_run(folder) for folder in names.values())
    compared = [_change(first, other) for other in others]
    files = [first, *others]
    board = _leaderboard([folder for folder in names.values() if (folder / SCORES).is_file()])
    write(output, many.page(runs, _settings([run.config for run in files]), compared, board))


def _change(first: comparison.RunFiles, other: comparison.RunFiles) -> dict[str, Any] | None:
    """What another run changed; None where it has no image in common with the first."""
    try:
        return comparison.compare(first, other)
    except BonepipeError as error:
        say(f"warning: {error}")
        return None


def _experiment(folder: Path, root: str | None) -> Experiment:
    return Experiment(run_folder.recorded_config(folder)).placed(folder, root=root)


def _step(folder: Path, root: str | None) -> Step:
    """The report, made from all files that it shows, by a version of the code."""
    sources = _sources(folder)
    paths = [source / name for source in sources.values() for name in SHOWN]
    paths += [folder / name for name in (SCORES, THRESHOLDS)]
    paths += [path / SCORES for path in _siblings(folder)]
    there = list(dict.fromkeys(path for path in paths if path.is_file()))
    known = digests(there, folder.parent / ".store" / DIGESTS)
    files = {str(path.relative_to(folder.parent)): value for path, value in zip(there, known, strict=True)}
    experiment = _experiment(folder, root)
    settings = without(experiment.config, PLACES)
    made_from: run_folder.Inputs = {"settings": settings, "files": files, "drawn by": {"bonepipe": __version__}}
    with contextlib.suppress(BonepipeError):  # not there: a report with pictures is better than one without
        made_from["dataset"] = Steps(experiment).own_files()
    return Step(folder, "report", made_from, (REPORT,), folder.parent / ".store" / DIGESTS)


def _sources(folder: Path) -> dict[int, Path]:
    """Fold -> the folder of its out-of-fold predictions; an ensemble or a cascade has one for all."""
    folds = {0: folder} if run_folder.kind_of(folder) != "run" else run_folder.fold_folders(folder)
    done = {fold: path for fold, path in folds.items() if (path / HISTOGRAMS).is_file() and (path / MASKS).is_file()}
    if not done:
        raise BonepipeError(f"{folder}: nothing is predicted out of fold yet; `bonepipe train-all` does that")
    return done


def read(folder: Path, name: str | None = None, *, root: str | None = None, pictures: bool = True) -> Results:
    """All that is known of a run, an ensemble or a cascade.

    Args:
        folder: its folder.
        name: under which it is shown.
        root: of its dataset, where that has moved.
        pictures: whether its masks are compared with the truth, and cases drawn; takes the dataset.
    """
    experiment = _experiment(folder, root)
    sources, classes = _sources(folder), experiment.data.classes
    pooled = pool(sources, classes)
    is_run = run_folder.kind_of(folder) == "run"
    chosen = read_json(folder / THRESHOLDS, Chosen, ANEW) if (folder / THRESHOLDS).is_file() else {}
    scores = run_folder.scores_of(folder) if (folder / SCORES).is_file() else {}
    stale = _stale(experiment) if is_run else ""
    if stale:
        say(f"warning: {folder}: {stale}")
        chosen, scores = {}, {}
    dice = np.concatenate([_dice(pooled.counts[pooled.folds == fold]) for fold in sources])
    known: dict[str, Any] = {
        "name": name or folder.resolve().name,
        "classes": classes,
        "names": pooled.names,
        "folds": pooled.folds if is_run else _cross_fitted_folds(folder, pooled.names),
        "dice": dice,
        "counts": pooled.counts,
        "thresholds": chosen,
        "scores": scores,
        "histories": {fold: fold_costs.epoch_rows(path) for fold, path in sources.items()} if is_run else {},
        "costs": {fold: fold_costs.read(path) for fold, path in sources.items()} if is_run else {},
        "model": _model(experiment) if is_run else {},
        "settings": experiment.config,
        "stale": stale,
    }
    return Results(**known, **(_pictures(experiment, sources, pooled.names, dice) if pictures else {}))


def _stale(experiment: Experiment) -> str:
    """What to tell of a run whose scores are not those of the predictions that lie there; empty where they are."""
    step = Steps(experiment).cross_validation(dataset=False)
    if step.recorded is None or not (step.damage() or step.changes()):
        return ""
    return "Scores and thresholds are left out: they are of other predictions; `bonepipe train-all` makes them anew."


def _cross_fitted_folds(folder: Path, names: Sequence[str]) -> np.ndarray:
    """The fold of each image `[N]` that an ensemble or a cascade was cross-validated by; 0 where its runs are gone."""
    try:
        pooled = open_predictor(folder, ()).out_of_fold()
    except BonepipeError as error:
        say(f"warning: {folder}: shown as one fold, as its runs cannot be read ({error})")
        return np.zeros(len(names), int)
    folds = dict(zip(pooled.names, pooled.folds.tolist(), strict=True))
    return np.array([folds[name] for name in names])


def _dice(counts: np.ndarray) -> np.ndarray:
    """Dice at 0.5 `[n, C]` of a fold's histograms."""
    return np.asarray(histogram.dice_curve(counts)[:, :, histogram.HALF_BIN])


def _model(experiment: Experiment) -> dict[str, float]:
    """What the network costs; nothing where it cannot be built here."""
    try:
        return fold_costs.of_model(experiment)
    except BonepipeError as error:
        say(f"warning: what the network costs is not known ({error})")
        return {}


def _pictures(
    experiment: Experiment, sources: Mapping[int, Path], names: Sequence[str], dice: np.ndarray
) -> dict[str, Any]:
    """Mistakes and cases; where the dataset cannot be read, why."""
    try:
        store, index = experiment.cohort.store, experiment.cohort.index
        predicted = dict(_predictions(sources, index, experiment))
        rows = _compared(experiment, [(name, predicted[name]) for name in names])
    except (BonepipeError, KeyError) as error:
        say(f"warning: no pictures, as the dataset cannot be read ({error})")
        return {"missing": "The dataset cannot be read here, so there are no pictures."}
    data = experiment.data

    def look(position: int) -> drawing.Look:
        number = index[names[position]]
        image, crop = experiment.cohort.images[number], store.crop(number)
        grey = image.read() if crop is None else cut(image.read(), crop)
        title = f"{image.patient} {image.name}"
        return drawing.Look(title, grey, store.truth(number), predicted[names[position]], dice[position])

    colours = overlay.palette(len(data.classes), data.palette)
    return {
        "mistakes": Mistakes.stacked(rows),
        "cases": drawing.cases(dice, look, data.classes, colours),
        "closeups": drawing.closeups(dice, look, data.classes),
        "palette": [(name, overlay.css(colour)) for name, colour in zip(data.classes, colours, strict=True)],
    }


def _predictions(
    sources: Mapping[int, Path], index: Mapping[str, int], experiment: Experiment
) -> Iterator[tuple[str, list[Cutout]]]:
    """Name and masks of every image that was predicted out of fold."""
    for source in sources.values():
        path = source / MASKS
        for name, rows in groupby(submission.stream(path), key=lambda row: row.image):
            shape = experiment.cohort.store.shape(index[name])
            masks = {row.label: from_runs(submission.runs(path, row), shape) for row in rows}
            yield name, [masks[label] for label in experiment.data.classes]


def _compared(experiment: Experiment, rows: Sequence[tuple[str, list[Cutout]]]) -> list[Mistakes]:
    """The mistakes in each image's masks."""
    store, index = experiment.cohort.store, experiment.cohort.index

    def compare(row: tuple[str, list[Cutout]]) -> Mistakes:
        number = index[row[0]]
        return mistakes(store.truth(number), row[1], _spacing(experiment.cohort.images[number].path))

    with ThreadPoolExecutor(cores()) as threads:
        return list(tqdm(threads.map(compare, rows), "mistakes", len(rows), unit="image"))


def _spacing(path: Path) -> float:
    """Millimetres of a pixel; NaN where the file does not tell."""
    known = dicom_header.spacing(path)
    return float("nan") if known is None else float(np.sqrt(known.row * known.column))


def _siblings(folder: Path) -> list[Path]:
    """The runs beside a run, and itself, that have scores."""
    return [path.parent for path in sorted(folder.parent.glob(f"*/{SCORES}"))]


def _leaderboard(folders: Sequence[Path]) -> Section | None:
    """How cross-validation and leaderboard agree over runs; None where none has scores of both."""
    if not folders:
        return None
    entries, _ = leaderboard.read_entries(folders)
    return many.leaderboard(entries, leaderboard.agreements(entries)) if entries else None


def _settings(config: Sequence[configs.Config]) -> dict[str, list[str]]:
    """Dotted key -> its value in each run, of the keys in which any differs from the first."""
    first, *others = config
    changes = [configs.differences(first, other, comparison.IGNORED) for other in others]
    keys = sorted({key for change in changes for key in change})
    table = {}
    for key in keys:
        value = next(change[key][0] for change in changes if key in change)
        table[key] = [str(value), *(str(change[key][1] if key in change else value) for change in changes)]
    return table
