"""Folds: which images validate which model. A CSV under folds/, written once, verified every time it is read."""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bonepipe.data.catalog import Radiograph
from bonepipe.data.strata import StrataSpec, Trait, Wrist, stratify
from bonepipe.errors import BonepipeError, quoted, reason
from bonepipe.files import read_csv, write_csv, write_json
from bonepipe.forms import read_json
from bonepipe.ranges import Amount, Count, Inside, Positive, Seed

COLUMNS = ["image_name", "patient", "fold"]
TRAIN_ONLY = -1  # the fold of images that never validate, as scikit-learn's PredefinedSplit marks them


@dataclass(frozen=True, kw_only=True)
class FoldSpec:
    """How images are split.

    Attributes:
        file: the CSV, made when it is missing.
        count: number of folds; 1 where one part is held out.
        seed: shuffles before dealing out; None keeps scikit-learn's own order (a hold-out draws with seed 0).
        kind: `group` keeps a patient's images together; `stratified_group` also gives every fold the strata's shares;
            `holdout` holds one part out, by patient; `kfold` and `stratified` do not look at patients.
        share: of the patients that `holdout` holds out.
        by, ages, wrist, bend: what makes the strata, see `bonepipe.data.strata`; only the stratified kinds look at it.
    """

    file: str
    count: Count = 5
    seed: Seed | None = None
    kind: Literal["group", "kfold", "stratified", "stratified_group", "holdout"] = "group"
    share: Inside = 0.2
    by: tuple[Trait, ...] = ()
    ages: tuple[Amount, ...] = StrataSpec.ages
    wrist: Wrist = StrataSpec.wrist
    bend: Positive = StrataSpec.bend

    def __post_init__(self) -> None:
        if self.kind == "holdout" and self.count != 1:
            raise ValueError(f"folds.count={self.count}: a hold-out is one fold; leave it at 1, or use folds=group")
        if self.kind != "holdout" and self.count < 2:
            raise ValueError(f"folds.count={self.count}: at least 2")
        if not 0 < self.share < 1:
            raise ValueError(f"folds.share={self.share}: a share between 0 and 1")

    @property
    def groups(self) -> bool:
        """Whether a patient's images stay together."""
        return self.kind not in ("kfold", "stratified")

    @property
    def stratified(self) -> bool:
        """Whether every fold gets the strata's shares."""
        return self.kind in ("stratified", "stratified_group")

    @property
    def rule(self) -> dict[str, Any]:
        """The settings that decide the split, as plain values; those that this kind does not look at are not in it."""
        rule: dict[str, Any] = {"kind": self.kind, "count": self.count, "seed": self.seed}
        if self.kind == "holdout":
            rule["share"] = self.share
        if self.stratified:
            rule["by"] = list(self.by)
            if "age" in self.by:
                rule["ages"] = list(self.ages)
            if "wrist" in self.by:
                rule |= {"wrist": self.wrist, "bend": self.bend}
        return rule

    @property
    def strata(self) -> StrataSpec:
        """What tells the strata apart that every fold gets a share of."""
        return StrataSpec(by=self.by, ages=self.ages, wrist=self.wrist, bend=self.bend)


Folds = dict[str, int]  # image name -> the fold that validates it, or TRAIN_ONLY
Row = dict[str, str]  # of the CSV


def split(images: Sequence[Radiograph], spec: FoldSpec) -> Folds:
    """Deal images out with scikit-learn's splitter of the spec's kind.

    Raises:
        BonepipeError: too few patients or images for so many folds, or an image whose wrist has to be measured for a
            stratified kind cannot be read.
    """
    require_enough(images, spec)
    patients = [image.patient for image in images]
    strata = stratify(images, spec.strata) if spec.stratified else None
    folds = dict.fromkeys((image.name for image in images), TRAIN_ONLY)
    try:
        parts = list(_splitter(spec).split(patients, strata, patients if spec.groups else None))
    except ValueError as error:  # fewer images of every stratum than folds
        raise BonepipeError(f"folds.count={spec.count}: {error}") from error
    for number, (_, held_out) in enumerate(parts):
        folds |= {images[i].name: number for i in held_out}
    return folds


def require_enough(images: Sequence[Radiograph], spec: FoldSpec) -> None:
    """Raise BonepipeError where there are too few patients or images for so many folds, whatever their strata."""
    units, noun = ({image.patient for image in images}, "patients") if spec.groups else (images, "images")
    if len(units) < max(2, spec.count):
        raise BonepipeError(f"folds.count={spec.count}: only {len(units)} {noun} to split")


def _splitter(spec: FoldSpec) -> Any:
    from sklearn import model_selection

    if spec.kind == "holdout":
        return model_selection.GroupShuffleSplit(1, test_size=spec.share, random_state=spec.seed or 0)
    kinds = {
        "group": model_selection.GroupKFold,
        "kfold": model_selection.KFold,
        "stratified": model_selection.StratifiedKFold,
        "stratified_group": model_selection.StratifiedGroupKFold,
    }
    return kinds[spec.kind](spec.count, shuffle=spec.seed is not None, random_state=spec.seed)


def take_patients(patients: Sequence[str], fraction: float, seed: int) -> list[int]:
    """Positions of the images of a fraction of the patients, rounded up, in their order.

    Drawn by the seed; a smaller fraction takes some of the patients of a larger one.
    """
    names = sorted(set(patients))
    random.Random(seed).shuffle(names)
    taken = set(names[: math.ceil(fraction * len(names))])
    return [position for position, patient in enumerate(patients) if patient in taken]


def write(path: Path, images: Sequence[Radiograph], folds: Folds, rule: Mapping[str, Any]) -> None:
    """Write the fold CSV in catalog order, and beside it, as JSON, the rule that it was made by."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(rule_file(path), rule)
    write_csv(path, COLUMNS, ([image.name, image.patient, folds[image.name]] for image in images))


def rule_file(path: Path) -> Path:
    """Where the rule is kept that a fold CSV was made by."""
    return path.with_suffix(".json")


def read_rule(path: Path) -> dict[str, Any] | None:
    """The rule that a fold CSV was made by; None where nobody noted it. Raises BonepipeError where it is damaged."""
    try:
        return read_json(rule_file(path), dict[str, Any], f"delete it to take {path.name} as it is")
    except FileNotFoundError:
        return None


def check_rule(spec: FoldSpec) -> None:
    """Raise BonepipeError where the file was made by another rule than the spec's, which would then do nothing."""
    made = read_rule(Path(spec.file))
    # Earlier files did not note all settings: what a file does not tell of is taken for unchanged.
    changes = [] if made is None else [key for key in made if made[key] != spec.rule.get(key)]
    if made is not None and changes:
        listed = ", ".join(f"folds.{key}={made.get(key)!r} and not {spec.rule.get(key)!r}" for key in changes)
        raise BonepipeError(
            f"{spec.file}: was made with {listed}; put the settings back, name another file (folds.file=...), or "
            "delete it to split anew"
        )


def read(path: Path, images: Sequence[Radiograph], count: int, *, groups: bool = True) -> Folds:
    """Read a fold CSV and verify it against the dataset.

    Args:
        images: that it must list.
        count: number of folds; 1 for a hold-out, whose other images are marked -1.
        groups: whether a patient in two folds is a fault.

    Raises:
        BonepipeError: a column is missing, a patient sits in two folds, an image is missing, unknown or listed twice,
            a fold number is out of range or empty.
    """
    rows = _read_rows(path)
    for message in _faults(rows, images, count, groups):
        raise BonepipeError(f"{path}: {message}")
    return {row["image_name"]: int(row["fold"]) for _, row in rows}


def find_faults(path: Path, images: Sequence[Radiograph], count: int, *, groups: bool = True) -> list[str]:
    """Everything that is wrong with a fold CSV. Raises BonepipeError where it cannot be read as one."""
    return list(_faults(_read_rows(path), images, count, groups))


def _faults(lines: Sequence[tuple[int, Row]], images: Sequence[Radiograph], count: int, groups: bool) -> Iterator[str]:
    """What is wrong with the rows of a fold CSV, one message after the other."""
    yield from _number_faults(lines, count)
    rows = [row for _, row in lines]
    yield from _image_faults([row["image_name"] for row in rows], images)
    if groups:
        yield from _patient_faults(rows, images)
    for fold in range(count):
        if all(row["fold"] != str(fold) for row in rows):
            yield f"column fold: no image in fold {fold} of {count} (folds.count={count})"
    if count == 1 and all(row["fold"] == "0" for row in rows):
        yield "column fold: every image is held out, none is left to train on"


def _read_rows(path: Path) -> list[tuple[int, Row]]:
    rows = read_csv(path, COLUMNS, way_out="; `bonepipe split` writes it")
    if not rows:
        raise BonepipeError(f"{path}: no rows; `bonepipe split` writes them")
    return rows


def ensure(spec: FoldSpec, images: Sequence[Radiograph]) -> Folds:
    """The folds of the file, made first where there is none, and always verified as read back from disk.

    Raises:
        BonepipeError: as `split`, `check_rule` and `read`.
    """
    path = Path(spec.file)
    if not path.exists():
        write(path, images, split(images, spec), spec.rule)
    check_rule(spec)
    return read(path, images, spec.count, groups=spec.groups)


def is_of_another_rule(spec: FoldSpec, images: Sequence[Radiograph], folds: Folds) -> bool:
    """Whether folds of a file that nobody noted a rule for, as one made by hand, are not those that the spec makes."""
    if read_rule(Path(spec.file)) is not None:
        return False
    try:
        return folds != split(images, spec)
    except BonepipeError:  # it could not make any
        return True


def torn_patients(images: Sequence[Radiograph], folds: Folds) -> list[str]:
    """The patients whose images lie in more than one fold: they make the out-of-fold Dice too good."""
    return list(_torn((image.patient, folds[image.name]) for image in images))


def _torn(pairs: Iterable[tuple[str, Any]]) -> dict[str, set[Any]]:
    """The folds of each patient that has several, from pairs of patient and fold."""
    seen: dict[str, set[Any]] = defaultdict(set)
    for patient, fold in pairs:
        seen[patient].add(fold)
    return {patient: numbers for patient, numbers in seen.items() if len(numbers) > 1}


def summary(images: Sequence[Radiograph], folds: Folds) -> str:
    """A line a fold: patients, images, rotated wrists where known."""
    lines = []
    for fold in sorted(set(folds.values()), key=lambda fold: (fold == TRAIN_ONLY, fold)):
        rows = [image for image in images if folds[image.name] == fold]
        rotated = sum(bool(image.rotated) for image in rows)
        known = f", {rotated} with a rotated wrist" if any(image.rotated is not None for image in rows) else ""
        title = "training only" if fold == TRAIN_ONLY else f"fold {fold}"
        lines.append(f"{title}: {len({r.patient for r in rows})} patients, {len(rows)} images{known}")
    return "\n".join(lines)


def _number_faults(lines: Sequence[tuple[int, Row]], count: int) -> Iterator[str]:
    numbers = {str(fold) for fold in range(count)} | ({str(TRAIN_ONLY)} if count == 1 else set())
    for line, row in lines:
        if row["fold"] not in numbers:
            yield f"line {line}, column fold: {quoted(row['fold'])} is not one of 0..{count - 1} (folds.count={count})"


def _image_faults(names: Sequence[str], images: Sequence[Radiograph]) -> Iterator[str]:
    way_out = "the file belongs to other data; data.name=NAME takes folds/NAME.csv, or delete it to split anew"
    known = {image.name for image in images}
    for name, times in Counter(names).items():
        if times > 1:
            yield f"column image_name: {reason(name, 100)} is listed twice"
    missing, unknown = sorted(known - set(names)), sorted(set(names) - known)
    if missing:
        yield f"column image_name: {missing[0]} is missing ({len(missing)} images in all); {way_out}"
    if unknown:
        yield f"column image_name: {reason(unknown[0], 100)} is not in the dataset ({len(unknown)} in all); {way_out}"


def _patient_faults(rows: Sequence[Row], images: Sequence[Radiograph]) -> Iterator[str]:
    """A patient in two folds leaks: his left hand would tell the model about his right hand."""
    patients = {image.name: image.patient for image in images}
    pairs = ((patients[row["image_name"]], row["fold"]) for row in rows if row["image_name"] in patients)
    for patient, numbers in _torn(pairs).items():
        listed = " and ".join(sorted(numbers))
        yield f"column fold: patient {patient} leaks across folds {listed}; give all his images one fold"
