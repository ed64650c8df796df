"""Two runs side by side: which settings differ, and how much the out-of-fold Dice changed, image by image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from bonepipe import config as configs
from bonepipe import plain_yaml
from bonepipe.data.catalog import read_catalog
from bonepipe.data.spec import DataSpec
from bonepipe.errors import BonepipeError, reason
from bonepipe.files import read_csv
from bonepipe.forms import fitting
from bonepipe.inference.crossfit import mean_and_error
from bonepipe.pipeline.run_folder import (
    CASCADE,
    ENSEMBLE,
    fold_folders,
    load_config,
    read_cascade,
    require_written,
    scores_of,
)
from bonepipe.screen import say

Scores = dict[tuple[str, str], float]  # (image, class) -> Dice
COLUMNS = ["image_name", "class", "dice"]
# Settings that do not make two runs differ: names and places, how the work is laid out, and what another setting says
# already.
IGNORED = (
    "name", "fold", "runs", "device", "executor", "tracking", "prediction", "search", "cam",
    "trainer.workers", "trainer.compile", "data.limits", "augment.passes",
)  # fmt: skip
CHOSEN = ("thresholds", "strata", "postprocess")  # by a run, after its folds, whose configs may have others
MADE = ("ensemble.mean", "cascade.first")  # what each ensemble resp. cascade says
TOTALS = ("oof_dice", "test_dice", "public", "private")  # of scores.json


@dataclass(frozen=True)
class Change:
    """A score in two runs over the same images.

    Attributes:
        a, b: its means.
        change: the mean of b - a over the images.
        standard_error: of that mean, clustered by patient; None for a single one.
    """

    a: float
    b: float
    change: float
    standard_error: float | None


@dataclass(frozen=True)
class RunFiles:
    """What a run left behind: its resolved config, its Dice per image and class, and its scores.json (maybe empty).

    `patients` tells whose each image is, where its dataset can still be read.
    """

    config: configs.Config
    dice: Scores
    totals: dict[str, float]
    patients: dict[str, str] = field(default_factory=dict)


def read_run(folder: Path) -> RunFiles:
    """Read the folder of a run, an ensemble or a cascade (`runs/NAME`), or of a fold (`runs/NAME/fold-K`).

    Raises:
        BonepipeError: there is no such folder, or no finished fold in it.
    """
    if not folder.is_dir():
        raise BonepipeError(f"{folder}: no such folder; name a run (runs/NAME) or a fold of one (runs/NAME/fold-0)")
    folds = [folder] if (folder / "oof_dice.csv").is_file() else list(fold_folders(folder).values())
    done = [fold for fold in folds if (fold / "config.yaml").is_file() and (fold / "oof_dice.csv").is_file()]
    if not done:
        raise BonepipeError(f"{folder}: holds no finished fold (config.yaml and oof_dice.csv); train one first")
    if unfinished := [fold.name for fold in folds if fold not in done]:
        what = "lacks config.yaml or oof_dice.csv; its images are left out"
        say(f"warning: {folder}: {', '.join(unfinished)} {what}; `bonepipe train` with the run's settings finishes it")
    dice: Scores = {}
    for fold in done:
        require_written(fold / "oof_dice.csv")
        dice |= read_dice(fold / "oof_dice.csv")
    config = load_config(done[0] / "config.yaml", checked=False)
    if folder not in done and (path := folder / "config.yaml").is_file():
        of_all = load_config(path, checked=False)
        config |= {group: of_all[group] for group in CHOSEN if group in of_all}
    totals = read_totals(folder / "scores.json")
    return RunFiles({**config, **_makeup(folder)}, dice, totals, _patients(config))


def _patients(config: configs.Config) -> dict[str, str]:
    """Image name -> patient; empty where the dataset is not there any more, or an earlier version described it."""
    try:
        data: DataSpec = configs.build(config, "data")
        return {image.name: image.patient for image in read_catalog(replace(data, metadata=None))}
    except (BonepipeError, KeyError, ValueError):
        return {}


def _makeup(folder: Path) -> dict[str, Any]:
    """What sets an ensemble or a cascade apart from a run with the same settings, as further settings."""
    try:
        if (path := folder / ENSEMBLE).is_file():
            return _ensemble(plain_yaml.load(path))
        if (path := folder / CASCADE).is_file():
            record = read_cascade(folder)
            weights = {label: row["weight"] for label, row in record["classes"].items()}
            return {"cascade": {"first": record["first"], "second": record["second"], "weights": weights}}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise BonepipeError(f"{path}: cannot be read ({error!r}); make the ensemble or cascade again") from error
    return {}


def _ensemble(content: Mapping[str, Any]) -> dict[str, Any]:
    """An ensemble's mean and members; a member's settings stand under its run, numbered where a run is there again."""
    members: dict[str, Any] = {}
    for entry in content["members"]:
        again = sum(key.split(" #")[0] == entry["run"] for key in members)
        name = f"{entry['run']} #{again + 1}" if again else entry["run"]
        members[name] = {"weight": 1.0, **{key: value for key, value in entry.items() if key != "run"}}
    return {"ensemble": {"mean": content.get("mean", "arithmetic"), "members": members}}


def read_dice(path: Path) -> Scores:
    """Read a table of Dice (oof_dice.csv). Raises BonepipeError where it cannot be read."""
    try:
        return {(row["image_name"], row["class"]): float(row["dice"]) for _, row in read_csv(path, COLUMNS)}
    except ValueError as error:
        raise BonepipeError(f"{path}: cannot be read as {','.join(COLUMNS)} ({reason(error)})") from error


def read_totals(path: Path) -> dict[str, float]:
    """The means of a scores.json, those that it has. Raises BonepipeError where it cannot be read."""
    content = scores_of(path.parent) if path.is_file() else {}
    try:
        return fitting({key: content[key] for key in TOTALS if key in content}, dict[str, float])
    except ValueError as error:
        raise BonepipeError(f"{path}: {error}; move it away, and `bonepipe train-all` writes it anew") from error


def changed_units(differences: Mapping[str, tuple]) -> list[str]:
    """The changes that somebody made: a group whose `_target_` was exchanged counts once, with all its settings.

    So does an ensemble or a cascade against what is none.
    """
    exchanged = {key.removesuffix("._target_") for key in differences if key.endswith("._target_")}
    exchanged |= {key.partition(".")[0] for key in MADE if None in differences.get(key, ())}
    units = (key.partition(".")[0] if key.partition(".")[0] in exchanged else key for key in differences)
    return list(dict.fromkeys(units))


def paired(a: np.ndarray, b: np.ndarray, patients: Sequence[str]) -> Change:
    """Compare two scores `[N]` of the same images, of these patients: the images' own difficulty cancels out."""
    change, error = mean_and_error(np.asarray(b, float) - np.asarray(a, float), np.array(patients))
    return Change(float(np.mean(a)), float(np.mean(b)), float(change), float(error) if len(set(patients)) > 1 else None)


def compare_dice(a: Scores, b: Scores, patients: Mapping[str, str]) -> tuple[list[str], Change, dict[str, Change]]:
    """The images and classes that both runs scored: image names, the mean over classes, and every class.

    An image whose patient is not known counts as one of its own.

    Raises:
        BonepipeError: they share none.
    """
    images = sorted({image for image, _ in a} & {image for image, _ in b})
    classes = list(dict.fromkeys(label for _, label in a if any(label == other for _, other in b)))
    if not images or not classes:
        raise BonepipeError("the two runs share no image or no class; runs on the same data and folds can be compared")
    try:
        before, after = (np.array([[dice[i, label] for label in classes] for i in images]) for dice in (a, b))
    except KeyError as error:
        raise BonepipeError(f"oof_dice.csv: image and class {error} have no score; predict that fold again") from error
    owners = [patients.get(name, name) for name in images]
    per_class = {name: paired(before[:, i], after[:, i], owners) for i, name in enumerate(classes)}
    return images, paired(before.mean(1), after.mean(1), owners), per_class


def compare(a: RunFiles, b: RunFiles) -> dict[str, Any]:
    """Everything that `bonepipe compare` tells, as plain values."""
    differences = configs.differences(a.config, b.config, IGNORED)
    patients = {**a.patients, **b.patients}
    images, dice, per_class = compare_dice(a.dice, b.dice, patients)
    totals = {key: {"a": a.totals[key], "b": b.totals[key]} for key in TOTALS if key in a.totals and key in b.totals}
    return {
        "settings": {key: {"a": old, "b": new} for key, (old, new) in differences.items()},
        "changes": changed_units(differences),
        "images": len(images),
        "patients": len({patients[name] for name in images}) if patients.keys() >= set(images) else None,
        "images_of_one_run_only": len({image for image, _ in [*a.dice, *b.dice]}) - len(images),
        "dice": vars(dice),
        "per_class": {name: vars(change) for name, change in per_class.items()},
        "scores": totals,
    }
