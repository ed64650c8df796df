"""Which settings may be overridden where finished results are used; imports nothing that a mistake would wait for."""

from collections.abc import Sequence
from pathlib import Path

from bonepipe.errors import UsageError, suggestion

# What the results of an ensemble or a cascade may have of their own; all else is its members'.
OWN = (
    "thresholds",
    "prediction",
    "postprocess.operations",
    "postprocess.min_area",
    "strata",
    "tracking",
    "device",
    "data.root",
    "data.negatives",
    "data.limits",
)
OF_PREDICTION = (
    "prediction",
    "device",
    "data.root",
    "data.limits",
    "tracking",
)  # finished results need not be remade for them
OF_NETWORKS = ("prediction", "device", "data.root", "data.limits")  # those that the networks themselves ask for
FOLDS = "prediction.folds"


OF_MEMBERS = "belongs to the members: `folds: [0, 1]` in an ensemble's YAML file names theirs"


def own_settings(words: Sequence[str]) -> dict[str, str]:
    """Overrides by key, refused with a UsageError where one would have to change the members."""
    changes = dict(word.partition("=")[::2] for word in words)
    for key in changes:
        if not _among(key, OWN):
            raise UsageError(
                f"{key}: belongs to the runs, which are trained; here {', '.join(OWN)} can be set{suggestion(key, OWN)}"
            )
        if key == FOLDS:
            raise UsageError(f"{key}: {OF_MEMBERS}")
    return changes


def of_networks(words: Sequence[str]) -> list[str]:
    """Of overrides those that say how and where networks predict: all members and stages of a result take them."""
    return [word for word in words if _among(word.partition("=")[0], OF_NETWORKS)]


def refuse_folds(folder: Path, words: Sequence[str]) -> None:
    """Refuse with a UsageError to choose the folds of what has members."""
    if any(word.partition("=")[0] == FOLDS for word in words):
        raise UsageError(f"--run {folder}: {FOLDS}: {OF_MEMBERS}")


def require_of_prediction(folder: Path, words: Sequence[str]) -> None:
    """Refuse with a UsageError what would have to make a folder's finished results anew."""
    for word in words:
        key = word.partition("=")[0]
        if not _among(key, OF_PREDICTION):
            raise UsageError(
                f"--run {folder}: {key} is what its results were made with; here {', '.join(OF_PREDICTION)} can be set"
            )


def _among(key: str, names: Sequence[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in names)
