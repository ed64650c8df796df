"""What was chosen out of fold and is applied to every prediction: the content of thresholds.json."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NotRequired

from annotated_types import Ge, Le
from typing_extensions import TypedDict

from bonepipe.data import strata
from bonepipe.data.catalog import Radiograph
from bonepipe.data.strata import StrataSpec
from bonepipe.errors import BonepipeError, quoted, reason
from bonepipe.files import write_json
from bonepipe.forms import read_json
from bonepipe.pipeline.run_folder import THRESHOLDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from bonepipe.inference.postprocess.operations import ChosenOperations, Operations, PostprocessSpec
    from bonepipe.inference.thresholds import ThresholdChoice
    from bonepipe.labels.cutout import Cutout

    Refine = Callable[[list[Cutout], tuple[int, int]], list[Cutout]]


Probability = Annotated[float, Ge(0), Le(1)]  # which NaN is not


class Thresholds(TypedDict):
    """Of all images, or of those of a stratum."""

    thresholds: dict[str, Probability]


class Content(Thresholds):
    """What thresholds.json says of predictions; the rest of it is for people."""

    by_stratum: NotRequired[dict[str, Thresholds]]
    postprocess: NotRequired[dict[str, list[str]] | None]
    crf: NotRequired[list[str]]


@dataclass(frozen=True)
class Decisions:
    """Thresholds, operations and CRF of each class.

    Attributes:
        thresholds: one a class, in class order.
        by_stratum: stratum -> thresholds, where strata have their own.
        operations: of each class's masks.
        crf: names of the classes whose probabilities the CRF refines.
    """

    thresholds: list[float]
    by_stratum: dict[str, list[float]] = field(default_factory=dict)
    operations: "list[Operations]" = field(default_factory=list)
    crf: tuple[str, ...] = ()

    def limits(self, images: Sequence[Radiograph], spec: StrataSpec) -> list[list[float]]:
        """Thresholds in class order, a row an image; a stratum without its own has the common ones."""
        if not self.by_stratum:
            return [self.thresholds] * len(images)
        return [self.by_stratum.get(label, self.thresholds) for label in strata.stratify(images, spec)]

    def refine(self, spec: "PostprocessSpec") -> "Refine":
        """What is done to an image's masks, given its height and width."""
        return partial(spec.apply_all, self.operations)

    def plain(self) -> dict[str, Any]:
        """Everything as plain values, to compare and to record."""
        return {**vars(self), "operations": [list(names) for names in self.operations], "crf": list(self.crf)}


def read(folder: Path, classes: Sequence[str]) -> Decisions:
    """What a folder's cross-validation chose.

    Raises:
        BonepipeError: thresholds.json is missing, broken, or lacks a class.
    """
    path = folder / THRESHOLDS
    way_out = "`bonepipe train-all` writes it, for an ensemble or a cascade the command that made it"
    try:
        content = read_json(path, Content, f"move it away, and {way_out}")
        kept = content.get("postprocess") or {name: [] for name in classes}
        unknown = set(content.get("crf", ())) - set(classes)
        if unknown:
            raise ValueError(f"unknown classes {quoted(sorted(unknown))}")
        return Decisions(
            _in_order(content["thresholds"], classes),
            {key: _in_order(row["thresholds"], classes) for key, row in content.get("by_stratum", {}).items()},
            [tuple(kept[name]) for name in classes],
            tuple(content.get("crf", ())),
        )
    except FileNotFoundError as error:
        raise BonepipeError(f"{path}: no such file; {way_out}") from error
    except KeyError as error:
        raise BonepipeError(f"{path}: says nothing of class {error}; move it away, and {way_out}") from error
    except ValueError as error:
        raise BonepipeError(f"{path}: {reason(error)}; move it away, and {way_out}") from error


def _in_order(values: Mapping[str, Any], classes: Sequence[str]) -> list[float]:
    return [float(values[name]) for name in classes]


def write(
    folder: Path,
    classes: Sequence[str],
    choice: "ThresholdChoice",
    by_stratum: "Mapping[str, ThresholdChoice]",
    operations: "ChosenOperations | None",
    crf: "ChosenOperations | None",
) -> None:
    """Write what was chosen, and what each choice gains."""
    content = _row(classes, choice)
    if by_stratum:
        content["by_stratum"] = {stratum: _row(classes, own) for stratum, own in by_stratum.items()}
    if operations is not None:
        content["postprocess"] = dict(zip(classes, map(list, operations.operations), strict=True))
        content["postprocess_gain"] = dict(zip(classes, operations.gain.tolist(), strict=True))
        content["postprocess_standard_error"] = dict(zip(classes, operations.error.tolist(), strict=True))
    if crf is not None:
        content["crf"] = [name for name, chosen in zip(classes, crf.operations, strict=True) if chosen]
        content["crf_gain"] = dict(zip(classes, crf.gain.tolist(), strict=True))
        content["crf_standard_error"] = dict(zip(classes, crf.error.tolist(), strict=True))
    write_json(folder / THRESHOLDS, content)


def _row(classes: Sequence[str], choice: "ThresholdChoice") -> dict[str, Any]:
    columns = {"thresholds": choice.thresholds, "cross_fitted_gain": choice.gain, "standard_error": choice.error}
    rows = {key: dict(zip(classes, values.tolist(), strict=True)) for key, values in columns.items()}
    return {**rows, "kept": [name for name, kept in zip(classes, choice.kept, strict=True) if kept]}
