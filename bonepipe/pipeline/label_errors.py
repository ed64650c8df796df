"""Label errors: the annotations that look wrong to models that never saw them, ranked, with suggested corrections."""

import shutil
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from bonepipe.data import corrections, submission
from bonepipe.data.review import CANDIDATES, FILE, SEPARATOR, TABLE
from bonepipe.errors import BonepipeError
from bonepipe.files import file_stem, write_csv
from bonepipe.inference import label_errors as suspects
from bonepipe.inference.label_errors import LabelError
from bonepipe.inference.oof.results import MASKS
from bonepipe.labels import cutout
from bonepipe.labels.cutout import Cutout
from bonepipe.pipeline.experiment import Experiment
from bonepipe.pipeline.predictors.base import Predictor
from bonepipe.report import label_error_page, overlay, page
from bonepipe.report.label_errors import picture

PLANTED, PAGE = "planted.csv", "label_errors.html"
PICTURES, SHEET = 40, 10  # candidates with a picture; of these, on one sheet


class Ranked(NamedTuple):
    """What was written: the candidates, the rows of corrections and their file, lines for people, and a warning."""

    candidates: int
    rows: int
    path: Path
    lines: list[str]
    warning: str | None


def rank_annotations(predictor: Predictor) -> Ranked:
    """Compare the out-of-fold masks with the annotations, rank what differs, and write tables and pictures."""
    experiment, texts, evidence = predictor.experiment, {}, []
    for index, codes in tqdm(_predictions(experiment), "label errors", len(experiment.cohort.images), unit="image"):
        store, name = experiment.cohort.store, experiment.cohort.store.names[index]
        shape, texts[name] = store.shape(index), codes
        predicted = _masks(Path(name), codes, shape)
        evidence.append(suspects.compare_masks(name, store.truth(index), predicted, store.outlines(index), shape))
    ranked = suspects.rank(evidence, experiment.data.classes)
    weakness = suspects.weakness(suspects.usual(evidence), experiment.data.classes)
    _write_table(experiment, ranked)
    rows = suspects.correction_rows(ranked, texts, experiment.data.classes)
    path = _write_corrections(experiment.folder / FILE, rows)
    strips, told = _write_pictures(experiment, ranked, texts), list(_score(experiment, ranked))
    patients, classes = experiment.cohort.patient, experiment.data.classes
    page.write(
        experiment.folder / PAGE,
        label_error_page.page(experiment.folder, ranked, strips, classes, patients, (path, len(rows)), told, weakness),
    )
    return Ranked(len(ranked), len(rows), path, [*_lines(experiment, ranked), *told], weakness)


def _predictions(experiment: Experiment) -> Iterator[tuple[int, list[str]]]:
    """Store index and run-length codes, one a class, of every image's out-of-fold prediction."""
    index, whole = experiment.cohort.index, experiment.folder / MASKS  # of an ensemble or a cascade
    folds = [experiment.fold_folder(fold) / MASKS for fold in range(experiment.folds.count)]
    for path in [whole] if whole.is_file() else folds:
        for name, rows in groupby(submission.stream(path), key=lambda row: row.image):
            codes = {row.label: row.rle for row in rows}
            lacking = [label for label in experiment.data.classes if label not in codes]
            if name not in index or lacking:
                what = f"lacks {lacking[0]} of {name}" if lacking else f"{name} is not in the dataset"
                raise BonepipeError(
                    f"{path}: {what}; the predictions belong to other data; give the data.root that they were made on"
                )
            yield index[name], [codes[label] for label in experiment.data.classes]


def _masks(path: Path, codes: Sequence[str], shape: tuple[int, int]) -> list[Cutout]:
    rows = [submission.Row(0, path.name, "", code) for code in codes]
    return [cutout.from_runs(submission.runs(path, row, shape), shape) for row in rows]


def _write_table(experiment: Experiment, ranked: Sequence[LabelError]) -> None:
    patients, rows = experiment.cohort.patient, []
    for number, suspect in enumerate(ranked, 1):
        drawn, right = (
            SEPARATOR.join(experiment.data.classes[label] for label in labels)
            for labels in (suspect.classes, (suspect.moved or {}).values())
        )
        facts = suspect.kind, f"{suspect.score:.4f}", suspects.suggestion(suspect), suspect.remark
        rows.append([number, suspect.name, patients[suspect.name], drawn, right, *facts])
    write_csv(experiment.folder / TABLE, CANDIDATES, rows)


def _write_pictures(
    experiment: Experiment, ranked: Sequence[LabelError], texts: dict[str, list[str]]
) -> list[np.ndarray]:
    """Pictures of the first candidates, and the very first ones on a sheet; those of an earlier run go."""
    folder, sheet, first = experiment.folder / "label_errors", experiment.folder / "label_errors.jpg", ranked[:PICTURES]
    drawn = [_picture(experiment, number, suspect, texts[suspect.name]) for number, suspect in enumerate(first, 1)]
    shutil.rmtree(folder, ignore_errors=True)  # all that the new ones need has been read
    sheet.unlink(missing_ok=True)
    for number, (suspect, strip) in enumerate(zip(first, drawn, strict=True), 1):
        overlay.save(folder / f"{number:03d}-{suspect.kind}-{file_stem(Path(suspect.name))}.jpg", strip)
    if drawn:
        overlay.save(sheet, overlay.stacked(drawn[:SHEET]))
    return drawn


def _picture(experiment: Experiment, number: int, suspect: LabelError, codes: Sequence[str]) -> np.ndarray:
    data, store = experiment.data, experiment.cohort.store
    index = store.index[suspect.name]
    image = experiment.cohort.images[index]
    grey = image.read()
    labels = ", ".join(data.classes[label] for label in suspect.classes)
    remark = f"{len(suspect.classes)} labels" if suspect.moved else f"{labels}: {suspect.remark}"
    title = f"{number}  {suspect.kind} {suspect.score:.2f}  {image.patient} {image.stem}  {remark}"
    predicted = _masks(image.path, codes, grey.shape)
    return picture(
        title, grey, store.truth(index), predicted, store.outlines(index), suspect.classes,
        data.classes, overlay.palette(len(data.classes), data.palette),
    )  # fmt: skip


def _lines(experiment: Experiment, ranked: Sequence[LabelError]) -> Iterator[str]:
    """The first candidates."""
    for number, suspect in enumerate(ranked[:SHEET], 1):
        labels = ", ".join(experiment.data.classes[label] for label in suspect.classes)
        yield f"{number:3d}  {suspect.score:.3f}  {suspect.kind:<8}  {suspect.name}  {labels}"


def _score(experiment: Experiment, ranked: Sequence[LabelError]) -> Iterator[str]:
    """How many of the annotations that are known to be wrong lie among the first candidates, twice as many."""
    path = experiment.data.path / PLANTED
    if not path.is_file():
        return
    rows = suspects.read_planted(path)
    for kind, (hits, count, mended) in suspects.score_planted(rows, ranked, experiment.data.classes).items():
        told = f", {mended} mended by permuting labels" if kind == "permuted" else ""
        yield f"{PLANTED}: {kind}: {hits} of {count} among the first {2 * len(rows)} candidates{told}"


def _write_corrections(path: Path, rows: Sequence[Sequence[str]]) -> Path:
    """Write the suggestions; beside a file of corrections that is there already, which somebody may have edited."""
    free = path if not path.exists() else path.with_name(f"{path.stem}.new{path.suffix}")
    corrections.write(free, rows)
    if free != path and free.read_bytes() == path.read_bytes():
        free.unlink()
        return path
    return free
