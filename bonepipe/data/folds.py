"""Folds: which images validate which model. A CSV under folds/, written once, verified every time it is read."""

import csv
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bonepipe.data.catalog import Radiograph
from bonepipe.errors import BonepipeError
from bonepipe.files import replacing

COLUMNS = ["image_name", "patient", "fold"]


@dataclass(frozen=True, kw_only=True)
class FoldSpec:
    """How patients are split.

    Attributes:
        file: the CSV, made when it is missing.
        count: number of folds.
        seed: shuffles patients before they are dealt out; None keeps scikit-learn's own order.
    """

    file: str
    count: int = 5
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.count < 2:
            raise ValueError(f"folds.count={self.count}: at least 2")


Folds = dict[str, int]  # image name -> the fold that validates it
Row = dict[str, str]  # of the CSV


def split(images: Sequence[Radiograph], spec: FoldSpec) -> Folds:
    """Deal patients into folds of nearly equal numbers of images, with scikit-learn's GroupKFold."""
    from sklearn.model_selection import GroupKFold

    groups = [image.patient for image in images]
    if len(set(groups)) < spec.count:
        raise BonepipeError(f"folds.count={spec.count}: only {len(set(groups))} patients to split")
    splitter = GroupKFold(spec.count, shuffle=spec.seed is not None, random_state=spec.seed)
    folds: Folds = {}
    for number, (_, held_out) in enumerate(splitter.split(groups, groups=groups)):
        folds |= {images[i].name: number for i in held_out}
    return folds


def write(path: Path, images: Sequence[Radiograph], folds: Folds) -> None:
    """Write the fold CSV, atomically, in catalog order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        rows.writerows([image.name, image.patient, folds[image.name]] for image in images)


def read(path: Path, images: Sequence[Radiograph], count: int) -> Folds:
    """Read a fold CSV and verify it against the dataset.

    Raises:
        BonepipeError: a column is missing, a patient sits in two folds, an image is missing, unknown or listed twice,
            a fold number is out of range or empty.
    """
    rows = _read_rows(path)
    for message in _faults(rows, images, count):
        raise BonepipeError(f"{path}: {message}")
    return {row["image_name"]: int(row["fold"]) for row in rows}


def find_faults(path: Path, images: Sequence[Radiograph], count: int) -> list[str]:
    """Everything that is wrong with a fold CSV. Raises BonepipeError where it cannot be read as one."""
    return list(_faults(_read_rows(path), images, count))


def _faults(rows: Sequence[Row], images: Sequence[Radiograph], count: int) -> Iterator[str]:
    """What is wrong with the rows of a fold CSV, one message after the other."""
    yield from _number_faults(rows, count)
    yield from _image_faults([row["image_name"] for row in rows], images)
    yield from _patient_faults(rows, images)
    for fold in range(count):
        if all(row["fold"] != str(fold) for row in rows):
            yield f"column fold: no image in fold {fold} of {count} (folds.count={count})"


def _read_rows(path: Path) -> list[Row]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets like to put a byte-order mark first
            rows = list(csv.DictReader(file, restval=""))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BonepipeError(f"{path}: cannot be read ({error}); `bonepipe split` writes it") from error
    lacking = [column for column in COLUMNS if not rows or column not in rows[0]]
    if lacking:
        raise BonepipeError(f"{path}: no column {lacking[0]!r} or no rows; expected {','.join(COLUMNS)}")
    return rows


def ensure(spec: FoldSpec, images: Sequence[Radiograph]) -> Folds:
    """The folds of the file, made first where there is none, and always verified as read back from disk."""
    path = Path(spec.file)
    if not path.exists():
        write(path, images, split(images, spec))
    return read(path, images, spec.count)


def summary(images: Sequence[Radiograph], folds: Folds) -> str:
    """A line a fold: patients, images, rotated wrists where known."""
    lines = []
    for fold in sorted(set(folds.values())):
        rows = [image for image in images if folds[image.name] == fold]
        rotated = sum(bool(image.rotated) for image in rows)
        known = f", {rotated} with a rotated wrist" if any(image.rotated is not None for image in rows) else ""
        lines.append(f"fold {fold}: {len({r.patient for r in rows})} patients, {len(rows)} images{known}")
    return "\n".join(lines)


def _number_faults(rows: Sequence[Row], count: int) -> Iterator[str]:
    numbers = {str(fold) for fold in range(count)}
    for line, row in enumerate(rows, 2):
        if row["fold"] not in numbers:
            yield f"line {line}, column fold: {row['fold']!r} is not one of 0..{count - 1} (folds.count={count})"


def _image_faults(names: Sequence[str], images: Sequence[Radiograph]) -> Iterator[str]:
    way_out = "the file belongs to other data; set folds.file=..., or delete it and run `bonepipe split`"
    known = {image.name for image in images}
    for name, times in Counter(names).items():
        if times > 1:
            yield f"column image_name: {name} is listed twice"
    missing, unknown = sorted(known - set(names)), sorted(set(names) - known)
    if missing:
        yield f"column image_name: {missing[0]} is missing ({len(missing)} images in all); {way_out}"
    if unknown:
        yield f"column image_name: {unknown[0]} is not in the dataset ({len(unknown)} in all); {way_out}"


def _patient_faults(rows: Sequence[Row], images: Sequence[Radiograph]) -> Iterator[str]:
    """A patient in two folds leaks: his left hand would tell the model about his right hand."""
    patients = {image.name: image.patient for image in images}
    seen: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row["image_name"] in patients:
            seen[patients[row["image_name"]]].add(row["fold"])
    for patient, numbers in seen.items():
        if len(numbers) > 1:
            listed = " and ".join(sorted(numbers))
            yield f"column fold: patient {patient} leaks across folds {listed}; give all his images one fold"
