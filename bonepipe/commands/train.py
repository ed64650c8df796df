"""`bonepipe train fold=K`: one fold, to its out-of-fold predictions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bonepipe import config as configs
from bonepipe.commands import inputs
from bonepipe.data.folds import take_patients
from bonepipe.errors import BonepipeError, UsageError
from bonepipe.pipeline.experiment import (
    HARMLESS,
    PREDICTION,
    Experiment,
    parse,
    prediction_settings,
    refuse_other_settings,
    say,
    seed_everything,
)

HELP = """usage: bonepipe train fold=K [OVERRIDES]

Train one fold and predict its validation images. What is finished is not done again; what was interrupted goes on
from its last checkpoint. Results: runs/NAME/fold-K/.

example: bonepipe train experiment=demo fold=0"""

RESULTS = (
    "config.yaml",
    "weights.safetensors",
    "metrics.csv",
    "oof.csv",
    "oof_dice.csv",
    "histograms.npz",
    "probabilities.npz",
)


def main(arguments: Sequence[str]) -> int:
    """Train a fold unless it is trained, then predict its validation images unless that is done."""
    config = parse(arguments, HELP)
    if config is None:
        return 0
    experiment = Experiment(config)
    spec = configs.build(config, "trainer")
    for warning in configs.build(config, "transfer").check(config["model"].get("encoder_weights"), spec.epochs):
        say(warning)
    fold, count = config["fold"], experiment.folds.count
    if not 0 <= fold < count:
        raise UsageError(f"fold={fold}: there are folds 0 to {count - 1} (folds.count={count})")
    folder = experiment.fold_folder(fold)
    refuse_other_settings(folder / "config.yaml", config, [*HARMLESS, *PREDICTION])
    inputs.refuse_changed(experiment, fold)
    if is_done(experiment, fold):
        say(f"{folder}: done already")
        return 0
    run_fold(experiment, fold)
    return 0


def is_done(experiment: Experiment, fold: int) -> bool:
    """Whether a fold is trained and predicted, in the way that is asked for now."""
    folder = experiment.fold_folder(fold)
    if not all((folder / name).is_file() for name in RESULTS):
        return False
    if experiment.postprocess.crf is not None and not _holds_variants(folder):
        return False
    then, now = map(prediction_settings, (configs.load(folder / "config.yaml"), experiment.config))
    return not configs.differences(then, now)


def _holds_variants(folder: Path) -> bool:
    """Whether a fold was predicted both with and without the CRF."""
    from bonepipe.inference.postprocess import crf_choice

    return crf_choice.complete(folder)


def run_fold(experiment: Experiment, fold: int) -> None:
    """Steps 3 to 7 of a radiograph's walk, for one fold."""
    config, folder = experiment.config, experiment.fold_folder(fold)
    training, validation = experiment.indices(fold)
    training = _fraction(experiment, training)
    if experiment.data.region is not None and (lacking := experiment.store.lacking()):
        names = ", ".join(experiment.images[index].name for index in lacking[:3])
        say(f"{len(lacking)} images show none of data.region.classes and are left out ({names}, ...)")
    say(f"{folder}: {len(training)} images to train on, {len(validation)} to validate on, device {experiment.device}")
    # Before anything is written: a value that is refused leaves no run behind that was begun with it.
    for group in ("loss", "mixing"):
        configs.build(config, group)
    # Before the tracking starts, so that a fault in the data or in the way to predict costs nothing.
    experiment.views.check(experiment.augmentation.shows, "augment")
    _ = experiment.store, experiment.windows, experiment.postprocess
    begins = not (folder / "config.yaml").exists()
    if begins:
        folder.mkdir(parents=True, exist_ok=True)
        inputs.record(experiment, fold)
        configs.save(config, folder / "config.yaml")
    tracking = configs.build(config, "tracking")
    run = tracking.start(config["name"], "fold", f"fold-{fold}", config, experiment.folder)
    try:
        if not (folder / "weights.safetensors").is_file():
            if (folder / "last.ckpt").is_file():
                say(f"{folder}: goes on from last.ckpt")
            _train(experiment, fold, training, validation, run)
        _predict(experiment, fold, validation, run)
    except BonepipeError:
        if begins:
            _withdraw(folder)
        raise
    finally:
        run.finish()


def _withdraw(folder: Path) -> None:
    """Forget a fold that was refused before anything was learned: mended settings must not meet the refused ones."""
    if not (folder / "last.ckpt").is_file():
        for name in ("config.yaml", inputs.FILE):
            (folder / name).unlink(missing_ok=True)


def _fraction(experiment: Experiment, training: list[int]) -> list[int]:
    """The images of the share of patients that the trainer asks for."""
    patients = [experiment.images[index].patient for index in training]
    fraction = configs.build(experiment.config, "trainer").fraction
    return [training[position] for position in take_patients(patients, fraction, experiment.config["seed"])]


def _train(experiment: Experiment, fold: int, training: list[int], validation: list[int], run: Any) -> None:
    from bonepipe.training.fit import save_weights, train_fold

    config, folder = experiment.config, experiment.fold_folder(fold)
    seed_everything(config["seed"])
    spec = configs.build(config, "trainer")
    averaging = configs.build(config, "averaging")
    if spec.overfit_batches is not None:
        training = validation = training[: spec.overfit_batches * spec.batch_size]
    hold = averaging.hold_step(spec.epochs, spec.steps_per_epoch(len(training)))
    data = make_data(experiment, training, validation, spec)
    module = make_module(experiment, hold, spec.compile)
    recipe = experiment.augmentation
    facts = {"classes": experiment.data.classes, "augmentations": recipe.names, "seen": recipe.shows, "fold": fold}
    chosen = train_fold(
        module,
        data,
        averaging,
        spec,
        device=experiment.device,
        folder=folder,
        title=f"fold {fold}",
        run=run,
        transfer=configs.build(config, "transfer"),
        facts=facts,
    )
    say(f"fold {fold}: predicts with its {chosen.source} ({chosen.epoch}), Dice {chosen.dice:.4f} without views")
    save_weights(module.model, folder / "weights.safetensors", {**facts, "chosen": vars(chosen)})


def make_data(experiment: Experiment, training: list[int], validation: list[int], spec: Any) -> Any:
    """The batches of a fold, from store indices and the trainer's settings."""
    from bonepipe.data.datamodule import FoldData

    config = experiment.config
    return FoldData(
        experiment.store,
        training,
        validation,
        experiment.augmentation,
        batch_size=spec.batch_size,
        workers=spec.workers,
        seed=config["seed"],
        weights=experiment.draw_weights(training),
        foreground=configs.build(config, "sampler").foreground,
        pixel_weights=configs.build(config, "loss").pixel_weights(len(experiment.data.classes)),
        fixed=spec.overfit_batches is not None,
        shares=experiment.shares,
    )


def make_module(experiment: Experiment, hold: int | None, compiled: bool) -> Any:
    """The Lightning module of an experiment; `hold` is the step from which averaging keeps the learning rate."""
    from bonepipe.training.module import SegmentationModule

    config, data = experiment.config, experiment.data
    return SegmentationModule(
        experiment.model(),
        configs.build(config, "loss"),
        lambda model: configs.build(config, "optimizer", model),
        lambda optimizer, steps: configs.build(config, "scheduler", optimizer, steps, hold),
        store=experiment.store,
        classes=data.classes,
        mean=data.mean,
        std=data.std,
        seed=config["seed"],
        compiled=compiled,
        mixing=configs.build(config, "mixing"),
    )


def _predict(experiment: Experiment, fold: int, validation: list[int], run: Any) -> None:
    from torch.utils.data import Subset

    from bonepipe.inference.oof.predict import predict_fold
    from bonepipe.inference.postprocess import crf_choice
    from bonepipe.inference.predict import TestImages

    config, data, folder = experiment.config, experiment.data, experiment.fold_folder(fold)
    predict, crf = experiment.average([experiment.member(fold)]), experiment.postprocess.crf
    (folder / "oof_dice.csv").unlink(missing_ok=True)  # its presence says that the files belong together
    crf_choice.clear(folder)
    spec = configs.build(config, "prediction")
    shape = experiment.windows.shape
    # The store holds the size of training; for another one the files are read again.
    images = None if shape == data.shape else Subset(TestImages(experiment.images, shape), validation)
    settings = (experiment.store, validation, data.classes, folder, spec.batch_size, spec.ahead, images)
    if crf is None:
        dice = predict_fold(predict, *settings)
    else:
        plain, dice = crf_choice.predict_fold_with_crf(predict, crf, *settings)
        say(f"fold {fold}: out-of-fold Dice {plain.mean():.4f} at threshold 0.5 without the CRF")
    configs.save(config, folder / "config.yaml")
    _report(experiment, fold, validation, dice, run)


def _report(experiment: Experiment, fold: int, validation: list[int], dice: np.ndarray, run: Any) -> None:
    """Tell the user and the dashboard how the fold went."""
    from bonepipe.report.examples import extremes, read_masks
    from bonepipe.report.overlay import label_map

    data, folder, store = experiment.data, experiment.fold_folder(fold), experiment.store
    say(f"fold {fold}: out-of-fold Dice {dice.mean():.4f} at threshold 0.5, {len(experiment.views)} view(s)")
    per_class = dict(zip(data.classes, dice.mean(0).tolist(), strict=True))
    run.summarise({"oof_dice": float(dice.mean()), "oof_dice_per_class": per_class})
    run.table("dice per class", ["class", "dice"], [[name, value] for name, value in per_class.items()])
    shown = {title: validation[position] for title, position in extremes(dice.mean(1)).items()}
    shapes = {store.names[index]: store.shape(index) for index in shown.values()}
    predicted = read_masks(folder / "oof.csv", shapes)
    for title, index in shown.items():
        layers = {"truth": store.truth(index), "prediction": predicted[store.names[index]]}
        maps = {key: label_map(masks, store.shape(index), data.shape) for key, masks in layers.items()}
        run.overlay(f"{title} image", np.array(store.images[index]), maps, list(data.classes))
    run.artifact(f"{experiment.config['name']}-fold-{fold}", "fold", [folder / name for name in RESULTS])
