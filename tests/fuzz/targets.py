"""All that is tried, by the name that `--only` takes."""

from collections.abc import Callable
from pathlib import Path

from .archives import arrays_target, checkpoint_target, weights_target
from .engine import Target
from .settings import config_target, overrides_target, yaml_target
from .tables import folds_target, metadata_target, run_tables_target
from .texts import code_target, corrections_target, pseudo_target, submission_target
from .trees import annotation_target, run_json_target

# Each makes its targets, and what they need in the folder that their files will lie in.
TARGETS: dict[str, Callable[[Path], list[Target]]] = {
    "rle": code_target,
    "annotations": annotation_target,
    "submissions": submission_target,
    "folds": folds_target,
    "corrections": corrections_target,
    "pseudo-labels": pseudo_target,
    "metadata": metadata_target,
    "configs": config_target,
    "overrides": overrides_target,
    "yaml": yaml_target,
    "run-json": run_json_target,
    "run-tables": run_tables_target,
    "checkpoints": checkpoint_target,
    "weights": weights_target,
    "arrays": arrays_target,
}
