"""The last step of every cross-validation, whoever predicted: thresholds, post-processing, scores, pictures.

A run, an ensemble and a cascade end here, so that whatever one of them can choose and show the others can too.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bonepipe import config as configs
from bonepipe import memory
from bonepipe.data import strata
from bonepipe.data.region import cut
from bonepipe.errors import BonepipeError
from bonepipe.files import replacing, write_json
from bonepipe.inference import thresholds
from bonepipe.inference.epochs import best_epoch_gain
from bonepipe.inference.oof.results import MASKS, Pooled, mean_pixel_accuracy
from bonepipe.inference.postprocess import crf_choice, operations
from bonepipe.inference.postprocess.operations import ChosenOperations
from bonepipe.inference.thresholds import ThresholdChoice
from bonepipe.interruption import ending
from bonepipe.labels.dice import dice_by_size
from bonepipe.pipeline import decisions, leaderboard, tracked
from bonepipe.pipeline.experiment import Experiment, say, tell_versions
from bonepipe.pipeline.history import read_history
from bonepipe.pipeline.predictors.base import Masks, Predictor, mask_maker
from bonepipe.pipeline.predictors.run import Run, voting_folds
from bonepipe.pipeline.run_folder import SCORES, locked, save_config, shortened
from bonepipe.pipeline.showing import show
from bonepipe.pipeline.steps import Steps
from bonepipe.pipeline.submission import read_test_set
from bonepipe.report import cross_validation as report
from bonepipe.report.examples import extremes, picture, read_masks
from bonepipe.report.overlay import save

KILLED_FOLD = "lower trainer.batch_size, data.size, trainer.workers or executor.parallel"
Strata = dict[str, ThresholdChoice]  # the thresholds of each


@dataclass(frozen=True)
class CrossValidation:
    """What was chosen from out-of-fold predictions.

    Attributes:
        experiment: the settings, and the folder of the results.
        pooled: the predictions.
        choice: a threshold a class; its Dice are those of everything that was chosen.
        by_stratum: the strata's thresholds; empty where all strata have the same.
        operations: on masks; None where the config names none to try.
        crf: the classes that keep it; None where there is none.
    """

    experiment: Experiment
    pooled: Pooled
    choice: ThresholdChoice
    by_stratum: Strata
    operations: ChosenOperations | None
    crf: ChosenOperations | None = None

    def scores(self) -> dict[str, Any]:
        """What scores.json holds of them."""
        experiment, pooled, choice = self.experiment, self.pooled, self.choice
        scores = thresholds.summary(experiment.data.classes, choice, pooled.folds)
        scores["oof_dice_by_size"] = dice_by_size(choice.dice, pooled.areas)
        scores |= weighted_scores(experiment, pooled.names, choice.dice.mean(1))
        if self.by_stratum:
            scores["threshold_strata_gain"] = thresholds.gain_by_stratum(self.by_stratum)
        if self.operations is not None:
            scores["postprocess_gain"] = float(self.operations.change.mean())
        return scores

    def report(self, scores: Mapping[str, Any]) -> str:
        """Everything in words, for people."""
        names = self.experiment.data.classes
        return report.text(names, self.choice, self.by_stratum, self.operations, self.crf, scores)


def run(experiment: Experiment, words: Sequence[str]) -> str | None:
    """Train every fold that is missing, through the executor, then choose anew where anything has changed.

    Args:
        experiment: as composed; it need not be checked yet.
        words: the overrides that it was composed from, for the processes that train.

    Returns:
        A report of what was chosen; None where all was done already.

    Raises:
        BonepipeError: a fold was begun with other settings or files, or did not finish.
    """
    steps, numbers = Steps(experiment), range(experiment.folds.count)
    if steps.cross_validated:
        return None
    configs.check(experiment.config)
    for fold in numbers:
        steps.refuse_stale(fold)
    voting_folds(experiment)
    experiment.try_later_settings()
    _ = configs.build(experiment.config, "tracking")
    leaderboard.kept(experiment.folder / SCORES)
    if missing := [fold for fold in numbers if not steps.is_done(fold)]:
        _train_missing(experiment, missing, words)
        experiment = replace(experiment)  # tables may have been edited in the meantime: nothing is remembered of them
    elif changes := steps.cross_validation().changes():
        say(f"{experiment.folder}: thresholds are chosen again, because of\n{shortened(changes)}")
    with locked(experiment.folder):
        return _choose(experiment)


def _train_missing(experiment: Experiment, missing: Sequence[int], words: Sequence[str]) -> None:
    for group in ("trainer", "loss", "mixing", "averaging", "transfer", "sampler"):  # what every fold would refuse
        configs.build(experiment.config, group)
    # Everything that folds share is made once, before several of them ask for it.
    _ = experiment.cohort.assignment, experiment.cohort.store, experiment.augmentation, experiment.views
    _ = experiment.windows, experiment.cohort.test_mix  # a test image that cannot be read is found before the training
    shared = [word for word in words if not word.startswith("fold=")]
    executor, base = configs.build(experiment.config, "executor"), [sys.executable, "-m", "bonepipe", "train"]
    after = executor.rounds_after(len(missing))
    rows = zip(missing, after, strict=True)
    codes = executor.run([[*base, f"fold={fold}", f"--after={rounds}", *shared] for fold, rounds in rows])
    # A process that ends well need not have got to the end of its fold: only its results tell.
    ended, now = dict(zip(missing, codes, strict=True)), Steps(experiment)
    failed = [fold for fold, code in ended.items() if code or not now.is_done(fold)]
    if failed:
        names = ", ".join(f"{fold}{ending(ended[fold])}" for fold in failed)
        killed = "" if memory.KILLED.isdisjoint(codes) else f" Killed, as where memory runs out: {KILLED_FOLD}."
        raise BonepipeError(
            f"{experiment.folder}: fold {names} did not finish (see above); what is done is kept, and the same "
            f"command goes on from there.{killed}"
        )


def _choose(experiment: Experiment) -> str:
    """Thresholds, scores and pictures from the folds' files."""
    tell_versions(experiment, range(experiment.folds.count))
    crf, predictor = _choose_crf(experiment), Run(experiment)
    step = Steps(experiment).cross_validation()  # of the tables as they are before they are read
    chosen = decide(experiment, predictor.out_of_fold(), lambda: mask_maker(predictor.recall(), experiment))
    chosen = replace(chosen, crf=crf)
    folds = dict(zip(chosen.pooled.names, chosen.pooled.folds.tolist(), strict=True))
    gain = _best_epoch_gain(experiment, chosen.pooled.folds)
    told = {} if gain is None else {"best_epoch_gain": gain}
    scores = finish(chosen, lambda name: experiment.fold_folder(folds[name]) / MASKS, told)
    step.record()
    return chosen.report(scores)


def _best_epoch_gain(experiment: Experiment, folds: np.ndarray) -> float | None:
    """How much too high the folds' Dice is because each chose its own epoch; None where nobody can tell."""
    numbers, counts = np.unique(folds, return_counts=True)
    try:
        places = map(experiment.fold_folder, numbers.tolist())
        return best_epoch_gain([read_history(*pair) for pair in zip(places, counts.tolist(), strict=True)])
    except BonepipeError as error:
        say(f"warning: what choosing the best epoch adds to the score is not known ({error})")
        return None


def _choose_crf(experiment: Experiment) -> ChosenOperations | None:
    """Which classes keep the CRF; the folds' own files then say so. None where there is no CRF."""
    if experiment.postprocess.crf is None:
        return None
    classes, steps = experiment.data.classes, Steps(experiment)
    folders = [experiment.fold_folder(fold) for fold in range(experiment.folds.count)]
    patients, margin = experiment.cohort.patient, experiment.thresholds.margin
    selection = crf_choice.choose_crf_classes(folders, classes, patients, margin)
    for fold, folder in enumerate(folders):
        crf_choice.merge(folder, classes, crf_choice.refined_classes(selection, classes))
        steps.out_of_fold(fold).record()
    return selection


def renew(predictor: Predictor, cross_validate: Callable[[], str], *, test: bool) -> str | None:
    """Cross-validate an ensemble or a cascade, unless that is done; returns a report of what came out, or None.

    Args:
        predictor: whose folder holds the results.
        cross_validate: writes everything, and reports.
        test: whether test images will be predicted next; a fault in them is then found before the work.
    """
    step, folder = predictor.cross_validation(dataset=True), predictor.experiment.folder
    if step.current and (folder / SCORES).is_file():
        say(f"{folder}: is cross-validated already")
        return None
    if changes := step.changes():
        say(f"{folder}: is cross-validated again, because of\n{shortened(changes)}")
    leaderboard.kept(folder / SCORES)  # which refuses a file that nobody can add to
    if test:
        read_test_set(predictor.experiment)
    with locked(folder):
        told = cross_validate()
        step.record()
    return told


def decide(experiment: Experiment, pooled: Pooled, masks: Callable[[], Masks]) -> CrossValidation:
    """Choose thresholds, by stratum where that is asked for, and the post-processing of the masks at these thresholds.

    Args:
        experiment: its settings of `thresholds` and `postprocess` say what may be chosen.
        pooled: what thresholds are chosen from.
        masks: what post-processing is chosen from; called only where the config names operations to try.
    """
    choice, by_stratum = _choose_thresholds(experiment, pooled)
    selection = _choose_operations(experiment, pooled, masks, choice, by_stratum)
    if selection is not None:
        choice = replace(choice, dice=choice.dice + selection.change)
    return CrossValidation(experiment, pooled, choice, by_stratum, selection)


def _choose_thresholds(experiment: Experiment, pooled: Pooled) -> tuple[ThresholdChoice, Strata]:
    """One threshold a class, and the strata's where they are asked for; the Dice are with those that are applied."""
    spec, split = experiment.thresholds, pooled.split(experiment.cohort.patient)
    common = thresholds.choose_thresholds(pooled.curves, split, spec.margin)
    if spec.by is None:
        return common, {}
    labels = [experiment.cohort.stratum[name] for name in pooled.names]
    if small := thresholds.small_strata(split, labels):
        least = f"fewer than {thresholds.LEAST} patients, so the common thresholds stay"
        say(f"warning: thresholds.by=stratum: {', '.join(small)}: {least}")
    by_stratum = thresholds.choose_thresholds_by_stratum(pooled.curves, split, labels, common, spec.margin)
    return replace(common, dice=thresholds.dice_by_stratum(by_stratum, labels)), by_stratum


def _choose_operations(
    experiment: Experiment, pooled: Pooled, masks: Callable[[], Masks], choice: ThresholdChoice, by_stratum: Strata
) -> ChosenOperations | None:
    """The operations of each class; None where the config names none to try."""
    spec, stratum = experiment.postprocess, experiment.cohort.stratum if by_stratum else {}
    if not spec.operations:
        return None
    applied = [by_stratum.get(stratum.get(name, ""), choice) for name in pooled.names]
    limits = [row.thresholds.tolist() for row in applied]
    dice = operations.score(masks(), pooled.names, limits, experiment.cohort.store, spec)
    split = pooled.split(experiment.cohort.patient)
    return operations.choose_operations(dice, split, experiment.thresholds.margin, spec.candidates())


def weighted_scores(experiment: Experiment, names: Sequence[str], dice: np.ndarray) -> dict[str, Any]:
    """The Dice `[N]` of these images weighted to the test set's mix, and the strata's table; empty without test set."""
    mix = experiment.cohort.test_mix
    if mix is None:
        return {}
    labels = [experiment.cohort.stratum[name] for name in names]
    rows = {"strata": strata.table(labels, dice, mix)}
    missing = strata.uncovered(labels, mix)
    if missing:
        share = f"{sum(mix[stratum] for stratum in missing):.0%} of the test set"
        say(f"warning: no validated image is of the stratum {', '.join(missing)}: {share} stays unseen")
    if not any(mix.get(label) for label in labels):
        return rows
    weights = strata.weights(labels, mix)
    if (worth := strata.effective(weights)) < len(weights) / 2:
        say(f"warning: the weighted Dice of {len(weights)} images is worth no more than that of {worth:.0f}")
    return {"oof_dice_weighted": float(np.average(dice, weights=weights)), **rows}


def finish(
    chosen: CrossValidation,
    tables: Callable[[str], Path],
    scores: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write thresholds.json, scores.json, config.yaml and pictures, and track them; returns all scores.

    What was there before stays until its like is written; whoever calls this records the step afterwards.

    Args:
        chosen: from out-of-fold predictions.
        tables: from an image's name to the oof.csv that holds its masks.
        scores: what else scores.json holds.
        facts: what the dashboard shows beside the experiment's config.
    """
    experiment, folder = chosen.experiment, chosen.experiment.folder
    folder.mkdir(parents=True, exist_ok=True)
    result = {**chosen.scores(), **(scores or {})}
    result["oof_pixel_accuracy_at_half"] = _pixel_accuracy(chosen, tables)
    _picture(chosen, tables)
    _save_threshold_picture(chosen)
    classes, choice = experiment.data.classes, chosen.choice
    decisions.write(folder, classes, choice, chosen.by_stratum, chosen.operations, chosen.crf)
    scores_now = {**result, **leaderboard.kept(folder / SCORES)}
    write_json(folder / SCORES, scores_now)
    save_config(experiment.config, folder)
    index = experiment.cohort.index
    shown = {title: index[chosen.pooled.names[position]] for title, position in _extremes(chosen).items()}
    with_images = partial(show, experiment=experiment, shown=shown, tables=tables)
    tracked.tell_cross_validation(experiment, choice, chosen.pooled, scores_now, with_images, facts or {})
    return result


def _pixel_accuracy(chosen: CrossValidation, tables: Callable[[str], Path]) -> float:
    names = chosen.pooled.names
    return mean_pixel_accuracy(dict.fromkeys(map(tables, names)), chosen.experiment.cohort.store, names)


def _extremes(chosen: CrossValidation) -> dict[str, int]:
    """Worst, median and best image out of fold, as positions among the pooled ones."""
    return extremes(chosen.choice.dice_at_half.mean(1))


def _picture(chosen: CrossValidation, tables: Callable[[str], Path]) -> None:
    """Save examples.jpg: worst, median and best image out of fold."""
    experiment, names, dice = chosen.experiment, chosen.pooled.names, chosen.choice.dice_at_half.mean(1)
    cohort, rows = experiment.cohort, []
    for title, position in _extremes(chosen).items():
        index, name = cohort.index[names[position]], names[position]
        predicted = read_masks(tables(name), {name: cohort.store.shape(index)})[name]
        image, crop = cohort.images[index], cohort.store.crop(index)
        grey = image.read() if crop is None else cut(image.read(), crop)
        label = f"{title}, Dice {dice[position]:.3f} at 0.5: {image.patient} {image.stem}"
        rows.append((label, grey, cohort.store.truth(index), predicted))
    save(experiment.folder / "examples.jpg", picture(rows, experiment.data))


def _save_threshold_picture(chosen: CrossValidation) -> None:
    """Save thresholds.png: Dice at every threshold, class by class."""
    from bonepipe.report.threshold_curves import draw

    experiment, curves, folds = chosen.experiment, chosen.pooled.curves, chosen.pooled.folds
    per_fold = np.stack([curves[folds == fold].mean(0) for fold in np.unique(folds)])
    figure = draw(experiment.data.classes, curves.mean(0), per_fold, chosen.choice, chosen.by_stratum)
    with replacing(experiment.folder / "thresholds.png") as part:
        figure.savefig(part)
