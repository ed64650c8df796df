"""Which settings of an experiment outlive the options that it was written for."""

from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import Any

from bonepipe.config import GROUPS, Config, conf_dir, flatten, written


def outliving(words: Sequence[str]) -> list[str]:
    """What an experiment sets inside groups of which the words choose another option than it does, a sentence each.

    Settings of an experiment hold for whatever option is chosen. That is meant for some and forgotten for others: a
    learning rate found for one optimiser, no pretrained weights for a small network.

    Args:
        words: overrides that `compose` takes.
    """
    chosen = {key: value.strip("\"'") for key, _, value in (word.lstrip("+").partition("=") for word in words)}
    root = written("config.yaml")
    name = chosen.get("experiment", _choices(root).get("experiment"))
    if "~experiment" in chosen or not (conf_dir() / f"experiment/{name}.yaml").is_file():
        return []
    recipe = written(f"experiment/{name}.yaml")
    usual = {**_choices(root), **_choices(recipe)}
    others = [key for key in GROUPS if key in recipe and key in chosen and chosen[key] != usual.get(key)]
    return [f"experiment={name} sets {line}" for group in others for line in _kept(group, recipe[group], chosen)]


def _kept(group: str, settings: Mapping[str, Any], chosen: Mapping[str, str]) -> list[str]:
    """The settings that the chosen option of a group does not have itself, and that no word gives."""
    own = flatten({group: written(f"{group}/{chosen[group]}.yaml")})
    pairs = {key: value for key, value in flatten({group: settings}).items() if key not in chosen}
    return [
        f"{key}={_plain(value)}, also with {group}={chosen[group]}"
        + (f", whose own is {_plain(own[key])}" if key in own else "")
        for key, value in pairs.items()
        if key not in own or own[key] != value
    ]


def _choices(content: Config) -> dict[str, str]:
    """The option of each group that a file's defaults choose."""
    entries = [entry for entry in content.get("defaults", []) if isinstance(entry, Mapping)]
    return {key.removeprefix("override /"): option for entry in entries for key, option in entry.items()}


def _plain(value: Any) -> str:
    """A value as an override would give it, long lists cut short."""
    from yaml import safe_dump

    return shorten(safe_dump(value, default_flow_style=True, width=1000).splitlines()[0], 60, placeholder=" ...")
