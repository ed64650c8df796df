"""`--cfg`: the settings that a command would run with."""

import argparse
from collections.abc import Sequence


def need_nothing(actions: Sequence[argparse.Action]) -> None:
    """What a command works on may be left out where only its settings are asked for."""
    for action in actions:
        action.required = False
        action.nargs = "*" if action.nargs == "+" else action.nargs


def settings(given: argparse.Namespace) -> str:
    """As YAML: those of the folder that `--run` names, else those that the overrides make of conf/."""
    from bonepipe.config import as_yaml, compose

    if not getattr(given, "run", None):
        return as_yaml(compose(given.overrides, checked=False))
    from bonepipe.pipeline.predictors.opening import open_predictor

    return as_yaml(open_predictor(given.run, given.overrides).experiment.config)
