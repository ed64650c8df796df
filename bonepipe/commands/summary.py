"""The last step of every cross-validation, whoever predicted: thresholds, repairs, scores, pictures.

`train-all`, `ensemble` and `secondlook` end here, so that whatever one of them can choose and show the others can too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bonepipe import config as configs
from bonepipe.commands.predictor import CONFIG, SOURCE, strata_settings
from bonepipe.data import strata
from bonepipe.data.image import read_grey
from bonepipe.data.region import cut
from bonepipe.files import write_json
from bonepipe.inference import thresholds
from bonepipe.inference.oof.results import Pooled
from bonepipe.inference.postprocess import operations
from bonepipe.inference.postprocess.operations import Selection
from bonepipe.inference.thresholds import Choice
from bonepipe.labels.cutout import Cutout
from bonepipe.labels.dice import dice_by_size
from bonepipe.pipeline import leaderboard
from bonepipe.pipeline.experiment import Experiment, say

Masks = Callable[[str, Sequence[float]], list[Cutout]]  # of an image, out of fold, from its name and thresholds


@dataclass(frozen=True)
class Summary:
    """What was chosen from out-of-fold predictions, and what it is worth.

    Attributes:
        experiment: the settings, and the folder of the results.
        found: the predictions.
        choice: a threshold a class; its Dice are those of everything that was chosen.
        by_stratum: the strata's thresholds; empty where all strata have the same.
        selection: the repairs of masks; None where the config names none to try.
    """

    experiment: Experiment
    found: Pooled
    choice: Choice
    by_stratum: dict[str, Choice]
    selection: Selection | None

    def scores(self) -> dict[str, Any]:
        """What scores.json holds of them."""
        experiment, found, choice = self.experiment, self.found, self.choice
        scores = thresholds.summary(experiment.data.classes, choice, found.folds)
        scores["oof_dice_by_size"] = dice_by_size(choice.dice, found.areas)
        scores |= weighted_scores(experiment, found.names, choice.dice.mean(1))
        if self.by_stratum:
            scores["threshold_strata_gain"] = thresholds.gain_by_stratum(self.by_stratum)
        if self.selection is not None:
            scores["postprocess_gain"] = float(self.selection.change.mean())
        return scores

    def record(self) -> dict[str, Any]:
        """What thresholds.json holds beside the common thresholds."""
        classes = self.experiment.data.classes
        further: dict[str, Any] = {}
        if self.selection is not None:
            further |= self.selection.record(classes, self.experiment.postprocess)
        if self.by_stratum:
            settings = strata_settings(self.experiment) or {}
            further |= thresholds.record_by_stratum(classes, self.by_stratum, settings)
        return further


def begin(experiment: Experiment) -> None:
    """Take away what was chosen before; an interruption then leaves nothing that fits other predictions."""
    strata_settings(experiment)  # which refuses what could not be done after all the work
    experiment.folder.mkdir(parents=True, exist_ok=True)
    for name in (SOURCE, CONFIG, "thresholds.json"):
        (experiment.folder / name).unlink(missing_ok=True)


def decide(experiment: Experiment, found: Pooled, masks: Callable[[], Masks]) -> Summary:
    """Choose thresholds, by stratum where that is asked for, and the repairs of the masks at these thresholds.

    Args:
        experiment: its settings of `ensemble` and `postprocess` say what may be chosen.
        found: what thresholds are chosen from.
        masks: what repairs are chosen from; called only where the config names some to try.
    """
    choice, by_stratum = _choose_thresholds(experiment, found)
    selection = _select_operations(experiment, found, masks, choice, by_stratum)
    if selection is not None:
        choice = replace(choice, dice=choice.dice + selection.change)
    return Summary(experiment, found, choice, by_stratum, selection)


def _choose_thresholds(experiment: Experiment, found: Pooled) -> tuple[Choice, dict[str, Choice]]:
    """One threshold a class, and the strata's where they are asked for; the Dice are with those that are applied."""
    margin = configs.build(experiment.config, "thresholds").margin
    common = thresholds.choose(found.curves, found.folds, margin)
    if strata_settings(experiment) is None:
        return common, {}
    labels = [experiment.stratum[name] for name in found.names]
    by_stratum = thresholds.choose_by_stratum(found.curves, found.folds, labels, common, margin)
    return replace(common, dice=thresholds.dice_by_stratum(by_stratum, labels)), by_stratum


def _select_operations(
    experiment: Experiment,
    found: Pooled,
    masks: Callable[[], Masks],
    choice: Choice,
    by_stratum: dict[str, Choice],
) -> Selection | None:
    """The operations of each class; None where the config names none to try."""
    spec = experiment.postprocess
    if not spec.operations:
        return None
    own = [by_stratum.get(experiment.stratum[name], choice) if by_stratum else choice for name in found.names]
    limits = [chosen.thresholds.tolist() for chosen in own]
    dice = operations.score(masks(), found.names, limits, experiment.store, spec)
    return operations.choose(dice, found.folds, spec.candidates())


def weighted_scores(experiment: Experiment, names: Sequence[str], dice: np.ndarray) -> dict[str, Any]:
    """The Dice `[N]` of these images weighted to the test set's mix, and the strata's table; empty without test set."""
    mix = experiment.test_mix
    if mix is None:
        return {}
    labels = [experiment.stratum[name] for name in names]
    rows = {"strata": strata.table(labels, dice, mix)}
    missing = strata.uncovered(labels, mix)
    if missing:
        share = f"{sum(mix[stratum] for stratum in missing):.0%} of the test set"
        say(f"warning: no validated image is of the stratum {', '.join(missing)}: {share} stays unseen")
    if not any(mix.get(label) for label in labels):
        return rows
    return {"oof_dice_weighted": float(np.average(dice, weights=strata.weights(labels, mix))), **rows}


def finish(
    summary: Summary,
    tables: Callable[[str], Path],
    scores: Mapping[str, Any] | None = None,
    record: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write scores.json, thresholds.json, config.yaml and pictures, and track them; returns all scores.

    Args:
        summary: of the out-of-fold predictions.
        tables: from an image's name to the oof.csv that holds its masks.
        scores, record: what else scores.json and thresholds.json hold.
        facts: what the dashboard shows beside the experiment's config.
    """
    experiment, choice = summary.experiment, summary.choice
    path = experiment.folder / leaderboard.SCORES
    result = {**summary.scores(), **(scores or {})}
    write_json(path, {**result, **leaderboard.kept(path)})
    pictures = {"examples": _picture(summary, tables), "thresholds": _threshold_picture(summary)}
    _track(summary, result, pictures, facts or {})
    further = {**summary.record(), **(record or {})}
    thresholds.write(experiment.folder / "thresholds.json", experiment.data.classes, choice, further)
    configs.save(experiment.config, experiment.folder / CONFIG)
    return result


def _picture(summary: Summary, tables: Callable[[str], Path]) -> Path:
    """Save examples.jpg: worst, median and best image out of fold."""
    from bonepipe.report.examples import extremes, picture, read_masks, save

    experiment, names, dice = summary.experiment, summary.found.names, summary.choice.dice_at_half.mean(1)
    images = {image.name: index for index, image in enumerate(experiment.images)}
    rows = []
    for title, position in extremes(dice).items():
        index, name = images[names[position]], names[position]
        predicted = read_masks(tables(name), {name: experiment.store.shape(index)})[name]
        image, crop = experiment.images[index], experiment.store.crop(index)
        grey = read_grey(image.path) if crop is None else cut(read_grey(image.path), crop)
        label = f"{title}, Dice {dice[position]:.3f}: {image.patient} {image.path.stem}"
        rows.append((label, grey, experiment.store.truth(index), predicted))
    path = experiment.folder / "examples.jpg"
    save(path, picture(rows, experiment.data))
    return path


def _threshold_picture(summary: Summary) -> Path:
    """Save thresholds.png: Dice at every threshold, class by class."""
    from bonepipe.report.examples import save
    from bonepipe.report.threshold_curves import draw

    experiment, curves, folds = summary.experiment, summary.found.curves, summary.found.folds
    per_fold = np.stack([curves[folds == fold].mean(0) for fold in np.unique(folds)])
    path = experiment.folder / "thresholds.png"
    save(path, draw(experiment.data.classes, curves.mean(0), per_fold, summary.choice, summary.by_stratum))
    return path


def _track(summary: Summary, scores: Mapping[str, Any], pictures: Mapping[str, Path], facts: Mapping[str, Any]) -> None:
    experiment, choice = summary.experiment, summary.choice
    config, folder = {**experiment.config, **facts}, experiment.folder
    run = configs.build(config, "tracking").start(config["name"], "ensemble", "cross-validation", config, folder)
    run.summarise({"cv_mean": np.mean(scores["folds"]), "cv_std": deviation(scores["folds"]), **scores})
    numbers = np.stack([choice.dice.mean(0), choice.dice_at_half.mean(0), choice.thresholds, choice.gain], 1)
    rows = [[name, *row] for name, row in zip(experiment.data.classes, numbers.tolist(), strict=True)]
    run.table("classes", ["class", "oof_dice", "oof_dice_at_half", "threshold", "cross_fitted_gain"], rows)
    for name, path in pictures.items():
        run.picture(name, path)
    # An ensemble may be made where its members' fold file is not.
    files = [path for path in (Path(experiment.folds.file), folder / leaderboard.SCORES) if path.is_file()]
    run.artifact(f"{config['name']}-cross-validation", "ensemble", files)
    run.finish()


def deviation(folds: Sequence[float]) -> float:
    """The standard deviation over the folds; 0 for a hold-out."""
    return float(np.std(folds, ddof=1)) if len(folds) > 1 else 0.0


def tell(summary: Summary, scores: Mapping[str, Any]) -> None:
    """Print the Dice over all, by stratum and by size, and what thresholds and repairs are worth."""
    spread = f"{np.mean(scores['folds']):.4f} +- {deviation(scores['folds']):.4f} over the folds"
    print(f"out-of-fold Dice {scores['oof_dice']:.4f} ({scores['oof_dice_at_half']:.4f} at threshold 0.5, {spread})")
    _tell_strata(scores)
    sizes = ", ".join(f"{size} {dice:.4f}" for size, dice in scores["oof_dice_by_size"].items())
    print(f"by size of the object (thirds by true area): {sizes or 'there is none'}")
    _tell_thresholds(summary)
    tell_selection("repairs of masks", summary.selection, "at these thresholds")


def _tell_strata(scores: Mapping[str, Any]) -> None:
    """The strata where there are several, and the Dice weighted to the test set's mix."""
    rows = scores.get("strata", {})
    if len(rows) < 2:
        return
    print(f"{'stratum':<24} {'OOF Dice':>9} {'images':>9} {'share':>8} {'in test':>8}")
    for name, row in rows.items():
        dice = "-" if row["dice"] is None else f"{row['dice']:.4f}"
        print(f"{name:<24} {dice:>9} {row['images']:9d} {row['share']:8.1%} {row['test_share']:8.1%}")
    if "oof_dice_weighted" in scores:
        print(f"out-of-fold Dice weighted to the test set's mix {scores['oof_dice_weighted']:.4f}")


def _tell_thresholds(summary: Summary) -> None:
    """How many thresholds were worth a change."""
    kept = summary.choice.kept
    print(f"thresholds: {kept.sum()} of {len(kept)} classes leave 0.5; the others gain no more than noise")
    if summary.by_stratum:
        own = ", ".join(f"{stratum} {choice.kept.sum()}" for stratum, choice in summary.by_stratum.items())
        gain = thresholds.gain_by_stratum(summary.by_stratum)
        print(f"thresholds by stratum: {own} of {len(kept)} classes leave the common one, {gain:+.4f} out of fold")


def tell_selection(title: str, selection: Selection | None, where: str) -> None:
    """Print how many classes gain by an optional step, and what that is worth over all classes."""
    if selection is not None:
        kept, count = sum(map(bool, selection.operations)), len(selection.operations)
        print(f"{title}: kept for {kept} of {count} classes, {selection.change.mean():+.4f} out of fold {where}")
