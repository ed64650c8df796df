"""What of a run may leave this machine: numbers, also pictures of radiographs, or all that Weights & Biases takes.

An offline run is written for a later `sync`, so it holds no more than an online one sends.
"""

import re
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Self

CHOICES = ("auto", "numbers", "pictures", "all")
NOT_SENT = "not sent"  # what takes the place of a value

# Of the data's settings only these are told; the others name places, images and patients.
DATA = (
    "_target_", "name", "classes", "size", "fit", "mean", "std", "swaps", "strata", "others", "region", "pseudo_weight",
    "images", "patient_tag",
)  # fmt: skip
PLACES = ("runs", "file", "address")  # settings that are paths or hosts however short they are
TELLING = re.compile(r"[/\\]|\bdata\.\w+=")  # a path; an override of the data

# Of W&B's own records: its Environment record has the command line, the program, the folder, git and the host's name.
QUIET = {
    "x_disable_meta": True, "host": "", "program": "bonepipe", "disable_git": True, "disable_code": True,
    "save_code": False, "console": "off",
}  # fmt: skip


class Upload(IntEnum):
    """What is sent; each sends what those before it do."""

    NUMBERS = 0
    PICTURES = 1
    ALL = 2

    @classmethod
    def chosen(cls, choice: str, *, synthetic: bool) -> Self:
        """What one of CHOICES means for data in which there are no patients, or some."""
        if choice == "auto":
            choice = "all" if synthetic else "numbers"
        return cls[choice.upper()]

    def __str__(self) -> str:
        return (
            "numbers only (tracking.upload=pictures or all sends more)",
            "numbers and pictures (tracking.upload=numbers sends less, all more)",
            "everything (tracking.upload=numbers or pictures sends less)",
        )[self]

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of W&B by which it records nothing else by itself; versions of packages and loads stay."""
        return {} if self is Upload.ALL else QUIET

    def config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """A run's settings, without those that name places, images or patients unless all is sent."""
        if self is Upload.ALL:
            return dict(config)
        data = {key: value if key in DATA else _hidden(value) for key, value in config.get("data", {}).items()}
        others = {key: value for key, value in config.items() if key != "data"}
        return self.values(others) | ({"data": data} if data else {})

    def values(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Results to show, without paths unless all is sent."""
        return dict(values) if self is Upload.ALL else _plain(values)


def _plain(value: Any, key: object = None) -> Any:
    """A value of a config or of results without what tells where something lies."""
    if isinstance(value, Mapping):
        return {name: _plain(inner, name) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    telling = key in PLACES or (isinstance(value, str) and TELLING.search(value))
    return _hidden(value) if telling else value


def _hidden(value: Any) -> Any:
    """What is told of a value that is not sent: whether there is one."""
    return NOT_SENT if value else value
