"""A run's folder as the viewer finds it, made without any training: masks near the truth, and candidates."""

import numpy as np

from bonepipe import config as configs
from bonepipe.data import submission
from bonepipe.data.annotation import read_annotation
from bonepipe.data.catalog import train_images
from bonepipe.data.image import read_shape
from bonepipe.data.review import CANDIDATES
from bonepipe.files import write_csv
from bonepipe.labels import polygon, rle
from bonepipe.labels.cutout import to_mask

PAIR = ("finger-1", "finger-2")


def settings(root, folder):
    return [
        "experiment=demo", f"data.root={root}", "data.size=64", "folds.count=2", f"folds.file={folder / 'folds.csv'}",
        f"runs={folder / 'runs'}", "tracking=none", "device=cpu",
    ]  # fmt: skip


def truth_of(image, classes):
    """The annotated mask bool [H, W] of each class."""
    polygons, shape = read_annotation(image.annotation, classes), read_shape(image.path)
    return {
        label: to_mask(polygon.cutout([points for index, points in polygons if index == number], shape), shape)
        for number, label in enumerate(classes)
    }


def make_run(root, folder, name="demo", shift=1):
    """Write runs/NAME with two folds whose masks are the true ones, each moved further right than the one before."""
    config = {**configs.compose([*settings(root, folder), f"name={name}"], checked=False)}
    spec, run = configs.build(config, "data"), folder / "runs" / name
    images = train_images(spec)
    for fold in (0, 1):
        masks, scores = [], []
        for number in range(fold, len(images), 2):
            image, moved = images[number], shift + number % 7
            for label, mask in truth_of(image, spec.classes).items():
                predicted = np.roll(mask, moved, axis=1)
                masks.append((image.name, label, rle.encode(predicted)))
                scores.append((image.name, label, round(rle.dice(masks[-1][2], rle.encode(mask)), 6)))
        place = run / f"fold-{fold}"
        configs.save({**config, "fold": fold}, place / "config.yaml")
        submission.write(place / "oof.csv", masks)
        write_csv(place / "oof_dice.csv", ["image_name", "class", "dice"], scores)
    return run


def add_candidates(run, images):
    """Write three candidates: two permuted labels, a bone that is not drawn, and a low Dice to look at."""
    first, second, third = images[:3]
    rows = [
        (
            1,
            first.name,
            first.patient,
            "; ".join(PAIR),
            "; ".join(PAIR[::-1]),
            "permuted",
            "0.97",
            "permute",
            "swapped",
        ),
        (2, second.name, second.patient, "Radius", "", "missing", "0.91", "replace", "not drawn"),
        (3, third.name, third.patient, "Ulna", "", "low", "0.31", "look", "Dice 0.40 where 0.90 is usual"),
    ]
    write_csv(run / "label_errors.csv", CANDIDATES, rows)
