"""`bonepipe cam fold=K`: masks from image-level labels, by class activation maps."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bonepipe import config as configs
from bonepipe.errors import UsageError
from bonepipe.files import write_json
from bonepipe.pipeline.experiment import Experiment, parse, refuse_region, say

if TYPE_CHECKING:
    from bonepipe.training.presence import CamSpec
    from bonepipe.training.weak_labels import WeakMasks

HELP = """usage: bonepipe cam fold=K [cam.KEY=VALUE] [OVERRIDES]

Weak supervision: train a classifier to tell which bones random crops of the fold's training images show, which is all
that it learns of the annotations, then turn its class activation maps into masks of all training images. Writes
runs/NAME/cam/masks.csv (image_name,class,rle) and runs/NAME/cam/scores.json (Dice against the truth). A segmentation
model is trained on these masks, and validated against the truth, with:
  bonepipe train fold=K experiment=EXPERIMENT name=NAME-weak data.masks=runs/NAME/cam/masks.csv
The classifier has not seen the images that fold K validates; other folds' validation images it has.

Settings (default):
  cam.encoder, cam.encoder_weights, cam.stride   network (resnet18, null, 8)
  cam.steps, cam.batch_size, cam.lr              training (600, 16, 2e-3)
  cam.crop        side of the crops, a share of the image's (0.4)
  cam.share       a class counts as shown when the crop holds this share of its pixels (0.5)
  cam.threshold   a mask is where the normalised map reaches this (0.5)
  cam.smooth      deviation of a Gaussian over the maps, pixels (0)

example: bonepipe cam experiment=demo fold=0 cam.steps=1000"""

TARGET = "bonepipe.training.presence.CamSpec"


def main(arguments: Sequence[str]) -> int:
    """Train the classifier, write and score the masks."""
    config = parse([word for word in arguments if not word.startswith("cam.")], HELP)
    if config is None:
        return 0
    from bonepipe.data import submission

    spec = configs.command_settings(arguments, "cam", TARGET)
    experiment, fold = Experiment(config), config["fold"]
    refuse_region(experiment)
    if config["data"].get("masks") is not None:
        raise UsageError("data.masks is set: image-level labels come from the annotations; set data.masks=null")
    if not 0 <= fold < experiment.folds.count:
        raise UsageError(f"fold={fold}: there are folds 0 to {experiment.folds.count - 1}")
    found = _weak_masks(experiment, fold, spec)
    folder = experiment.folder / "cam"
    folder.mkdir(parents=True, exist_ok=True)
    rows = ((one.name, *row) for one in found for row in zip(experiment.data.classes, one.texts, strict=True))
    submission.write(folder / "masks.csv", rows)
    scores = _scores(experiment, fold, found)
    write_json(folder / "scores.json", scores)
    print(f"{folder / 'masks.csv'}: Dice {scores['training']:.4f} on the images that the classifier learned from, "
          f"{scores['validation']:.4f} on the others")  # fmt: skip
    print(f"train on them with: fold={fold} name={config['name']}-weak data.masks={folder / 'masks.csv'}")
    return 0


def _weak_masks(experiment: Experiment, fold: int, spec: "CamSpec") -> "list[WeakMasks]":
    """Masks of all training images, in the order of the store."""
    from bonepipe.training.presence import classifier, train_presence
    from bonepipe.training.weak_labels import weak_masks

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


def _scores(experiment: Experiment, fold: int, found: "Sequence[WeakMasks]") -> dict[str, object]:
    """Mean Dice of the images learned from and of the others, and a class, as far as the truth is known."""
    classes, (training, validation) = experiment.data.classes, experiment.cohort.indices(fold)
    dice = np.stack([one.dice for one in found])
    for row, image in zip(dice, experiment.cohort.images, strict=True):
        row[[not image.knows(label) for label in classes]] = np.nan
    per_class = dict(zip(classes, np.nanmean(dice, 0).tolist(), strict=True))
    means = {"training": float(np.nanmean(dice[training])), "validation": float(np.nanmean(dice[validation]))}
    return {**means, "fold": fold, "per_class": per_class}
