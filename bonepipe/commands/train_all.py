"""`bonepipe train-all`: every fold, then thresholds and the cross-validation summary."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bonepipe import config as configs
from bonepipe.commands import inputs
from bonepipe.commands.experiment import HARMLESS, PREDICTION, Experiment, parse, refuse_other_settings, say
from bonepipe.commands.predictor import strata_settings
from bonepipe.commands.train import is_done
from bonepipe.data import strata
from bonepipe.data.image import read_grey
from bonepipe.data.region import cut
from bonepipe.errors import BonepipeError
from bonepipe.files import write_json
from bonepipe.inference import compact, postprocess, thresholds, variants
from bonepipe.inference.mixture import Archive
from bonepipe.inference.outoffold import PROBABILITIES, read_counts
from bonepipe.inference.postprocess import Selection
from bonepipe.inference.sizes import dice_by_size
from bonepipe.inference.thresholds import Choice
from bonepipe.labels import histogram
from bonepipe.report import leaderboard

HELP = """usage: bonepipe train-all [OVERRIDES]

Train every fold that is not finished (executor=local: here, one a visible GPU; executor=ray: as Ray tasks), then find
from all out-of-fold predictions which classes keep the dense CRF, one threshold a class, and the repairs that each
class's masks gain from, and write thresholds.json, scores.json, examples.jpg, and the Dice at every threshold as
thresholds.png.
With ensemble.thresholds_by=stratum a class may have another threshold in some strata, where that gains.
Beside the plain out-of-fold Dice stands the one weighted to the test set's mix of strata (conf/strata).

example: bonepipe train-all experiment=demo executor=ray"""


class OutOfFold(NamedTuple):
    """What the folds predicted of the images that they never saw.

    Attributes:
        names: of the images, in the order of the folds.
        curves: Dice `[N, C, 256]` at thresholds k / 256.
        areas: of the true masks, pixels `[N, C]`.
        folds: the fold that each image validates, `[N]`.
    """

    names: list[str]
    curves: np.ndarray
    areas: np.ndarray
    folds: np.ndarray


def main(arguments: Sequence[str]) -> int:
    """Train what is missing, then summarise."""
    config = parse(arguments, HELP)
    if config is None:
        return 0
    experiment = Experiment(config)
    for fold in range(experiment.folds.count):
        path = experiment.fold_folder(fold) / "config.yaml"
        refuse_other_settings(path, config, [*HARMLESS, *PREDICTION])
        inputs.refuse_changed(experiment, fold)
    strata_settings(experiment)  # which refuses what could not be done after the training
    _train_missing(experiment, arguments)
    summarise(experiment)
    return 0


def _train_missing(experiment: Experiment, overrides: Sequence[str]) -> None:
    missing = [fold for fold in range(experiment.folds.count) if not is_done(experiment, fold)]
    if not missing:
        return
    # Everything that folds share is made once, before several of them ask for it.
    _ = experiment.assignment, experiment.store, experiment.augmentation, experiment.views, experiment.windows
    _ = experiment.test_mix  # a test image that cannot be read is found before the training, not after
    own = [word for word in overrides if not word.startswith("fold=")]
    commands = [[sys.executable, "-m", "bonepipe.cli", "train", f"fold={fold}", *own] for fold in missing]
    codes = configs.build(experiment.config, "executor").run(commands)
    failed = [fold for fold, code in zip(missing, codes, strict=True) if code]
    if failed:
        names = ", ".join(str(fold) for fold in failed)
        raise BonepipeError(
            f"{experiment.folder}: fold {names} did not finish (see above); the others are kept, and the same "
            "command goes on where they stopped"
        )


def summarise(experiment: Experiment) -> None:
    """Thresholds, scores, pictures, and a line of numbers, from the folds' files."""
    refined = _select_refined(experiment)
    found = _read_folds(experiment)
    choice, by_stratum = _choose_thresholds(experiment, found)
    selection = _select_operations(experiment, found, choice, by_stratum)
    if selection is not None:
        choice = replace(choice, dice=choice.dice + selection.change)
    scores = _scores(experiment, choice, found) | weighted_scores(experiment, found.names, choice.dice.mean(1))
    if by_stratum:
        scores["threshold_strata_gain"] = thresholds.gain_by_stratum(by_stratum)
    if selection is not None:
        scores["postprocess_gain"] = float(selection.change.mean())
    path = experiment.folder / leaderboard.SCORES
    write_json(path, {**scores, **leaderboard.kept(path)})
    pictures = {
        "examples": _picture(experiment, found.names, choice),
        "thresholds": _threshold_picture(experiment, found, choice, by_stratum),
    }
    _track(experiment, choice, scores, pictures)
    _write_thresholds(experiment, choice, by_stratum, selection, refined)
    _print_table(experiment, choice)
    _print_scores(scores)
    _print_selection("dense CRF", refined, "at thresholds of its own")
    _print_thresholds(choice, by_stratum)
    _print_selection("repairs of masks", selection, "at these thresholds")


def _select_refined(experiment: Experiment) -> Selection | None:
    """Which classes keep the CRF; the folds' own files then say so. None where there is no CRF."""
    if experiment.postprocess.crf is None:
        return None
    classes = experiment.data.classes
    folders = [experiment.fold_folder(fold) for fold in range(experiment.folds.count)]
    selection = variants.choose(folders, classes, configs.build(experiment.config, "ensemble").margin)
    for folder in folders:
        variants.merge(folder, classes, variants.refined_classes(selection, classes))
    return selection


def _read_folds(experiment: Experiment) -> OutOfFold:
    """All out-of-fold predictions, from the folds' histograms."""
    names: list[str] = []
    curves, areas, folds = [], [], []
    for fold in range(experiment.folds.count):
        here, counts = read_counts(experiment.fold_folder(fold) / "histograms.npz", experiment.data.classes)
        names += here
        curves.append(histogram.dice_curve(counts))
        areas.append(counts[:, :, histogram.FOREGROUND].sum(-1))
        folds += [fold] * len(here)
    return OutOfFold(names, np.concatenate(curves), np.concatenate(areas), np.array(folds))


def _choose_thresholds(experiment: Experiment, found: OutOfFold) -> tuple[Choice, dict[str, Choice]]:
    """One threshold a class, and the strata's where they are asked for; the Dice are with those that submit applies."""
    margin = configs.build(experiment.config, "ensemble").margin
    common = thresholds.choose(found.curves, found.folds, margin)
    if strata_settings(experiment) is None:
        return common, {}
    labels = [experiment.stratum[name] for name in found.names]
    by_stratum = thresholds.choose_by_stratum(found.curves, found.folds, labels, common, margin)
    return replace(common, dice=thresholds.dice_by_stratum(by_stratum, labels)), by_stratum


def _select_operations(
    experiment: Experiment, found: OutOfFold, choice: Choice, by_stratum: dict[str, Choice]
) -> Selection | None:
    """The operations of each class from all out-of-fold masks; None where the config names none to try."""
    spec, classes = experiment.postprocess, experiment.data.classes
    if not spec.operations:
        return None
    paths = {fold: experiment.fold_folder(fold) / PROBABILITIES for fold in range(experiment.folds.count)}
    archive = Archive({fold: compact.read(path, classes) for fold, path in paths.items()})
    own = [by_stratum.get(experiment.stratum[name], choice) if by_stratum else choice for name in found.names]
    limits = [chosen.thresholds.tolist() for chosen in own]
    dice = postprocess.score(archive.maps, found.names, limits, experiment.store, spec)
    return postprocess.choose(dice, found.folds, spec.candidates())


def _write_thresholds(
    experiment: Experiment,
    choice: Choice,
    by_stratum: dict[str, Choice],
    selection: Selection | None,
    refined: Selection | None,
) -> None:
    """Save thresholds.json, which submit applies."""
    classes, spec = experiment.data.classes, experiment.postprocess
    further = selection.record(classes, spec) if selection else {}
    if refined and spec.crf:
        further |= variants.record(refined, classes, spec.crf)
    if by_stratum:
        further |= thresholds.record_by_stratum(classes, by_stratum, strata_settings(experiment) or {})
    thresholds.write(experiment.folder / "thresholds.json", classes, choice, further)


def _scores(experiment: Experiment, choice: Choice, found: OutOfFold) -> dict[str, Any]:
    scores = thresholds.summary(experiment.data.classes, choice, found.folds)
    return {**scores, "oof_dice_by_size": dice_by_size(choice.dice, found.areas)}


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


def _print_scores(scores: dict[str, Any]) -> None:
    """The Dice over all, by stratum and by size."""
    spread = f"{np.mean(scores['folds']):.4f} +- {_deviation(scores['folds']):.4f} over the folds"
    print(f"out-of-fold Dice {scores['oof_dice']:.4f} ({scores['oof_dice_at_half']:.4f} at threshold 0.5, {spread})")
    _print_strata(scores)
    sizes = ", ".join(f"{size} {dice:.4f}" for size, dice in scores["oof_dice_by_size"].items())
    print(f"by size of the object (thirds by true area): {sizes or 'there is none'}")


def _print_strata(scores: dict[str, Any]) -> None:
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


def _print_thresholds(choice: Choice, by_stratum: dict[str, Choice]) -> None:
    """How many thresholds were worth a change."""
    count = len(choice.kept)
    print(f"thresholds: {choice.kept.sum()} of {count} classes leave 0.5; the others gain no more than noise")
    if by_stratum:
        kept = ", ".join(f"{stratum} {own.kept.sum()}" for stratum, own in by_stratum.items())
        gain = thresholds.gain_by_stratum(by_stratum)
        print(f"thresholds by stratum: {kept} of {count} classes leave the common one, {gain:+.4f} out of fold")


def _print_selection(title: str, selection: Selection | None, where: str) -> None:
    """How many classes gain by an optional step, and what that is worth over all classes."""
    if selection is not None:
        kept, count = sum(map(bool, selection.operations)), len(selection.operations)
        print(f"{title}: kept for {kept} of {count} classes, {selection.change.mean():+.4f} out of fold {where}")


def _deviation(folds: Sequence[float]) -> float:
    """The standard deviation over the folds; 0 for a hold-out."""
    return float(np.std(folds, ddof=1)) if len(folds) > 1 else 0.0


def _picture(experiment: Experiment, names: Sequence[str], choice: Choice) -> Path:
    """Save examples.jpg: worst, median and best image out of fold."""
    from bonepipe.report.examples import extremes, picture, read_masks, save

    images = {image.name: index for index, image in enumerate(experiment.images)}
    rows = []
    for title, position in extremes(choice.dice_at_half.mean(1)).items():
        index, name = images[names[position]], names[position]
        csv = experiment.fold_folder(experiment.assignment[name]) / "oof.csv"
        predicted = read_masks(csv, {name: experiment.store.shape(index)})[name]
        image, crop = experiment.images[index], experiment.store.crop(index)
        grey = read_grey(image.path) if crop is None else cut(read_grey(image.path), crop)
        score = f"Dice {choice.dice_at_half[position].mean():.3f}"
        label = f"{title}, {score}: {image.patient} {image.path.stem}"
        rows.append((label, grey, experiment.store.truth(index), predicted))
    path = experiment.folder / "examples.jpg"
    save(path, picture(rows, experiment.data))
    return path


def _threshold_picture(experiment: Experiment, found: OutOfFold, choice: Choice, by_stratum: dict[str, Choice]) -> Path:
    """Save thresholds.png: Dice at every threshold, class by class."""
    from bonepipe.report.examples import save
    from bonepipe.report.threshold_curves import draw

    per_fold = np.stack([found.curves[found.folds == fold].mean(0) for fold in np.unique(found.folds)])
    path = experiment.folder / "thresholds.png"
    save(path, draw(experiment.data.classes, found.curves.mean(0), per_fold, choice, by_stratum))
    return path


def _track(experiment: Experiment, choice: Choice, scores: dict[str, Any], pictures: dict[str, Path]) -> None:
    config, folder = experiment.config, experiment.folder
    run = configs.build(config, "tracking").start(config["name"], "ensemble", "cross-validation", config, folder)
    run.summarise({"cv_mean": np.mean(scores["folds"]), "cv_std": _deviation(scores["folds"]), **scores})
    numbers = np.stack([choice.dice.mean(0), choice.dice_at_half.mean(0), choice.thresholds, choice.gain], 1)
    rows = [[name, *row] for name, row in zip(experiment.data.classes, numbers.tolist(), strict=True)]
    run.table("classes", ["class", "oof_dice", "oof_dice_at_half", "threshold", "cross_fitted_gain"], rows)
    for name, path in pictures.items():
        run.picture(name, path)
    run.artifact(
        f"{config['name']}-cross-validation", "ensemble", [Path(experiment.folds.file), folder / "scores.json"]
    )
    run.finish()


def _print_table(experiment: Experiment, choice: Choice) -> None:
    """Classes, worst first."""
    print(f"{'class':<24} {'OOF Dice':>9} {'threshold':>9} {'gain':>8}")
    for number in np.argsort(choice.dice.mean(0)):
        dice, threshold, gain = choice.dice[:, number].mean(), choice.thresholds[number], choice.gain[number]
        print(f"{experiment.data.classes[number]:<24} {dice:9.4f} {threshold:9.3f} {gain:+8.4f}")
