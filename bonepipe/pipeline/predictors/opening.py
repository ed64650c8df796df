"""What a user names to predict with: the folder of anything finished, or the settings of an experiment."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bonepipe import config as configs
from bonepipe.pipeline import run_folder
from bonepipe.pipeline.experiment import Experiment
from bonepipe.pipeline.predictors.own_settings import refuse_folds, require_of_prediction

if TYPE_CHECKING:
    from bonepipe.pipeline.predictors.base import Predictor


def open_predictor(folder: Path | None, words: Sequence[str]) -> "Predictor":
    """What predicts: that of a folder, or the run of an experiment's settings.

    Args:
        folder: of anything finished; the words then may only change how and where it predicts.
        words: overrides.

    Raises:
        UsageError: an override of what finished results depend on, or a run that sees only a region.
        BonepipeError: there is nothing, or it is not finished.
    """
    if folder is None:
        config = configs.compose(words, checked=False)  # a misspelt setting waits for no import
        from bonepipe.pipeline.predictors.run import require_finished

        configs.check(config)
        return require_finished(Experiment(config))
    require_of_prediction(folder, words)
    if (kind := run_folder.kind_of(folder)) != "run":
        refuse_folds(folder, words)
    from bonepipe.pipeline.predictors.cascade import open_cascade, open_first

    return open_cascade(folder, words) if kind == "cascade" else open_first(folder, words)
