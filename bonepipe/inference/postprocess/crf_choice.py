"""Out-of-fold predictions with and without the dense CRF: which classes keep it, and the fold's files made from both.

A fold that is predicted with a CRF has a folder with the usual files for each of the two variants. Its own files are
taken from them, class by class: all with the CRF before a choice was made.
"""

import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from bonepipe.errors import BonepipeError
from bonepipe.inference import thresholds
from bonepipe.inference.oof import byte_maps, results
from bonepipe.inference.oof.predict import Predict, Validation, predict_variants
from bonepipe.inference.oof.results import Compared
from bonepipe.inference.postprocess import operations
from bonepipe.inference.postprocess.crf import CrfSpec, apply_crf
from bonepipe.inference.postprocess.operations import ChosenOperations

PLAIN, REFINED = VARIANTS = ("plain", "crf")
CANDIDATES: list[tuple[str, ...]] = [(), ("crf",)]  # as `operations.choose_operations` takes them


def predict_fold_with_crf(predict: Predict, spec: CrfSpec, validation: Validation) -> tuple[np.ndarray, np.ndarray]:
    """Write both variants, the networks running once, and the fold's own files, all classes with the CRF.

    Args:
        predict: probabilities before the CRF.
        spec: the CRF.
        validation: the images.

    Returns:
        Dice `[N, C]` at threshold 0.5 without and with the CRF.
    """
    for variant in VARIANTS:
        (validation.folder / variant).mkdir(exist_ok=True)
    plain, refined = predict_variants(both(predict, spec), validation, VARIANTS)
    merge(validation.folder, validation.classes, validation.classes)
    return plain, refined


def clear(folder: Path) -> None:
    """Remove the variants of an earlier prediction from a fold's folder."""
    for variant in VARIANTS:
        shutil.rmtree(folder / variant, ignore_errors=True)


def both(predict: Predict, spec: CrfSpec) -> Callable[[torch.Tensor], list[torch.Tensor]]:
    """Probabilities `[N, C, h, w]` without and with the CRF; the networks run once."""

    def variants(images: torch.Tensor) -> list[torch.Tensor]:
        plain = predict(images)
        return [plain, apply_crf(plain, images, spec)]

    return variants


def with_crf(predict: Predict, spec: CrfSpec, refined: Sequence[bool]) -> Predict:
    """Probabilities `[N, C, h, w]`, with the CRF for the classes where `refined` holds.

    The classes are fields of their own, so the others need not be part of it.
    """
    labels = np.flatnonzero(refined).tolist()
    if not labels:
        return predict
    if len(labels) == len(refined):
        return lambda images: apply_crf(predict(images), images, spec)

    @torch.inference_mode()  # as the networks run: their results may only be changed in it
    def mixed(images: torch.Tensor) -> torch.Tensor:
        maps = predict(images).float()  # as the refined ones are
        maps[:, labels] = apply_crf(maps[:, labels], images, spec)
        return maps

    return mixed


def choose_crf_classes(
    folders: Sequence[Path], classes: Sequence[str], patients: Mapping[str, str], margin: float
) -> ChosenOperations:
    """Which classes keep the CRF, from both variants of all folds: the rule of `operations.choose_operations`.

    Each variant is judged with thresholds of its own, chosen on the other folds: at 0.5 a class whose probabilities
    lie too low would often seem to lose by what only makes them surer.

    Args:
        folders: of the folds.
        patients: image name -> whose it is.
        margin: in standard errors; that of the thresholds.

    Returns:
        A class's operations are `("crf",)` or `()`.
    """
    pooled = {variant: _pool([folder / variant for folder in folders], classes) for variant in VARIANTS}
    split = pooled[PLAIN].split(patients)
    dice = [thresholds.choose_thresholds(pooled[variant].curves, split, margin).dice for variant in VARIANTS]
    return operations.choose_operations(np.stack(dice, 1), split, margin, CANDIDATES)


def _pool(folders: Sequence[Path], classes: Sequence[str]) -> results.Pooled:
    return results.pool(dict(enumerate(folders)), classes)


def merge(folder: Path, classes: Sequence[str], refined: Collection[str]) -> None:
    """Write a fold's own files: of each class what the variant says that it keeps, refined or plain, unchanged.

    Raises:
        BonepipeError: a file of a variant is missing or broken, or they do not belong together.
    """
    picked = [int(name in refined) for name in classes]
    names, rows = zip(*(results.read_results(folder / variant, classes) for variant in VARIANTS), strict=True)
    maps = [byte_maps.read(folder / variant / results.PROBABILITIES, classes) for variant in VARIANTS]
    if any(other != names[0] for other in (names[1], *(of_variant.names for of_variant in maps))):
        raise BonepipeError(f"{folder}: {PLAIN} and {REFINED} hold other images; delete both to predict the fold again")
    byte_maps.write(folder / results.PROBABILITIES, names[0], classes, maps[0].shapes, byte_maps.take(maps, picked))
    results.write_results(folder, names[0], classes, [_take(image, picked) for image in zip(*rows, strict=True)])


def _take(variants: Sequence[Compared], picked: Sequence[int]) -> Compared:
    """An image's results, those of each class from the variant that is picked for it."""
    runs = [variants[source].runs[label] for label, source in enumerate(picked)]
    dice, counts = (
        np.stack([getattr(variants[source], part)[label] for label, source in enumerate(picked)])
        for part in ("dice", "counts")
    )
    return Compared(runs, dice, counts)


def refined_classes(selection: ChosenOperations, classes: Sequence[str]) -> list[str]:
    """The classes that keep the CRF."""
    return [name for name, chosen in zip(classes, selection.operations, strict=True) if chosen]
