"""`--cfg`: the settings that a command would run with."""

import argparse
from collections.abc import Sequence
from typing import Any


def need_nothing(actions: Sequence[argparse.Action]) -> None:
    """What a command works on may be left out where only its settings are asked for."""
    for action in actions:
        action.required = False
        action.nargs = "*" if action.nargs == "+" else action.nargs


def settings(given: argparse.Namespace) -> dict[str, Any]:
    """Those of the folder that `--run` names, else those that the overrides make of conf/."""
    if getattr(given, "run", None):
        from bonepipe.pipeline.predictors.opening import open_predictor

        return open_predictor(given.run, given.overrides).experiment.config
    from bonepipe.config import compose

    return compose(given.overrides, checked=False)


def show(config: dict[str, Any]) -> None:
    """Print them as YAML."""
    from bonepipe.config import as_yaml

    print(as_yaml(config), end="")
