"""What the dashboard is told of results: flat values to sort runs by, tables, bars, curves and drawings of numbers."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bonepipe import config as configs
from bonepipe.data.synthetic import is_synthetic
from bonepipe.errors import BonepipeError
from bonepipe.files import replacing
from bonepipe.inference.thresholds import ThresholdChoice
from bonepipe.labels.dice import iou_of_dice
from bonepipe.labels.histogram import THRESHOLDS
from bonepipe.pipeline import fold_costs
from bonepipe.pipeline.experiment import Experiment, say
from bonepipe.pipeline.leaderboard import RECORD
from bonepipe.pipeline.run_folder import CONFIG, SCORES, WEIGHTS, load_config, scores_of
from bonepipe.report.cross_validation import deviation

if TYPE_CHECKING:
    from bonepipe.inference.oof.results import Pooled

SHOWN = slice(16, 249, 4)  # of the thresholds that can be chosen: W&B draws no more than 10000 points


def start(
    experiment: Experiment,
    kind: str,
    facts: Mapping[str, Any] | None = None,
    fold: int | None = None,
    made_from: Mapping[str, Any] | None = None,
) -> Any:
    """Start the tracked run of a kind; only a fold's has a fold in its config.

    Args:
        kind: `fold`, `cross-validation`, `submission` or `leaderboard`.
        facts: what the dashboard shows beside the config.
        fold: its number.
        made_from: what the fold's results depend on; other results are another run.
    """
    config = {**experiment.config, **(facts or {})}
    shown = {key: value for key, value in config.items() if key != "fold"} | ({} if fold is None else {"fold": fold})
    name = kind if fold is None else f"fold-{fold}"
    about = {
        "results": None if fold is None else experiment.fold_folder(fold),
        "made_from": made_from,
        "synthetic": is_synthetic(experiment.data),
    }
    return configs.build(config, "tracking").start(config["name"], kind, name, shown, experiment.folder, **about)


def tell_fold(run: Any, experiment: Experiment, fold: int, dice: np.ndarray, accuracy: float) -> None:
    """A fold's results.

    Args:
        run: the fold's.
        dice: of its validation images at threshold 0.5, `[N, C]`.
        accuracy: their mean pixel accuracy.
    """
    folder, classes = experiment.fold_folder(fold), experiment.data.classes
    per_class = dict(zip(classes, dice.mean(0).tolist(), strict=True))
    means = {"oof_dice": dice.mean(), "oof_miou": iou_of_dice(dice).mean(), "oof_pixel_accuracy": accuracy}
    run.summarise({f"{key}_at_half": float(value) for key, value in means.items()})
    run.summarise({"oof_dice_at_half_per_class": per_class, **chosen_weights(folder)})
    if run.active:
        run.summarise({**fold_costs.of_fold(folder), **fold_costs.of_model(experiment)})
    run.table("classes/dice", ["class", "dice"], [[name, value] for name, value in per_class.items()])
    run.bars("classes/bars", "Dice out of fold at threshold 0.5", per_class)


def chosen_weights(folder: Path) -> dict[str, Any]:
    """What a fold predicts with, and what it was chosen from, as flat values; empty where its weights do not say."""
    from bonepipe.training.weights_file import read_facts

    chosen = read_facts(folder / WEIGHTS).get("chosen", {})
    if not chosen:
        return {}
    rows = fold_costs.epoch_rows(folder)
    averaged = chosen["source"] == "average"
    epoch = int(rows[-1]["epoch"]) + 1 if averaged and rows else chosen["epoch"]  # an average ends with training
    told = {"chosen/source": chosen["source"], "chosen/dice": chosen["dice"], "chosen/epoch": epoch}
    if validated := [row for row in rows if "val/dice" in row]:
        best = max(validated, key=lambda row: row["val/dice"])
        told |= {"best/dice": best["val/dice"], "best/epoch": int(best["epoch"]) + 1}
    if chosen.get("average") is not None:
        told["average/dice"] = chosen["average"]
    return told


def tell_cross_validation(
    experiment: Experiment,
    choice: ThresholdChoice,
    pooled: "Pooled",
    scores: Mapping[str, Any],
    show: Callable[[Any], None],
    facts: Mapping[str, Any],
) -> None:
    """Everything that is known of all folds together.

    Args:
        choice: with the Dice of everything that was chosen.
        pooled: what it was chosen from.
        scores: as scores.json holds them.
        show: shows the run images with their masks.
        facts: what the dashboard shows beside the experiment's config.
    """
    folder, classes = experiment.folder, experiment.data.classes
    rows, by_fold = fold_rows(experiment, choice, pooled.folds), dice_by_fold(choice.dice, pooled.folds)
    numbers = np.stack([choice.dice.mean(0), choice.dice_at_half.mean(0), choice.thresholds, choice.gain], 1)
    heat_map = save_heat_map(experiment, by_fold)
    with start(experiment, "cross-validation", facts) as run:
        run.summarise({**flat(scores), **spread("miou", [row["miou"] for row in rows])})
        if run.active and any(experiment.folder.glob(f"fold-*/{WEIGHTS}")):  # not of an ensemble
            run.summarise({**fold_costs.of_all(rows), **fold_costs.of_model(experiment)})
        _classes(run, classes, numbers, by_fold)
        columns = list(dict.fromkeys(key for row in rows for key in row))
        run.table("folds/table", columns, [[row.get(key) for key in columns] for row in rows])
        _groups(run, scores)
        curves = dict(zip(classes, pooled.curves.mean(0)[:, SHOWN].tolist(), strict=True))
        run.lines("thresholds/curves", "Dice out of fold", ("threshold", THRESHOLDS[SHOWN].tolist()), curves)
        run.figure("thresholds/per class", folder / "thresholds.png")
        run.figure("classes/heat map", heat_map)
        show(run)
        # An ensemble may be made where its members' fold file is not.
        files = [path for path in (Path(experiment.folds.file), folder / SCORES) if path.is_file()]
        run.artifact(f"{experiment.config['name']}-cross-validation", "cross-validation", files)


def _classes(run: Any, classes: Sequence[str], numbers: np.ndarray, by_fold: Mapping[str, np.ndarray]) -> None:
    """The classes: what was chosen, and each fold's Dice."""
    rows = [[name, *row] for name, row in zip(classes, numbers.tolist(), strict=True)]
    run.table("classes/table", ["class", "oof_dice", "oof_dice_at_half", "threshold", "cross_fitted_gain"], rows)
    run.bars("classes/bars", "Dice out of fold", {name: row[0] for name, *row in rows})
    table = np.stack(list(by_fold.values()), 1).tolist()
    run.table("classes/by fold", ["class", *by_fold], [[name, *row] for name, row in zip(classes, table, strict=True)])


def _groups(run: Any, scores: Mapping[str, Any]) -> None:
    """Dice by size of the object and by stratum."""
    sizes, strata = scores["oof_dice_by_size"], scores.get("strata", {})
    run.table("sizes/table", ["size", "oof_dice"], [[size, dice] for size, dice in sizes.items()])
    run.bars("sizes/bars", "Dice out of fold by size of the object", sizes)
    if strata:
        columns = ["dice", "images", "share", "test_share"]
        rows = [[name, *(row[key] for key in columns)] for name, row in strata.items()]
        run.table("strata/table", ["stratum", "oof_dice", *columns[1:]], rows)
        known = {name: row["dice"] for name, row in strata.items() if row["dice"] is not None}
        run.bars("strata/bars", "Dice out of fold by stratum", known)


def dice_by_fold(dice: np.ndarray, folds: np.ndarray) -> dict[str, np.ndarray]:
    """Fold -> mean Dice of its images, `[C]`, from `[N, C]` and each image's fold `[N]`."""
    return {f"fold-{fold}": dice[folds == fold].mean(0) for fold in np.unique(folds)}


def save_heat_map(experiment: Experiment, by_fold: Mapping[str, np.ndarray]) -> Path:
    """Save folds.png."""
    from bonepipe.report import heat_map

    path = experiment.folder / "folds.png"
    with replacing(path) as part:
        heat_map.draw(experiment.data.classes, list(by_fold), np.stack(list(by_fold.values()))).savefig(part)
    return path


def fold_rows(experiment: Experiment, choice: ThresholdChoice, folds: np.ndarray) -> list[dict[str, Any]]:
    """A row a fold: scores, what it predicts with where it is this experiment's own, and what it cost."""
    rows = []
    for fold in np.unique(folds).tolist():
        here, folder = folds == fold, experiment.fold_folder(fold)
        own = (folder / WEIGHTS).is_file()  # not an ensemble's
        rows.append(
            {
                "fold": fold,
                "images": int(here.sum()),
                "dice": float(choice.dice[here].mean()),
                "dice_at_half": float(choice.dice_at_half[here].mean()),
                "miou": float(iou_of_dice(choice.dice[here].clip(0, 1)).mean()),
                **({**chosen_weights(folder), **fold_costs.of_fold(folder)} if own else {}),
            }
        )
    return rows


def spread(name: str, folds: Sequence[float]) -> dict[str, float]:
    """Mean and standard deviation over folds."""
    return {f"cv/{name}_mean": float(np.mean(folds)), f"cv/{name}_std": deviation(folds)}


def flat(scores: Mapping[str, Any]) -> dict[str, Any]:
    """The scores of scores.json for the table of runs: over folds, and recorded ones under names of their own."""
    told = {key: value for key, value in scores.items() if key != RECORD}
    for name, key in (("dice", "folds_chosen"), ("dice_at_half", "folds")):
        if key in scores:
            told |= spread(name, scores[key])
    recorded = scores.get(RECORD)
    return told | ({f"{RECORD}/{key}": value for key, value in recorded.items()} if isinstance(recorded, dict) else {})


def tell_submission(
    experiment: Experiment, files: Sequence[Path], scores: Mapping[str, Any], seconds: float | None
) -> None:
    """The submission, with the scores of both sides; `seconds` an image of all models and views, where measured."""
    with start(experiment, "submission") as run:
        run.summarise({**flat(scores), **({} if seconds is None else {"cost/submission_ms": 1e3 * seconds})})
        if test := scores.get("test_dice_per_class"):
            oof = scores.get("oof_dice_per_class", {})
            run.table("classes/test", ["class", "test_dice", "oof_dice"], [[c, d, oof.get(c)] for c, d in test.items()])
            run.bars("classes/test bars", "Dice of the test set", test)
        run.artifact(f"{experiment.config['name']}-submission", "submission", list(files))


def tell_leaderboard(folder: Path) -> None:
    """The scores of a folder once more, with those that people recorded; nothing where it was not cross-validated."""
    if not (folder / CONFIG).is_file():
        return
    try:
        experiment = Experiment(load_config(folder / CONFIG)).placed(folder)
        with start(experiment, "leaderboard") as run:
            run.summarise(flat(scores_of(folder)))
    except BonepipeError as error:  # the scores are recorded
        say(f"warning: the dashboard is not told ({error})")
