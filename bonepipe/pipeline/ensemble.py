"""The cross-validation of an ensemble: what its members' mean says out of fold, beside each member alone."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from bonepipe.errors import BonepipeError, UsageError
from bonepipe.inference.ensemble import members as files
from bonepipe.inference.ensemble.members import Ensemble, Entry, Mean
from bonepipe.inference.ensemble.scores import Scored, common_names, score
from bonepipe.inference.oof.results import MASKS, read_results, write_results
from bonepipe.pipeline import cross_validation
from bonepipe.pipeline.comparison import paired
from bonepipe.pipeline.cross_validation import CrossValidation
from bonepipe.pipeline.experiment import say
from bonepipe.pipeline.predictors.base import mask_maker
from bonepipe.pipeline.predictors.ensemble import EnsemblePredictor
from bonepipe.pipeline.run_folder import ENSEMBLE
from bonepipe.report import ensemble as report

YAML = (".yaml", ".yml")


def read_members(words: Sequence[str], mean: Mean | None) -> Ensemble:
    """The ensemble that a command line names: a YAML file, or runs with weights (`runs/NAME:2`).

    Raises:
        UsageError: a weight that is no positive number, or a file among runs.
        BonepipeError: a file that is wrong.
    """
    if len(words) == 1 and words[0].endswith(YAML):
        ensemble = files.read(Path(words[0]))
        return ensemble if mean is None else replace(ensemble, mean=mean)
    if file := next((word for word in words if word.endswith(YAML)), None):
        raise UsageError(f"{file}: give one YAML file or a list of runs, not both")
    return Ensemble(members=tuple(map(_entry, words)), mean=mean or "arithmetic")


def _entry(word: str) -> Entry:
    run, colon, weight = word.rpartition(":")
    if not colon or Path(word).is_dir():
        return Entry(run=word)
    try:
        number = float(weight)
    except ValueError as error:
        raise UsageError(f"{word}: the weight after the colon must be a number, as in runs/NAME:2") from error
    try:
        return Entry(run=run, weight=number)
    except ValueError as error:
        raise UsageError(str(error)) from error


def run(predictor: EnsemblePredictor, *, test: bool) -> str | None:
    """Cross-validate the ensemble, unless that is done; see `cross_validation.renew`."""
    return cross_validation.renew(predictor, lambda: _cross_validate(predictor), test=test)


def _cross_validate(predictor: EnsemblePredictor) -> str:
    """Write what the mean says out of fold, the thresholds and post-processing chosen from it, and its scores."""
    experiment, first, folder = predictor.experiment, predictor.members[0], predictor.experiment.folder
    classes, stores = experiment.data.classes, [member.store() for member in predictor.members]
    names = common_names(stores)
    say(f"{len(names)} images that every member predicted out of fold")
    if (most := max(len(store.folds) for store in stores)) > len(names):
        say(f"warning: the members' folds differ; up to {most - len(names)} images of a member count nowhere")
    scored = score(stores, predictor.weights, predictor.mean, first.experiment.cohort.store, names)
    if not _says(folder / ENSEMBLE, predictor.ensemble):  # else it may be somebody's own, with comments
        files.write(folder / ENSEMBLE, predictor.ensemble)
    if len(predictor.members) > 1 or first.anew:
        write_results(folder, names, classes, [row.average for row in scored])
    else:  # a member alone has its exact histograms already; bytes would only come near them
        parts = [read_results(first.experiment.fold_folder(fold), classes) for fold in first.folds]
        joined, compared = (list(chain.from_iterable(column)) for column in zip(*parts, strict=True))
        write_results(folder, joined, classes, compared)
    maps = predictor.mixer(stores)
    chosen = cross_validation.decide(experiment, predictor.out_of_fold(), lambda: mask_maker(maps, experiment))
    rows = _rows(predictor, scored)
    told = {"members": [{key: value for key, value in row.items() if key != "dice"} for row in rows]}
    scores = cross_validation.finish(chosen, lambda _: folder / MASKS, told, facts=predictor.facts)
    return "\n".join([*report.table(rows, chosen.choice, scores, _gain(rows, chosen)), chosen.report(scores)])


def _says(path: Path, ensemble: Ensemble) -> bool:
    """Whether a file is there, can be read, and names these members."""
    try:
        return path.is_file() and files.read(path).merged() == ensemble
    except BonepipeError:
        return False


def _rows(predictor: EnsemblePredictor, scored: Sequence[Scored]) -> list[dict[str, Any]]:
    """A row a member: what it is, and its Dice at 0.5 over the classes that it has a say in, an image and mean."""
    rows = []
    for number, entry in enumerate(predictor.ensemble.members):
        heard = predictor.weights[number] > 0
        dice = np.array([row.alone[number][heard].mean() for row in scored])
        title = " ".join([entry.run, *entry.overrides, *([f"epochs {entry.epochs}"] if entry.epochs else [])])
        facts = {"member": title, "weight": entry.weight, "classes": int(heard.sum())}
        rows.append({**facts, "oof_dice_at_half": float(dice.mean()), "dice": dice})
    return rows


def _gain(rows: Sequence[dict[str, Any]], chosen: CrossValidation) -> tuple[str, Any] | None:
    """The best member that has a say in every class, and what the ensemble's Dice at 0.5 is beside its own."""
    choice, patient = chosen.choice, chosen.experiment.cohort.patient
    whole = [row for row in rows if row["classes"] == choice.dice.shape[1]]
    if not whole or len(rows) < 2:
        return None
    best = max(whole, key=lambda row: row["oof_dice_at_half"])
    owners = [patient[name] for name in chosen.pooled.names]
    return best["member"], paired(best["dice"], choice.dice_at_half.mean(1), owners)
