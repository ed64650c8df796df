"""How a fold's training went, from the files that it left."""

import math
from pathlib import Path

import numpy as np

from bonepipe.errors import BonepipeError, reason
from bonepipe.files import read_csv
from bonepipe.inference.epochs import FoldHistory
from bonepipe.pipeline.run_folder import METRICS, WEIGHTS

DICE = "val/dice"  # the column of metrics.csv


def read_history(folder: Path, images: int) -> FoldHistory:
    """Read a fold's metrics.csv, and from its weights whether they are an average.

    Args:
        folder: of the fold.
        images: how many it validates.

    Raises:
        BonepipeError: a file cannot be read, or has no validation in it.
    """
    from bonepipe.training.weights_file import WAY_OUT, read_facts

    path, chosen = folder / METRICS, read_facts(folder / WEIGHTS).get("chosen", {})
    if chosen.get("source") == "average" and "dice" not in chosen:
        raise BonepipeError(f"{folder / WEIGHTS}: does not say which Dice its average has; {WAY_OUT}")
    try:
        rows = [(int(row["epoch"]), float(row[DICE])) for _, row in read_csv(path, ["epoch", DICE]) if row[DICE]]
    except ValueError as error:
        raise BonepipeError(f"{path}: cannot be read ({reason(error)})") from error
    validated = sorted(row for row in rows if math.isfinite(row[1]))
    if not validated:
        raise BonepipeError(f"{path}: has no validation in column {DICE}")
    epochs, dice = zip(*validated, strict=True)
    average = float(chosen["dice"]) if chosen.get("source") == "average" else None
    return FoldHistory(np.array(epochs), np.array(dice), average, images)
