"""The forms of the JSON files of a run's folder: what is read of them has these types, or the file is refused."""

from typing import Annotated, Any, Generic, NotRequired, TypeVar

from annotated_types import Ge, Le, Predicate
from typing_extensions import TypedDict


def _names_constructors(node: Any) -> bool:
    if not isinstance(node, dict):
        return True
    return isinstance(node.get("_target_", ""), str) and all(map(_names_constructors, node.values()))


From = TypeVar("From")
Settings = Annotated[dict[str, Any], Predicate(_names_constructors)]


class MadeFrom(TypedDict, total=False):
    """What steps are made from; each has keys of its own beside these."""

    settings: Settings
    files: dict[str, str]


class Entry(TypedDict, Generic[From]):
    """A step in fingerprint.json, and what it is made from."""

    inputs: From
    outputs: dict[str, str | None]
    versions: NotRequired[dict[str, str]]


class Data(TypedDict):
    """The class of a dataset's spec, and its settings."""

    _target_: str


class TrainingSettings(TypedDict):
    """The settings of all groups; those of the data are asked for."""

    data: Data


class TrainedOn(TypedDict):
    """What a fold was trained on: its settings, the digests of files, and which fold validates each image."""

    settings: TrainingSettings
    files: dict[str, str]
    folds: dict[str, int]


Training = Entry[TrainedOn]


class Weight(TypedDict):
    """The second stage's share in the probabilities of a class."""

    weight: Annotated[float, Ge(0), Le(1)]


class Cascade(TypedDict):
    """The folders of a cascade's stages, and the weights of the classes that both predict."""

    first: str
    second: str
    classes: dict[str, Weight]


class Scores(TypedDict, total=False):
    """Of scores.json what is more than a number."""

    folds: list[float]
    folds_chosen: list[float]
    oof_dice_per_class: dict[str, float]
    test_dice_per_class: dict[str, float]
