"""What a user names to predict with: the folder of anything finished, or the settings of an experiment."""

from collections.abc import Sequence
from pathlib import Path

from bonepipe import config as configs
from bonepipe.errors import UsageError
from bonepipe.pipeline import run_folder
from bonepipe.pipeline.experiment import Experiment
from bonepipe.pipeline.predictors.base import Predictor
from bonepipe.pipeline.predictors.cascade import open_cascade, open_first
from bonepipe.pipeline.predictors.run import require_finished

OF_PREDICTION = ("prediction", "device", "data.root", "tracking")  # finished results need not be remade for them


def open_predictor(folder: Path | None, words: Sequence[str]) -> Predictor:
    """What predicts: that of a folder, or the run of an experiment's settings.

    Args:
        folder: of anything finished; the words then may only change how and where it predicts.
        words: overrides.

    Raises:
        UsageError: an override of what finished results depend on, or a run that sees only a region.
        BonepipeError: there is nothing, or it is not finished.
    """
    if folder is None:
        return require_finished(Experiment(configs.compose(words)))
    for word in words:
        key = word.partition("=")[0]
        if not any(key == name or key.startswith(f"{name}.") for name in OF_PREDICTION):
            raise UsageError(
                f"--run {folder}: {key} is what its results were made with; here {', '.join(OF_PREDICTION)} can be set"
            )
    return open_cascade(folder, words) if run_folder.kind_of(folder) == "cascade" else open_first(folder, words)
