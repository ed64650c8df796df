"""`bonepipe secondlook FIRST_RUN SECOND_RUN`: the masks of one run, mended where another run looks closely."""

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from tqdm import tqdm

from bonepipe import config as configs
from bonepipe.commands import train_all
from bonepipe.commands.experiment import Experiment, say
from bonepipe.commands.handover import hand_over
from bonepipe.commands.predictor import make_predict, make_refine, require_finished, require_folds, voting_folds
from bonepipe.data.catalog import Radiograph, test_images
from bonepipe.data.image import read_grey, resize_grey
from bonepipe.data.region import iou
from bonepipe.errors import BonepipeError, UsageError
from bonepipe.files import write_json
from bonepipe.inference import compact, thresholds
from bonepipe.inference.outoffold import read_curves
from bonepipe.inference.overlap import overlapped
from bonepipe.labels.cutout import hull
from bonepipe.labels.histogram import dice_curve
from bonepipe.report.comparison import read_run

if TYPE_CHECKING:
    from bonepipe.inference.outoffold import Predict
    from bonepipe.inference.secondlook import Chosen, Look

EPILOG = """\
The first run sees whole images. The second sees only the region of some classes, at a finer resolution: an ordinary run
with data.region set, trained on the same folds (experiment=wrist is one). The box of the region is found by the first.

Out of fold, each fold's second model looks at the box that the first run's out-of-fold probabilities predict. Inside
it a class's probability becomes (1 - w) first + w second. w is one of 0, 0.25, 0.5, 0.75, 1 a class, judged by Dice at
threshold 0.5, and stays 0 unless weights chosen on other folds gain more than --margin standard errors. Then
come thresholds, one a class, and the test images. Settings of prediction (views, margin, batch size, post-processing)
are those of the runs.

writes into OUT: secondlook.json (weights and gains), thresholds.json, scores.json, submission.csv

example:
  bonepipe train-all experiment=demo
  bonepipe train-all experiment=wrist
  bonepipe secondlook runs/demo runs/wrist -o runs/demo-wrist
"""


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    result = argparse.ArgumentParser(
        "bonepipe secondlook",
        description="Look again, closely, where a first run has found the region of some classes.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("first", metavar="FIRST_RUN", type=Path, help="a finished run that sees whole images")
    result.add_argument("second", metavar="SECOND_RUN", type=Path, help="a finished run with data.region set")
    result.add_argument(
        "-o", "--output", metavar="OUT", type=Path, help="the folder to write; FIRST_RUN-SECOND if not given"
    )
    result.add_argument(
        "--margin", type=float, metavar="SE", help="standard errors that a weight or threshold must gain (FIRST_RUN's)"
    )
    return result


def main(argv: list[str]) -> int:
    """Weights and thresholds out of fold, then the test images."""
    arguments = parser().parse_args(argv)
    out: Path = arguments.output or arguments.first.with_name(f"{arguments.first.name}-{arguments.second.name}")
    first, second = FirstStage(open_run(arguments.first)), open_run(arguments.second)
    _check_pair(first.experiment, second, out)
    if configs.build(first.experiment.config, "ensemble").thresholds_by is not None:
        say(f"{arguments.first}: has thresholds by stratum; the blend gets one a class")
    result = Experiment({**first.experiment.config, "runs": str(out.parent), "name": out.name})
    found = out_of_fold(first, second, range(first.experiment.folds.count))
    margin = configs.build(result.config, "ensemble").margin if arguments.margin is None else arguments.margin
    weights = _decide(first, second, result, found, margin)
    images = test_images(result.data)
    hand_over(result, images, _masks(first, second, result, images, weights), ["secondlook.json"])
    return 0


def open_run(folder: Path) -> Experiment:
    """The experiment of a run's folder, wherever it lies now. Raises BonepipeError where there is none."""
    paths = sorted(folder.glob("fold-*/config.yaml"))
    if not paths:
        raise BonepipeError(f"{folder}: no run here (no fold-*/config.yaml); name the folder of a run, runs/NAME")
    return Experiment({**configs.load(paths[0]), "runs": str(folder.parent), "name": folder.name})


@dataclass(frozen=True)
class FirstStage:
    """What a second look needs of whatever sees the whole images.

    Attributes:
        experiment: a finished run.
    """

    experiment: Experiment

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images that `predict` takes."""
        return self.experiment.windows.shape

    def out_of_fold(self, fold: int) -> compact.Compact:
        """Probabilities of a fold's validation images, by models that never saw them."""
        return compact.read(self._file(fold, "probabilities.npz"), self.experiment.data.classes)

    def curves(self, fold: int) -> tuple[list[str], np.ndarray]:
        """Names of the same images, and their Dice `[N, C, 256]` at all thresholds."""
        return read_curves(self._file(fold, "histograms.npz"), self.experiment.data.classes)

    def predict(self) -> "Predict":
        """The function from new images, grey bytes `[N, *size]`, to probabilities `[N, C, h, w]`."""
        return make_predict(self.experiment)

    def _file(self, fold: int, name: str) -> Path:
        return self.experiment.fold_folder(fold) / name


def _check_pair(first: Experiment, second: Experiment, out: Path) -> None:
    """Raise UsageError where the runs do not belong together, BonepipeError where one is not finished."""
    if second.data.region is None:
        raise UsageError(f"{second.folder}: sees whole images; the second run needs data.region (see experiment=wrist)")
    for label in second.data.region.classes:
        if label not in first.data.classes:
            raise UsageError(f"{second.folder}: looks for {label}, which {first.folder} does not know")
    if out in (first.folder, second.folder):
        raise UsageError(f"--output {out}: holds one of the two runs; name a folder of its own")
    require_finished(first)
    require_folds(second)
    for name, fold in first.assignment.items():
        other = second.assignment.get(name)
        if other != fold:
            raise UsageError(
                f"{second.folder}: {name} validates fold {other} there and fold {fold} in {first.folder}; train it "
                f"with folds.file={first.folds.file}"
            )


def region_labels(first: Experiment, second: Experiment) -> dict[int, int]:
    """The region's classes: index in the first run -> index in the second."""
    return {first.data.classes.index(name): second.data.classes.index(name) for name in _region_names(second)}


def _region_names(second: Experiment) -> tuple[str, ...]:
    assert second.data.region is not None
    return second.data.region.classes


class OutOfFold(NamedTuple):
    """What is known of N images before anything is chosen; R classes are those of the region.

    Attributes:
        names, folds: of the images; folds is int `[N]`.
        plain: Dice of the first stage, `[N, C, 256]`, at all thresholds.
        mixed: Dice of the mixtures, `[N, K, R, 256]`, the first stage alone in front.
        overlaps: IoU of predicted and true box; NaN where one of them is missing.
    """

    names: list[str]
    folds: np.ndarray
    plain: np.ndarray
    mixed: np.ndarray
    overlaps: np.ndarray


def out_of_fold(first: FirstStage, second: Experiment, folds: Iterable[int]) -> OutOfFold:
    """Look at the validation images of these folds with the second model that never saw them."""
    names: list[str] = []
    numbers, plain, mixed, overlaps = [], [], [], []
    for fold in folds:
        here, curves = first.curves(fold)
        names += here
        numbers += [fold] * len(here)
        plain.append(curves)
        labels = region_labels(first.experiment, second)
        for position, (blends, overlap) in enumerate(_look_at_fold(first, second, fold, here)):
            blends[0] = curves[position, list(labels)]  # exact, where the stored bytes are rounded
            mixed.append(blends)
            overlaps.append(overlap)
    return OutOfFold(names, np.array(numbers), np.concatenate(plain), np.stack(mixed), np.array(overlaps))


def _look_at_fold(
    first: FirstStage, second: Experiment, fold: int, names: Sequence[str]
) -> Iterator[tuple[np.ndarray, float]]:
    """Each image's Dice `[K, R, 256]` of the mixtures, and the IoU of its box."""
    from bonepipe.inference.secondlook import WEIGHTS, find, pair

    whole, store = first.out_of_fold(fold), first.experiment.store
    labels = region_labels(first.experiment, second)
    index = {name: number for number, name in enumerate(store.names)}
    images = [first.experiment.images[index[name]] for name in names]
    places = {name: position for position, name in enumerate(whole.names)}
    predict = second.predictor([second.member(fold)])

    def compare(item: tuple[Radiograph, np.ndarray, np.ndarray, "Look | None"]) -> tuple[np.ndarray, float]:
        image, grey, maps, seen = item
        truth, shape = store.truth(index[image.name]), (grey.shape[0], grey.shape[1])
        pairs = [pair(maps[label], seen, own, shape) for label, own in labels.items()]
        counts = [one.histograms(WEIGHTS, truth[label]) for one, label in zip(pairs, labels, strict=True)]
        true, box = hull(truth[label].box for label in labels), find(maps[list(labels)], shape)
        overlap = iou(true, box) if true.height and box else np.nan
        return dice_curve(np.stack(counts, axis=1)), overlap

    maps = (whole.maps(places[name]) for name in names)
    greys = overlapped(_grey, images, _batch_size(second))
    seen = _looks(predict, second, list(labels), zip(images, greys, maps, strict=True))
    work = overlapped(compare, seen, 2)
    yield from tqdm(work, f"second look, fold {fold}", len(names), unit="image")


def _grey(image: Radiograph) -> np.ndarray:
    return read_grey(image.path)


def _batch_size(second: Experiment) -> int:
    """Images a forward pass of the second look."""
    return int(configs.build(second.config, "ensemble").batch_size)


def _looks(
    predict: "Predict",
    second: Experiment,
    labels: Sequence[int],
    items: Iterable[tuple[Radiograph, np.ndarray, np.ndarray]],
) -> "Iterator[tuple[Radiograph, np.ndarray, np.ndarray, Look | None]]":
    """Add the second look to (image, grey bytes, first stage's maps), a batch at a time.

    `labels` are the region's classes in these maps.
    """
    from bonepipe.inference.secondlook import look

    data = second.data
    assert data.region is not None
    for batch in _batches(items, _batch_size(second)):
        seen = look(predict, data.region, labels, data.shape, [(grey, maps) for _, grey, maps in batch])
        yield from ((*item, one) for item, one in zip(batch, seen, strict=True))


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def _decide(first: FirstStage, second: Experiment, result: Experiment, found: OutOfFold, margin: float) -> np.ndarray:
    """Choose weights and thresholds, write and print them; the weight of each class, `[C]`."""
    from bonepipe.inference.secondlook import WEIGHTS, choose

    labels, classes = list(region_labels(first.experiment, second)), first.experiment.data.classes
    chosen = choose(found.mixed[..., thresholds.HALF], found.folds, margin)
    curves = found.plain.copy()
    curves[:, labels] = np.take_along_axis(found.mixed, chosen.index[None, None, :, None], 1)[:, 0]
    choice = thresholds.choose(curves, found.folds, margin)
    weighted = train_all.weighted_scores(first.experiment, found.names, choice.dice.mean(1))
    scores = thresholds.summary(classes, choice, found.folds) | weighted
    record = {
        "first": str(first.experiment.folder),
        "second": str(second.folder),
        "classes": _class_rows(second, found, chosen),
        "box": _box_facts(second, found),
    }
    result.folder.mkdir(parents=True, exist_ok=True)
    thresholds.write(result.folder / "thresholds.json", classes, choice, _kept_operations(first.experiment))
    write_json(result.folder / "scores.json", scores)
    write_json(result.folder / "secondlook.json", record)
    _print(record, scores, float(found.plain[..., thresholds.HALF].mean()))
    weights = np.zeros(len(classes))
    weights[labels] = np.array(WEIGHTS)[chosen.index]
    return weights


def _class_rows(second: Experiment, found: OutOfFold, chosen: "Chosen") -> dict[str, dict[str, float]]:
    """Of each class of the region: Dice at 0.5 of either run alone and of the blend, the blend's weight and gain."""
    from bonepipe.inference.secondlook import WEIGHTS

    means = found.mixed[..., thresholds.HALF].mean(0)
    rows = {}
    for number, label in enumerate(_region_names(second)):
        index = int(chosen.index[number])
        rows[label] = {
            "first": float(means[0, number]),
            "second": float(means[-1, number]),
            "blend": float(means[index, number]),
            "weight": WEIGHTS[index],
            "cross_fitted_gain": float(chosen.gain[number]),
            "standard_error": float(chosen.error[number]),
        }
    return rows


def _box_facts(second: Experiment, found: OutOfFold) -> dict[str, float | int | None]:
    """How well the first stage finds the region, and what its errors cost the second look."""
    seen = found.overlaps[~np.isnan(found.overlaps)]
    dice = read_run(second.folder).dice
    labels = _region_names(second)
    rows = [row for row, name in enumerate(found.names) if (name, labels[0]) in dice]
    at_truth = [dice[found.names[row], label] for row in rows for label in labels]
    return {
        "images": len(found.names),
        "found": len(seen),
        "iou": float(seen.mean()) if len(seen) else None,
        "worst_iou": float(seen.min()) if len(seen) else None,
        "dice_at_predicted_box": float(found.mixed[rows, -1][..., thresholds.HALF].mean()),
        "dice_at_true_box": float(np.mean(at_truth)),
    }


def _kept_operations(first: Experiment) -> dict[str, Any]:
    """The post-processing that the first run's thresholds.json names, which is done to the blended masks as well."""
    content = json.loads((first.folder / "thresholds.json").read_text(encoding="utf-8"))
    return {key: value for key, value in content.items() if key.startswith("postprocess")}


def _print(record: dict[str, Any], scores: dict[str, Any], before: float) -> None:
    width = max(map(len, record["classes"]))
    print(f"{'class':<{width}} {'first':>8} {'second':>8} {'blend':>8} {'weight':>7} {'gain':>8} {'+- s.e.':>8}")
    for name, row in record["classes"].items():
        dice = " ".join(f"{row[key]:8.4f}" for key in ("first", "second", "blend"))
        gain, error = row["cross_fitted_gain"], row["standard_error"]
        print(f"{name:<{width}} {dice} {row['weight']:7.2f} {gain:+8.4f} {error:8.4f}")
    box = record["box"]
    if box["found"]:
        print(
            f"box: found in {box['found']} of {box['images']} images, IoU with the true one {box['iou']:.3f} "
            f"({box['worst_iou']:.3f} at worst); the second look's Dice is {box['dice_at_predicted_box']:.4f} there "
            f"and {box['dice_at_true_box']:.4f} at the true box"
        )
    print(
        f"out-of-fold Dice {before:.4f} -> {scores['oof_dice_at_half']:.4f} at threshold 0.5, {scores['oof_dice']:.4f} "
        "with thresholds"
    )


def _masks(
    first: FirstStage, second: Experiment, result: Experiment, images: Sequence[Radiograph], weights: np.ndarray
) -> Iterator[tuple[Radiograph, list[str]]]:
    """Each image with the run-length strings of its classes."""
    from bonepipe.inference.secondlook import pair
    from bonepipe.labels import cutout, rle

    limits = thresholds.read(result.folder / "thresholds.json", result.data.classes)
    refine, labels = make_refine(first.experiment), region_labels(first.experiment, second)

    def encode(item: tuple[Radiograph, np.ndarray, np.ndarray, "Look | None"]) -> tuple[Radiograph, list[str]]:
        image, grey, maps, seen = item
        shape = (grey.shape[0], grey.shape[1])
        pairs = [pair(one, seen, labels.get(label), shape) for label, one in enumerate(maps)]
        masks = [one.cutout(weight, limit) for one, weight, limit in zip(pairs, weights, limits, strict=True)]
        return image, [rle.format_runs(cutout.runs(mask, shape[1])) for mask in refine(masks, shape)]

    predict = second.predictor([second.member(fold) for fold in voting_folds(second)])
    return overlapped(encode, _looks(predict, second, list(labels), _first_maps(first, images)), 4)


def _first_maps(first: FirstStage, images: Sequence[Radiograph]) -> Iterator[tuple[Radiograph, np.ndarray, np.ndarray]]:
    """Each image with its grey bytes and the first stage's maps."""
    import torch

    predict, size = first.predict(), _batch_size(first.experiment)
    for batch in _batches(zip(images, overlapped(_grey, images, size), strict=True), size):
        small = np.stack([resize_grey(grey, first.size) for _, grey in batch])
        for (image, grey), maps in zip(batch, predict(torch.from_numpy(small)).cpu().numpy(), strict=True):
            yield image, grey, maps
