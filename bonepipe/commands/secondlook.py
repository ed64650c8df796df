"""`bonepipe secondlook FIRST SECOND_RUN`: the masks of a run or an ensemble, mended where another run looks closely."""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from bonepipe import config as configs
from bonepipe.commands import summary as summaries
from bonepipe.commands.handover import hand_over
from bonepipe.commands.look import (
    SecondLook,
    batch_size,
    looks,
    open_first,
    open_second,
    region_labels,
    region_names,
    shown,
)
from bonepipe.commands.predictor import (
    SECOND_LOOK,
    WholePredictor,
    masks,
    placed,
    record_source,
    refuse_taken,
    threshold_settings,
)
from bonepipe.data.catalog import Radiograph, test_images
from bonepipe.data.region import iou
from bonepipe.files import write_json
from bonepipe.inference import thresholds
from bonepipe.inference.oof.results import MASKS, Pooled
from bonepipe.labels.cutout import hull
from bonepipe.labels.histogram import dice_curve
from bonepipe.parallel import overlapped
from bonepipe.pipeline.comparison import read_run
from bonepipe.pipeline.experiment import Experiment

if TYPE_CHECKING:
    from bonepipe.inference.cascade import Blend, Chosen, Kept, Look
    from bonepipe.inference.oof.results import Compared

EPILOG = """\
FIRST sees whole images: a run, or the folder of `bonepipe ensemble`. The second run sees only the region of some
classes, at a finer resolution: an ordinary run with data.region set, trained on the same folds (experiment=wrist is
one). The box of the region is found by the first.

Out of fold, each fold's second model looks at the box that the first stage's out-of-fold probabilities predict. Inside
it a class's probability becomes (1 - w) first + w second. w is one of 0, 0.25, 0.5, 0.75, 1 a class, judged by Dice at
threshold 0.5, and stays 0 unless weights chosen on other folds gain more than --margin standard errors. Then
come thresholds, repairs and the test images. Settings of prediction (views, margin, batch size, what to repair) are
those of the runs.

writes into OUT: secondlook.json (weights and gains), thresholds.json, scores.json, oof.csv, examples.jpg,
thresholds.png, submission.csv; `bonepipe predict` and `bonepipe pseudo` take OUT with --run

example:
  bonepipe train-all experiment=demo
  bonepipe train-all experiment=wrist
  bonepipe secondlook runs/demo runs/wrist -o runs/demo-wrist
  bonepipe secondlook runs/best runs/wrist -o runs/best-wrist --by-stratum
"""


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    result = argparse.ArgumentParser(
        "bonepipe secondlook",
        description="Look again, closely, where a first run has found the region of some classes.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = result.add_argument
    add("first", metavar="FIRST", type=Path, help="a finished run, or an ensemble, that sees whole images")
    add("second", metavar="SECOND_RUN", type=Path, help="a finished run with data.region set")
    add("-o", "--output", metavar="OUT", type=Path, help="the folder to write; FIRST-SECOND if not given")
    add("--margin", type=float, metavar="SE", help="standard errors that a weight or threshold must gain (FIRST's)")
    add("--by-stratum", action="store_true", help="let a class have another threshold in some strata, where that gains")
    return result


def main(argv: list[str]) -> int:
    """Weights, thresholds and repairs out of fold, then the test images."""
    given = parser().parse_args(argv)
    out: Path = given.output or given.first.with_name(f"{given.first.name}-{given.second.name}")
    refuse_taken(out, SECOND_LOOK)
    first = open_first(given.first)
    second = open_second(given.second, first)
    result = _result(first.experiment, out, given)
    images = test_images(result.data)  # a fault in them is found before the work
    look = cross_validate(first, second, result)
    hand_over(result, images, masks(look, images), [SECOND_LOOK])
    return 0


def _result(first: Experiment, out: Path, given: argparse.Namespace) -> Experiment:
    """The first stage's settings in the folder of the results."""
    settings = threshold_settings(first.config, given)
    result = placed({**first.config, "thresholds": settings}, out, shelf=first.config["runs"])
    configs.build(result.config, "thresholds")  # which refuses what makes no sense before the work
    return result


@dataclass(frozen=True)
class Evidence:
    """What is known of N images before anything is chosen; R classes are those of the region.

    Attributes:
        whole: the first stage's out-of-fold predictions.
        recall: from an image's name to its maps among them.
        mixed: pixel counts of the mixtures, int32 `[N, K, R, 2, 256]`, the first stage alone in front.
        overlaps: IoU of predicted and true box; NaN where one of them is missing.
        kept: the second looks; None where no region was found.
    """

    whole: Pooled
    recall: Callable[[str], np.ndarray]
    mixed: np.ndarray
    overlaps: np.ndarray
    kept: "list[Kept | None]"

    @cached_property
    def dice(self) -> np.ndarray:
        """Dice of the mixtures at threshold 0.5, `[N, K, R]`."""
        return np.stack([dice_curve(counts)[..., thresholds.HALF] for counts in self.mixed])


def gather(first: WholePredictor, second: Experiment) -> Evidence:
    """Look at all validation images, each with the second model that never saw it."""
    whole, recall = first.out_of_fold(), first.recall()
    labels = region_labels(first.experiment, second)
    images = {image.name: image for image in first.experiment.own_images}
    found: dict[str, tuple[np.ndarray, float, Kept | None]] = {}
    for fold in np.unique(whole.folds):
        names = [whole.names[index] for index in np.flatnonzero(whole.folds == fold)]
        maps = ((images[name], recall(name)) for name in names)
        rows = _look_at_fold(first.experiment, second, int(fold), maps)
        bar = tqdm(rows, f"second look, fold {fold}", len(names), unit="image")
        found |= dict(zip(names, bar, strict=True))
    mixed, overlaps, kept = zip(*(found[name] for name in whole.names), strict=True)
    counts = np.stack(mixed)
    counts[:, 0] = whole.counts[:, list(labels)]  # exact, where the stored bytes are rounded
    return Evidence(whole, recall, counts, np.array(overlaps), list(kept))


def _look_at_fold(
    first: Experiment, second: Experiment, fold: int, whole: Iterator[tuple[Radiograph, np.ndarray]]
) -> "Iterator[tuple[np.ndarray, float, Kept | None]]":
    """Of each image the counts `[K, R, 2, 256]` of the mixtures, the IoU of its box, and the look."""
    from bonepipe.inference.cascade import WEIGHTS, find, keep, pair

    labels, store = region_labels(first, second), first.store
    index = {name: number for number, name in enumerate(store.names)}
    predict = second.predictor([second.member(fold)])

    def compare(item: "tuple[Radiograph, np.ndarray, np.ndarray, Look | None]") -> "tuple[np.ndarray, float, Any]":
        image, grey, maps, seen = item
        truth, shape = store.truth(index[image.name]), (grey.shape[0], grey.shape[1])
        kept = None if seen is None else keep(seen)
        again = None if kept is None else kept.look()  # what is judged is what masks will be made from
        pairs = [pair(maps[label], again, own, shape) for label, own in labels.items()]
        counts = [one.histograms(WEIGHTS, truth[label]) for one, label in zip(pairs, labels, strict=True)]
        true, box = hull(truth[label].box for label in labels), find(maps[list(labels)], shape)
        overlap = iou(true, box) if true.height and box else np.nan
        return np.stack(counts, axis=1).astype(np.int32), overlap, kept

    return overlapped(compare, looks(predict, second, list(labels), shown(whole, second)), batch_size(second))


def cross_validate(first: WholePredictor, second: Experiment, result: Experiment) -> SecondLook:
    """Choose weights, thresholds and repairs from out-of-fold predictions, write and print them."""
    from bonepipe.inference.cascade import WEIGHTS, choose
    from bonepipe.inference.oof.results import write_results

    summaries.begin(result)
    found = gather(first, second)
    labels, classes = region_labels(first.experiment, second), first.experiment.data.classes
    margin = configs.build(result.config, "thresholds").margin
    chosen = choose(found.dice, found.whole.folds, margin)
    weights = np.zeros(len(classes))
    weights[list(labels)] = np.array(WEIGHTS)[chosen.index]
    blended = Pooled(found.whole.names, found.whole.folds, _blended(found, list(labels), chosen.index))
    blends = _blends(found, first.experiment, labels, weights.tolist())
    folder = result.folder
    write_results(folder, blended.names, classes, list(_compared(blended, blends)))
    summary = summaries.decide(result, blended, lambda: lambda name, limits: blends(name).cutouts(limits))
    stages = {"first": str(first.experiment.folder), "second": str(second.folder)}
    record = {**stages, "classes": _class_rows(second, found, chosen), "box": _box_facts(second, found)}
    scores = summaries.finish(summary, lambda _: folder / MASKS, facts={"second_look": record})
    write_json(folder / SECOND_LOOK, record)
    look = SecondLook(first, second, result, weights.tolist())
    record_source(look)
    _print(record)
    before = float(found.whole.curves[..., thresholds.HALF].mean())
    print(f"out-of-fold Dice at threshold 0.5: {before:.4f} -> {scores['oof_dice_at_half']:.4f}")
    summaries.tell(summary, scores)
    return look


def _blended(found: Evidence, labels: Sequence[int], index: np.ndarray) -> np.ndarray:
    """Counts `[N, C, 2, 256]` of all classes, those of the region as they are mixed."""
    counts = found.whole.counts.copy()
    counts[:, labels] = np.take_along_axis(found.mixed, index[None, None, :, None, None], 1)[:, 0]
    return counts


def _blends(
    found: Evidence, first: Experiment, labels: Mapping[int, int], weights: Sequence[float]
) -> "Callable[[str], Blend]":
    """From an image's name to what both stages say of it out of fold."""
    from bonepipe.inference.cascade import blend

    store = first.store
    kept = dict(zip(found.whole.names, found.kept, strict=True))
    index = {name: number for number, name in enumerate(store.names)}

    def of(name: str) -> "Blend":
        own = kept[name]
        return blend(found.recall(name), own and own.look(), labels, weights, store.shape(index[name]))

    return of


def _compared(blended: Pooled, blends: "Callable[[str], Blend]") -> "Iterator[Compared]":
    """What out-of-fold files hold of each image."""
    from bonepipe.inference.oof.results import HALF, Compared
    from bonepipe.inference.predict import texts

    dice = blended.curves[..., thresholds.HALF]
    for number, name in enumerate(tqdm(blended.names, "masks out of fold", unit="image")):
        image = blends(name)
        masks_at_half = image.cutouts([HALF] * dice.shape[1])
        yield Compared(texts(masks_at_half, image.shape), dice[number], blended.counts[number])


def _class_rows(second: Experiment, found: Evidence, chosen: "Chosen") -> dict[str, dict[str, float]]:
    """Of each class of the region: Dice at 0.5 of either run alone and of the blend, the blend's weight and gain."""
    from bonepipe.inference.cascade import WEIGHTS

    means = found.dice.mean(0)
    rows = {}
    for number, label in enumerate(region_names(second)):
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


def _box_facts(second: Experiment, found: Evidence) -> dict[str, float | int | None]:
    """How well the first stage finds the region, and what its errors cost the second look."""
    seen = found.overlaps[~np.isnan(found.overlaps)]
    dice = read_run(second.folder).dice
    labels, names = region_names(second), found.whole.names
    rows = [row for row, name in enumerate(names) if (name, labels[0]) in dice]
    at_truth = [dice[names[row], label] for row in rows for label in labels]
    return {
        "images": len(names),
        "found": len(seen),
        "iou": float(seen.mean()) if len(seen) else None,
        "worst_iou": float(seen.min()) if len(seen) else None,
        "dice_at_predicted_box": float(found.dice[rows, -1].mean()),
        "dice_at_true_box": float(np.mean(at_truth)),
    }


def _print(record: Mapping[str, Any]) -> None:
    """The classes of the region, and how well it is found."""
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
