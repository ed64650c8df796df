"""One fold, from its images to its out-of-fold predictions."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bonepipe import config as configs
from bonepipe import memory
from bonepipe.data.frame import aspects
from bonepipe.data.thumbnails import Usual
from bonepipe.errors import BonepipeError, UsageError
from bonepipe.outliving import outliving
from bonepipe.pipeline import fold_costs, idle_settings, tracked
from bonepipe.pipeline.experiment import Experiment, say, tell_versions
from bonepipe.pipeline.run_folder import CHECKPOINT, CONFIG, FINGERPRINT, METRICS, WEIGHTS, locked, save_config
from bonepipe.pipeline.steps import OUT_OF_FOLD, Steps

if TYPE_CHECKING:
    from bonepipe.data.datamodule import FoldDataModule


def run(experiment: Experiment, fold: int, words: Sequence[str] = (), after: int = 0) -> bool:
    """Train a fold unless it is trained, then predict its validation images unless that is done.

    Args:
        experiment: as composed; it need not be checked yet.
        fold: its number.
        words: the overrides that the experiment was composed from, to tell what it sets beside them.
        after: rounds of folds that follow, for the time that the run takes.

    Returns:
        Whether there was anything to do.

    Raises:
        UsageError: there is no such fold, or a setting makes no sense.
        BonepipeError: the fold was begun with other settings or files, or the data cannot be used.
    """
    count, steps = experiment.folds.count, Steps(experiment)
    if not 0 <= fold < count:
        raise UsageError(f"fold={fold}: there are folds 0 to {count - 1} (folds.count={count})")
    if steps.is_done(fold):
        _drop_checkpoint(experiment, fold)
        return False
    configs.check(experiment.config)
    steps.refuse_stale(fold)
    for line in (*outliving(words), *transfer_warnings(experiment)):
        say(line)
    data = _checked(experiment, fold)
    for line in idle_settings.warnings(experiment, len(data.split[0])):
        say(line)
    with locked(experiment.fold_folder(fold)):
        _run(experiment, steps, fold, data, after)
        _drop_checkpoint(experiment, fold)
    return True


def transfer_warnings(experiment: Experiment) -> list[str]:
    """What is odd about the way pretrained weights are used."""
    transfer = configs.build(experiment.config, "transfer")
    return transfer.check(experiment.config["model"].get("encoder_weights"), experiment.trainer.epochs)


def encoder_start(model: Mapping[str, Any]) -> str:
    """What the encoder of a new model starts from, by the model's settings."""
    name = model.get("encoder") or model.get("variant") or f"of {model['_target_'].rpartition('.')[2]}"
    weights = model.get("encoder_weights")
    start = "random weights (model.encoder_weights=null)" if weights is None else f"the pretrained weights {weights}"
    return f"encoder {name} starts from {start}"


def copy_notes(experiment: Experiment, fold: int) -> list[str]:
    """Which pictures are there twice, and what becomes of them."""
    copied, leaks = list(experiment.cohort.copied.items()), experiment.cohort.leaks(fold)
    notes = []
    if copied:
        notes.append(
            f"{len(copied)} external or pseudo-labelled images show the same pictures as the dataset's own and are "
            f"left out ({_pairs(copied)})"
        )
    if leaks:
        count = len({name for name, _ in leaks})  # an image may be there more than twice
        notes.append(
            f"warning: {count} images that fold {fold} is validated on show the same pictures as images that it is "
            f"trained on ({_pairs(leaks)}), so its out-of-fold Dice will look too good; see `bonepipe doctor`"
        )
    return notes


def _pairs(names: Sequence[tuple[str, str]], most: int = 3) -> str:
    """The first pairs of names."""
    return ", ".join([*(f"{a} = {b}" for a, b in names[:most]), *["..."][: len(names) > most]])


def _checked(experiment: Experiment, fold: int) -> "FoldDataModule":
    """The fold's data, all settings tried before anything is written: what is refused leaves no run behind."""
    folder, data = experiment.fold_folder(fold), experiment.datamodule(fold)
    training, validation = data.split
    for indices, purpose in ((training, "train"), (validation, "validate")):
        if not indices:
            causes = "data.corrections that drop it, data.region that it does not show, trainer.fraction"
            raise BonepipeError(f"fold {fold}: no image is left to {purpose} on; what leaves one out: {causes}")
    if experiment.data.region is not None and (lacking := experiment.cohort.store.lacking()):
        names = ", ".join(experiment.cohort.images[index].name for index in lacking[:3])
        say(f"{len(lacking)} images show none of data.region.classes and are left out ({names}, ...)")
    say(f"{folder}: {len(training)} images to train on, {len(validation)} to validate on, device {experiment.device}")
    if draws := experiment.cohort.describe_draws(training, data.sampling):
        say(f"sampler: {draws}; sampler.floor={data.sampling.floor:g}, sampler.cap={data.sampling.cap:g}")
    for group in ("loss", "mixing", "tracking"):
        configs.build(experiment.config, group)
    experiment.views.check(experiment.augmentation.shows, "augment")
    _ = experiment.cohort.store, experiment.windows, experiment.postprocess
    for note in copy_notes(experiment, fold):
        say(note)
    return data


def _run(experiment: Experiment, steps: Steps, fold: int, data: "FoldDataModule", after: int) -> None:
    config, folder = experiment.config, experiment.fold_folder(fold)
    step = steps.training(fold)
    begins = step.recorded is None
    if begins:
        step.record()
        save_config(config, folder)
    else:
        tell_versions(experiment, [fold])
    with tracked.start(experiment, "fold", fold=fold, made_from=step.inputs) as run:
        try:
            trained = (folder / WEIGHTS).is_file()
            if trained or (folder / CHECKPOINT).is_file():
                run.earlier_epochs(folder / METRICS, complete=trained)
            if not trained:
                with memory.explained(memory.TRAINING):
                    _train(experiment, fold, data, run, after)
            if step.damage():  # of a fold that is only predicted again, it stays noted what trained it
                step.record()
            with memory.explained(memory.PREDICTION):
                _predict(experiment, fold, run)
        except BonepipeError:
            _withdraw(experiment, fold)
            raise


def _drop_checkpoint(experiment: Experiment, fold: int) -> None:
    """Remove what a training goes on from once its fold is done: it is large, and other settings refuse to go on."""
    with contextlib.suppress(OSError):
        (experiment.fold_folder(fold) / CHECKPOINT).unlink(missing_ok=True)


def _withdraw(experiment: Experiment, fold: int) -> None:
    """Forget a fold that was refused before anything was learned: mended settings must not meet the refused ones."""
    folder = experiment.fold_folder(fold)
    if not (folder / CHECKPOINT).is_file() and not (folder / WEIGHTS).is_file():
        for name in (CONFIG, FINGERPRINT):
            (folder / name).unlink(missing_ok=True)


def _train(experiment: Experiment, fold: int, data: "FoldDataModule", run: Any, after: int) -> None:
    from bonepipe.pipeline.predictors.unlike import FACT
    from bonepipe.training.fit import save_weights, train_fold
    from bonepipe.training.progress import Progress

    folder, recipe = experiment.fold_folder(fold), experiment.augmentation
    resumed = (folder / CHECKPOINT).is_file()
    start = f"goes on from {CHECKPOINT}" if resumed else encoder_start(experiment.config["model"])
    say(f"{folder}: {start}")
    facts: dict[str, Any] = {"classes": experiment.data.classes, "fold": fold}
    facts |= {"augmentations": recipe.names, "seen": recipe.shows}
    facts[FACT] = Usual.of(data.cohort.store.thumbnails[data.split[0]]).plain()
    module = experiment.module(fold, pretrained=not resumed)
    if experiment.data.region is None:
        facts["aspects"] = aspects(data.cohort.store.shape(index) for index in data.split[0])
    averaging, transfer = (configs.build(experiment.config, group) for group in ("averaging", "transfer"))
    chosen = train_fold(
        module,
        data,
        averaging,
        experiment.trainer,
        device=experiment.device,
        folder=folder,
        title=f"fold {fold}",
        progress=Progress(f"fold {fold + 1}/{experiment.folds.count} (fold={fold})", after),
        run=run,
        transfer=transfer,
        facts=facts,
    )
    fold_costs.note(folder, device=experiment.device, peak_memory=memory.peak(experiment.device) or None)
    say(f"fold {fold}: predicts with {chosen}")
    save_weights(module.model, folder / WEIGHTS, {**facts, "chosen": vars(chosen)})


def _predict(experiment: Experiment, fold: int, run: Any) -> None:
    """Predict all of the fold's validation images, with and without the CRF where there is one."""
    from torch.utils.data import Subset

    from bonepipe.inference.oof.predict import Validation, predict_fold
    from bonepipe.inference.postprocess import crf_choice
    from bonepipe.inference.predict import TestImages

    cohort, data, folder = experiment.cohort, experiment.data, experiment.fold_folder(fold)
    predict = fold_costs.Stopwatch(experiment.average([experiment.fold_model(fold)]))
    crf = experiment.postprocess.crf
    crf_choice.clear(folder)
    indices = cohort.indices(fold)[1]
    frame, spec = experiment.windows.frame, experiment.prediction
    # The store holds the size of training; for another one the files are read again.
    images = None if frame == data.frame else Subset(TestImages(cohort.images, frame), indices)
    validation = Validation(
        cohort.store, indices, data.classes, folder, spec.batch_size, spec.ahead, images, frame, spec.workers
    )
    if crf is None:
        dice = predict_fold(predict, validation)
    else:
        plain, dice = crf_choice.predict_fold_with_crf(predict, crf, validation)
        say(f"fold {fold}: out-of-fold Dice {plain.mean():.4f} at threshold 0.5 without the CRF")
    fold_costs.note(folder, seconds_an_image=predict.seconds_an_image)
    save_config(experiment.config, folder)
    Steps(experiment).out_of_fold(fold).record()
    _report(experiment, fold, indices, dice, run)


def _report(experiment: Experiment, fold: int, validation: Sequence[int], dice: np.ndarray, run: Any) -> None:
    """Tell the user and the dashboard how the fold went."""
    from bonepipe.inference.oof.results import MASKS, mean_pixel_accuracy
    from bonepipe.pipeline.showing import show
    from bonepipe.report.examples import extremes

    folder, store = experiment.fold_folder(fold), experiment.cohort.store
    say(f"fold {fold}: out-of-fold Dice {dice.mean():.4f} at threshold 0.5, {len(experiment.views)} view(s)")
    accuracy = mean_pixel_accuracy([folder / MASKS], store, [store.names[index] for index in validation])
    tracked.tell_fold(run, experiment, fold, dice, accuracy)
    shown = {title: validation[position] for title, position in extremes(dice.mean(1)).items()}
    show(run, experiment, shown, lambda _: folder / MASKS)
    files = [folder / name for name in (CONFIG, WEIGHTS, METRICS, *OUT_OF_FOLD)]
    run.artifact(f"{experiment.config['name']}-fold-{fold}", "fold", files)
