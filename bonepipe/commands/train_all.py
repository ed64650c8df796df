"""`bonepipe train-all`: every fold, then thresholds and the cross-validation summary."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bonepipe import config as configs
from bonepipe.commands.experiment import HARMLESS, PREDICTION, Experiment, parse, refuse_other_settings, say
from bonepipe.commands.train import is_done
from bonepipe.data import strata
from bonepipe.data.image import read_grey
from bonepipe.data.region import cut
from bonepipe.errors import BonepipeError
from bonepipe.files import write_json
from bonepipe.inference import postprocess, thresholds
from bonepipe.inference.outoffold import read_curves
from bonepipe.inference.postprocess import Selection
from bonepipe.inference.thresholds import Choice

HELP = """usage: bonepipe train-all [OVERRIDES]

Train every fold that is not finished (executor=local: here, one a visible GPU; executor=ray: as Ray tasks), then find
one threshold a class from all out-of-fold predictions, and the post-processing that each class gains from, and write
thresholds.json, scores.json and examples.jpg.
Beside the plain out-of-fold Dice stands the one weighted to the test set's mix of strata (conf/strata).

example: bonepipe train-all experiment=demo executor=ray"""


def main(arguments: Sequence[str]) -> int:
    """Train what is missing, then summarise."""
    config = parse(arguments, HELP)
    if config is None:
        return 0
    experiment = Experiment(config)
    for fold in range(experiment.folds.count):
        path = experiment.fold_folder(fold) / "config.yaml"
        refuse_other_settings(path, config, [*HARMLESS, *PREDICTION])
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
    """Thresholds, scores, a picture, and a line of numbers, from the folds' files."""
    names, curves, folds = _read_folds(experiment)
    margin = configs.build(experiment.config, "ensemble").margin
    choice = thresholds.choose(curves, folds, margin)
    selection = _select_operations(experiment, folds)
    scores = _scores(experiment, choice, folds) | weighted_scores(experiment, names, choice.dice.mean(1))
    if selection is not None:
        scores["postprocess_gain"] = float((selection.dice - choice.dice_at_half).mean())
    write_json(experiment.folder / "scores.json", scores)
    picture = _picture(experiment, names, choice)
    _track(experiment, choice, scores, picture)
    classes = experiment.data.classes
    further = selection.record(classes, experiment.postprocess) if selection else None
    thresholds.write(experiment.folder / "thresholds.json", classes, choice, further)
    _print_table(experiment, choice)
    spread = f"{np.mean(scores['folds']):.4f} +- {_deviation(scores['folds']):.4f} over the folds"
    kept = int(choice.kept.sum())
    print(f"out-of-fold Dice {scores['oof_dice']:.4f} ({scores['oof_dice_at_half']:.4f} at threshold 0.5, {spread})")
    _print_strata(scores)
    print(f"thresholds: {kept} of {len(choice.kept)} classes leave 0.5; the others gain no more than noise")
    if selection is not None:
        kept = sum(map(bool, selection.operations))
        gain = scores["postprocess_gain"]
        print(f"post-processing: {kept} of {len(classes)} classes keep some, {gain:+.4f} out of fold at threshold 0.5")


def _read_folds(experiment: Experiment) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Image names, Dice `[N, C, 256]` and fold numbers `[N]` of all out-of-fold predictions."""
    names: list[str] = []
    curves, folds = [], []
    for fold in range(experiment.folds.count):
        here, curve = read_curves(experiment.fold_folder(fold) / "histograms.npz", experiment.data.classes)
        names += here
        curves.append(curve)
        folds += [fold] * len(here)
    return names, np.concatenate(curves), np.array(folds)


def _select_operations(experiment: Experiment, folds: np.ndarray) -> Selection | None:
    """The operations of each class from all out-of-fold masks; None where the config names none to try."""
    spec = experiment.postprocess
    if not spec.operations:
        return None
    paths = [experiment.fold_folder(fold) / "oof.csv" for fold in range(experiment.folds.count)]
    dice = np.concatenate([postprocess.score_file(path, experiment.store, spec) for path in paths])
    return postprocess.choose(dice, folds, spec.candidates())


def _scores(experiment: Experiment, choice: Choice, folds: np.ndarray) -> dict[str, Any]:
    per_class = zip(experiment.data.classes, choice.dice.mean(0).tolist(), strict=True)
    return {
        "oof_dice": float(choice.dice.mean()),
        "oof_dice_at_half": float(choice.dice_at_half.mean()),
        "folds": [float(choice.dice_at_half[folds == fold].mean()) for fold in np.unique(folds)],
        "oof_dice_per_class": dict(per_class),
    }


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


def _track(experiment: Experiment, choice: Choice, scores: dict[str, Any], picture: Path) -> None:
    config, folder = experiment.config, experiment.folder
    run = configs.build(config, "tracking").start(config["name"], "ensemble", "cross-validation", config, folder)
    run.summarise({"cv_mean": np.mean(scores["folds"]), "cv_std": _deviation(scores["folds"]), **scores})
    numbers = np.stack([choice.dice.mean(0), choice.dice_at_half.mean(0), choice.thresholds, choice.gain], 1)
    rows = [[name, *row] for name, row in zip(experiment.data.classes, numbers.tolist(), strict=True)]
    run.table("classes", ["class", "oof_dice", "oof_dice_at_half", "threshold", "cross_fitted_gain"], rows)
    run.picture("examples", picture)
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
