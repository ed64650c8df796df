"""Masks of all training images from image-level labels, written and scored."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bonepipe import config as configs
from bonepipe.data import submission
from bonepipe.errors import UsageError
from bonepipe.files import write_json
from bonepipe.pipeline.experiment import Experiment, say
from bonepipe.pipeline.predictors.run import refuse_region
from bonepipe.training.presence import CamSpec, classifier, train_presence
from bonepipe.training.weak_labels import WeakMasks, weak_masks


def make_masks(experiment: Experiment) -> tuple[Path, dict[str, object]]:
    """Train the classifier on the config's fold; write masks.csv and scores.json into its folder of the run's cam/.

    Returns:
        The file of masks, and the scores: mean Dice of the `training` and the `validation` images, and `per_class`.

    Raises:
        UsageError: settings that leave nothing to learn from.
    """
    config, fold = experiment.config, experiment.config["fold"]
    spec = configs.build(config, "cam")
    refuse_region(experiment)
    if config["data"].get("masks") is not None:
        raise UsageError("data.masks is set: image-level labels come from the annotations; set data.masks=null")
    if not 0 <= fold < experiment.folds.count:
        raise UsageError(f"fold={fold}: there are folds 0 to {experiment.folds.count - 1}")
    path = experiment.folder / "cam" / f"fold-{fold}" / "masks.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    masks = _weak_masks(experiment, fold, spec)
    rows = ((image.name, *row) for image in masks for row in zip(experiment.data.classes, image.texts, strict=True))
    submission.write(path, rows)
    scores = _scores(experiment, fold, masks)
    write_json(path.with_name("scores.json"), scores)
    return path, scores


def _weak_masks(experiment: Experiment, fold: int, spec: CamSpec) -> list[WeakMasks]:
    """Masks of all training images, in the order of the store."""
    data, store = experiment.data, experiment.cohort.store
    try:
        crop, model = spec.crop_shape(data.shape), classifier(len(data.classes), spec, experiment.config["seed"])
    except ValueError as error:
        raise UsageError(f"cam: {error}") from error
    training = experiment.cohort.indices(fold)[0]
    say(f"{len(training)} images to learn from, in crops of {crop[0]} x {crop[1]} pixels, device {experiment.device}")
    train_presence(
        model, store, training, experiment.augmentation, spec,
        shape=crop, mean=data.mean, std=data.std, seed=experiment.config["seed"], device=experiment.device,
    )  # fmt: skip
    masks = weak_masks(
        model, store, range(len(store.names)),
        mean=data.mean, std=data.std, crop=crop, threshold=spec.threshold, smooth=spec.smooth,
    )  # fmt: skip
    return list(masks)


def _scores(experiment: Experiment, fold: int, masks: Sequence[WeakMasks]) -> dict[str, object]:
    """Mean Dice of the images learned from and of the others, and a class, as far as the truth is known."""
    classes, (training, validation) = experiment.data.classes, experiment.cohort.indices(fold)
    dice = np.stack([image.dice for image in masks])
    for row, image in zip(dice, experiment.cohort.images, strict=True):
        row[[not image.knows(label) for label in classes]] = np.nan
    per_class = dict(zip(classes, np.nanmean(dice, 0).tolist(), strict=True))
    means = {"training": float(np.nanmean(dice[training])), "validation": float(np.nanmean(dice[validation]))}
    return {**means, "fold": fold, "per_class": per_class}
