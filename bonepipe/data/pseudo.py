"""Pseudo-labels: what an ensemble says of test images, sure enough to train on (Lee 2013).

A CSV with the columns `image_name,class,rle,ambiguous`, a row an image and class. `rle` is where the probability is at
least the confidence c; `ambiguous` is where it lies above 1 - c and below c: these pixels do not count in the loss.
Elsewhere the class is taken to be absent. A JSON file of the same name tells where the labels come from.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bonepipe.data.catalog import Radiograph, test_images
from bonepipe.data.masks import code, planes_of, read_masks, require_inside
from bonepipe.data.spec import DataSpec
from bonepipe.errors import BonepipeError, quoted, reason, suggestion
from bonepipe.files import read_csv, write_csv
from bonepipe.labels import bitplane

COLUMNS = ("image_name", "class", "rle", "ambiguous")


@dataclass(frozen=True)
class PseudoLabel:
    """One image's labels as run-length codes, one a class, at the image's original size.

    Attributes:
        where: the file and the image, for messages.
        sure: where the class is.
        ambiguous: where nobody knows.
    """

    where: str
    sure: tuple[str, ...]
    ambiguous: tuple[str, ...]

    @property
    def ignores(self) -> bool:
        """Whether some pixel does not count."""
        return any(self.ambiguous)

    def apply(self, planes: bitplane.Planes) -> bitplane.Planes:
        """Bit-planes `[H, W, P]` of the sure pixels, whatever `planes` hold; BonepipeError for one beyond the image."""
        return planes_of(self.sure, planes.shape[:2], self.where)

    def require_inside(self, shape: tuple[int, int]) -> None:
        """Raise BonepipeError for pixels beyond an image of this height and width."""
        for texts in (self.sure, self.ambiguous):
            for number, text in enumerate(texts):
                require_inside(text, shape, f"{self.where}, class {number}")

    def ignored_planes(self, shape: tuple[int, int]) -> bitplane.Planes:
        """Bit-planes `[H, W, P]` of the ambiguous pixels."""
        return planes_of(self.ambiguous, shape, self.where)


def whole_masks(path: Path, names: Sequence[str], spec: DataSpec) -> dict[str, PseudoLabel]:
    """The masks of `data.masks` as labels without ambiguous pixels. Raises BonepipeError, see `read_masks`."""
    texts = read_masks(path, names, spec.classes, spec.others or ())
    nothing = ("",) * len(spec.labels)
    return {name: PseudoLabel(f"data.masks={path}: {name}", tuple(texts[name]), nothing) for name in names}


def write(path: Path, rows: Iterable[tuple[str, str, str, str]]) -> None:
    """Write rows of (image name, class, rle, ambiguous), whole."""
    write_csv(path, COLUMNS, rows)


def read(path: Path, classes: Sequence[str], others: Sequence[str] = ()) -> dict[str, PseudoLabel]:
    """Pseudo-labels by image name, of the classes and then the others, which may be missing: they are then nowhere.

    Raises:
        BonepipeError: no such file, a column is missing, an unknown class, bad runs, or an image without a class or
            with one twice.
    """
    known = [*classes, *others]
    codes_of: dict[str, dict[str, tuple[str, str]]] = {}
    for line, row in read_csv(path, COLUMNS, f"data.pseudo: {path}", "; `bonepipe pseudo` writes it", COLUMNS[:2]):
        where = f"{path}: line {line}"
        if row["class"] not in known:
            raise BonepipeError(f"{where}: unknown class {quoted(row['class'])}{suggestion(row['class'], known)}")
        codes_of.setdefault(row["image_name"], {})[row["class"]] = code(where, row), code(where, row, "ambiguous")
    empty = dict.fromkeys(others, ("", ""))
    return {name: _label(path, name, {**empty, **codes}, known) for name, codes in codes_of.items()}


def _label(path: Path, name: str, codes: dict[str, tuple[str, str]], classes: Sequence[str]) -> PseudoLabel:
    missing = [label for label in classes if label not in codes]
    if missing:
        raise BonepipeError(
            f"{path}: {reason(name, 100)} has no row of {missing[0]}; an absent class has an empty code"
        )
    sure, ambiguous = zip(*(codes[label] for label in classes), strict=True)
    return PseudoLabel(f"{path}: {name}", sure, ambiguous)


def pseudo_images(spec: DataSpec) -> list[Radiograph]:
    """The test images that have pseudo-labels, to train on in every fold; none where the spec names no file.

    Raises:
        BonepipeError: the file cannot be used, or names an image that is not in the test set.
    """
    if spec.pseudo is None:
        return []
    wanted = set(read(Path(spec.pseudo), spec.classes, spec.others or ()))
    images = [image for image in test_images(spec) if image.name in wanted]
    if strange := wanted - {image.name for image in images}:
        near = suggestion(min(strange), [image.name for image in test_images(spec)])
        raise BonepipeError(f"{spec.pseudo}: {min(strange)} is not a test image of {spec.root}{near}")
    return [replace(image, split="pseudo") for image in images]
