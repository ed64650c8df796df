"""The cross-validation of a cascade: how much the second stage counts for each class, and what that gains."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from tqdm import tqdm

from bonepipe import config as configs
from bonepipe.data.catalog import Radiograph
from bonepipe.data.region import iou
from bonepipe.files import write_json
from bonepipe.inference import cascade as stages
from bonepipe.inference.cascade import WEIGHTS, BlendedStages, PackedSecondStage
from bonepipe.inference.crossfit import Choice, choose
from bonepipe.inference.oof.results import MASKS, Compared, Pooled, write_results
from bonepipe.inference.predict import texts
from bonepipe.labels.cutout import hull
from bonepipe.labels.histogram import HALF, HALF_BIN, dice_curve
from bonepipe.parallel import overlapped
from bonepipe.pipeline import cross_validation
from bonepipe.pipeline.comparison import read_dice
from bonepipe.pipeline.experiment import Experiment
from bonepipe.pipeline.predictors import cascade as predictors
from bonepipe.pipeline.predictors.base import Maps, WholePredictor
from bonepipe.pipeline.predictors.cascade import CascadePredictor, region_labels, region_names
from bonepipe.pipeline.predictors.own_settings import of_networks, own_settings
from bonepipe.pipeline.predictors.run import refined_classes, refuse_other_truth, voting_folds
from bonepipe.pipeline.run_folder import CASCADE, refuse_taken
from bonepipe.report import cascade as report

Answer = tuple[np.ndarray, float, PackedSecondStage | None]  # of an image, see `_compare_fold`


def assemble(first: Path, second: Path, folder: Path, words: Sequence[str]) -> CascadePredictor:
    """Both stages, to write into a folder, before any class has a weight; the words override the first's settings.

    Raises:
        UsageError: the folder holds something else, an override does not belong here, or the stages do not fit.
        BonepipeError: a stage is not finished.
    """
    refuse_taken(folder, CASCADE)
    own_settings(words)
    coarse = predictors.open_first(first, of_networks(words))
    fine = predictors.open_second(second, coarse, of_networks(words))
    config = configs.recompose(coarse.experiment.config, words)
    experiment = Experiment(config).placed(folder, store=coarse.experiment.store_folder)
    experiment.try_later_settings()
    for run in (*coarse.runs(), fine):
        refuse_other_truth(run)
    return CascadePredictor(coarse, fine, experiment, [0.0] * len(experiment.data.classes))


def run(predictor: CascadePredictor, *, test: bool) -> str | None:
    """Cross-validate the cascade, unless that is done; see `cross_validation.renew`."""
    return cross_validation.renew(predictor, lambda: _cross_validate(predictor), test=test)


@dataclass(frozen=True)
class BothStages:
    """What both stages say of N images out of fold; R classes are those of the region.

    Attributes:
        first: the first stage's predictions.
        recall: from an image's name to its maps among them.
        mixed: pixel counts of the mixtures, int32 `[N, K, R, 2, 256]`, the first stage alone in front.
        overlaps: IoU of predicted and true box; NaN where one of them is missing.
        kept: the second stage's answers; None where no region was found.
    """

    first: Pooled
    recall: Maps
    mixed: np.ndarray
    overlaps: np.ndarray
    kept: list[PackedSecondStage | None]

    @cached_property
    def dice(self) -> np.ndarray:
        """Dice of the mixtures at threshold 0.5, `[N, K, R]`."""
        return np.stack([dice_curve(counts)[..., HALF_BIN] for counts in self.mixed])


def predict_both(first: WholePredictor, second: Experiment) -> BothStages:
    """SecondStage at all validation images, each with the second model that never saw it."""
    pooled, recall = first.out_of_fold(), first.recall()
    labels = region_labels(first.experiment, second)
    images = {image.name: image for image in first.experiment.cohort.own_images}
    rows: dict[str, Answer] = {}
    for fold in np.unique(pooled.folds):
        names = [pooled.names[index] for index in np.flatnonzero(pooled.folds == fold)]
        maps = ((images[name], recall(name)) for name in names)
        compared = _compare_fold(first.experiment, second, int(fold), maps)
        bar = tqdm(compared, f"second stage, fold {fold}", len(names), unit="image")
        rows |= dict(zip(names, bar, strict=True))
    mixed, overlaps, kept = zip(*(rows[name] for name in pooled.names), strict=True)
    counts = np.stack(mixed)
    counts[:, 0] = pooled.counts[:, list(labels)]  # exact, where the stored bytes are rounded
    return BothStages(pooled, recall, counts, np.array(overlaps), list(kept))


def _compare_fold(
    first: Experiment, second: Experiment, fold: int, whole: Iterator[tuple[Radiograph, np.ndarray]]
) -> Iterator[Answer]:
    """Of each image the counts `[K, R, 2, 256]` of the mixtures, the IoU of its box, and the second stage's answer."""
    labels, cohort = region_labels(first, second), first.cohort
    predict = second.predictor([second.fold_model(fold)], refined_classes(second))

    def compare(item: predictors.Looked) -> Answer:
        image, grey, maps, seen = item
        truth, shape = cohort.store.truth(cohort.index[image.name]), (grey.shape[0], grey.shape[1])
        kept = None if seen is None else stages.pack(seen)
        again = None if kept is None else kept.unpack()  # what is judged is what masks will be made from
        pairs = [stages.pair_stages(maps[label], again, fine, shape) for label, fine in labels.items()]
        counts = [pair.histograms(WEIGHTS, truth[label]) for pair, label in zip(pairs, labels, strict=True)]
        true, box = hull(truth[label].box for label in labels), stages.find_region(maps[list(labels)], shape)
        overlap = iou(true, box) if true.height and box else np.nan
        return np.stack(counts, axis=1).astype(np.int32), overlap, kept

    answers = predictors.looks(predict, second, list(labels), predictors.shown(whole, second))
    return overlapped(compare, answers, second.prediction.batch_size)


def _cross_validate(predictor: CascadePredictor) -> str:
    """Choose weights, thresholds and post-processing from out-of-fold predictions, write them and say what came out.

    Out of fold an image is mixed with the weights that the other folds choose, so that no score is flattered.
    """
    first, second, result = predictor.first, predictor.second, predictor.experiment
    both, folder = predict_both(first, second), result.folder
    labels, classes = region_labels(first.experiment, second), result.data.classes
    chosen = choose(both.dice, both.first.split(first.experiment.cohort.patient), result.thresholds.margin)
    weights = np.zeros((len(both.first.names), len(classes)))
    weights[:, list(labels)] = np.array(WEIGHTS)[chosen.crossed]
    pooled = Pooled(both.first.names, both.first.folds, _mixed_counts(both, list(labels), chosen.crossed))
    blends = _blends(both, first.experiment, labels, weights)
    write_results(folder, pooled.names, classes, list(_compared(pooled, blends)))
    decided = cross_validation.decide(result, pooled, lambda: lambda name, limits: blends(name).cutouts(limits))
    record = {
        "first": str(first.experiment.folder),
        "second": str(second.folder),
        "classes": _class_rows(second, both, chosen),
        "box": _box_facts(second, both),
    }
    write_json(folder / CASCADE, record)
    scores = cross_validation.finish(decided, lambda _: folder / MASKS, facts={"cascade": record})
    before = float(both.first.curves[..., HALF_BIN].mean())
    return "\n".join([*report.table(record, before, scores["oof_dice_at_half"]), decided.report(scores)])


def _mixed_counts(both: BothStages, labels: Sequence[int], index: np.ndarray) -> np.ndarray:
    """Counts `[N, C, 2, 256]` of all classes, those of the region as they are mixed, with weights of index `[N, R]`."""
    counts = both.first.counts.copy()
    counts[:, labels] = np.take_along_axis(both.mixed, index[:, None, :, None, None], 1)[:, 0]
    return counts


def _blends(
    both: BothStages, first: Experiment, labels: Mapping[int, int], weights: np.ndarray
) -> Callable[[str], BlendedStages]:
    """From an image's name to what both stages say of it out of fold, with the image's own weights `[N, C]`."""
    kept, cohort = dict(zip(both.first.names, both.kept, strict=True)), first.cohort
    shares = dict(zip(both.first.names, weights.tolist(), strict=True))

    def blend(name: str) -> BlendedStages:
        answer = kept[name]
        shape = cohort.store.shape(cohort.index[name])
        return stages.blend_stages(both.recall(name), answer and answer.unpack(), labels, shares[name], shape)

    return blend


def _compared(pooled: Pooled, blends: Callable[[str], BlendedStages]) -> Iterator[Compared]:
    """What out-of-fold files hold of each image."""
    dice = pooled.curves[..., HALF_BIN]
    for number, name in enumerate(tqdm(pooled.names, "masks out of fold", unit="image")):
        image = blends(name)
        masks_at_half = image.cutouts([HALF] * dice.shape[1])
        yield Compared(texts(masks_at_half, image.shape), dice[number], pooled.counts[number])


def _class_rows(second: Experiment, both: BothStages, chosen: Choice) -> dict[str, dict[str, float]]:
    """Of each class of the region: Dice at 0.5 of either stage alone and of the blend, the blend's weight and gain.

    Dice of the blend and gain are cross-fitted.
    """
    means = both.dice.mean(0)
    columns = {
        "first": means[0],
        "second": means[-1],
        "blend": chosen.scores.mean(0),
        "weight": np.array(WEIGHTS)[chosen.index],
        "cross_fitted_gain": chosen.verdict.gain,
        "standard_error": chosen.verdict.error,
    }
    rows = zip(*(np.asarray(values, float).tolist() for values in columns.values()), strict=True)
    return {label: dict(zip(columns, row, strict=True)) for label, row in zip(region_names(second), rows, strict=True)}


def _box_facts(second: Experiment, both: BothStages) -> dict[str, float | int | None]:
    """How well the first stage finds the region, and what its errors cost the second."""
    seen = both.overlaps[~np.isnan(both.overlaps)]
    dice: dict[tuple[str, str], float] = {}
    for fold in voting_folds(second):
        dice |= read_dice(second.fold_folder(fold) / "oof_dice.csv")
    labels, names = region_names(second), both.first.names
    rows = [row for row, name in enumerate(names) if (name, labels[0]) in dice]
    at_truth = [dice[names[row], label] for row in rows for label in labels]
    return {
        "images": len(names),
        "found": len(seen),
        "iou": float(seen.mean()) if len(seen) else None,
        "worst_iou": float(seen.min()) if len(seen) else None,
        "dice_at_predicted_box": float(both.dice[rows, -1].mean()),
        "dice_at_true_box": float(np.mean(at_truth)),
    }
