"""`--cfg`: the settings that a command would run with."""

import argparse
from collections.abc import Sequence
from pathlib import Path


def need_nothing(actions: Sequence[argparse.Action]) -> None:
    """What a command works on may be left out where only its settings are asked for."""
    for action in actions:
        action.required = False
        action.nargs = "*" if action.nargs == "+" else action.nargs


def settings(given: argparse.Namespace) -> str:
    """As YAML: those of the folder that is named, by `--run` or alone, else those that the overrides make of conf/."""
    from bonepipe.config import as_yaml, compose, recompose

    named = [*getattr(given, "runs", []), *getattr(given, "paths", [])]  # by commands that show what is there
    if folder := next((path for path in named if isinstance(path, Path) and path.is_dir()), None):
        from bonepipe.pipeline.run_folder import recorded_config

        return as_yaml(recompose(recorded_config(folder), given.overrides))
    if not getattr(given, "run", None):
        return as_yaml(compose(given.overrides, checked=False))
    from bonepipe.pipeline.predictors.opening import open_predictor

    return as_yaml(open_predictor(given.run, given.overrides).experiment.config)
