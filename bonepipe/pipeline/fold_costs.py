"""What a fold costs: time and memory, measured while it is trained and predicted, kept beside its results.

Equal trainings write equal weights; what differs from time to time therefore has a file of its own, costs.json.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import TypedDict

from bonepipe.errors import BonepipeError
from bonepipe.files import write_json
from bonepipe.forms import read_json
from bonepipe.pipeline.experiment import Experiment, say
from bonepipe.pipeline.run_folder import METRICS

if TYPE_CHECKING:
    import torch

    from bonepipe.inference.oof.predict import Predict

COSTS = "costs.json"  # of a fold


class Costs(TypedDict, total=False):
    """Seconds, and bytes; None where they are not known."""

    device: str
    peak_memory: float | None
    seconds_an_image: float | None


class Stopwatch:
    """Times whatever predicts, views and windows among it.

    Args:
        predict: grey bytes `[N, h, w]` to probabilities `[N, C, h, w]`.
    """

    def __init__(self, predict: "Predict") -> None:
        self.predict = predict
        self.batches: list[tuple[int, float]] = []  # images and seconds

    def __call__(self, images: "torch.Tensor") -> "torch.Tensor":
        """Predict, and wait for the device: the next thing that is done with the answer would wait too."""
        import torch

        start = time.perf_counter()
        maps = self.predict(images)
        if maps.device.type != "cpu":
            getattr(torch, maps.device.type).synchronize()
        self.batches.append((len(images), time.perf_counter() - start))
        return maps

    @property
    def seconds_an_image(self) -> float:
        """The mean, without the first batch where there are others: kernels are chosen and compiled in it."""
        counted = self.batches[1:] or self.batches
        return sum(seconds for _, seconds in counted) / max(1, sum(count for count, _ in counted))


def note(folder: Path, **costs: float | str | None) -> None:
    """Add costs to those that a fold's folder knows."""
    write_json(folder / COSTS, {**read(folder), **costs})


def read(folder: Path) -> dict[str, Any]:
    """The costs that were noted; none where the file is missing or damaged, which it says: nothing depends on them."""
    try:
        return {**read_json(folder / COSTS, Costs, "nothing but the costs that are shown depends on it")}
    except FileNotFoundError:
        return {}
    except BonepipeError as error:
        say(f"warning: {error}")
        return {}


def epoch_rows(folder: Path) -> list[dict[str, float]]:
    """The rows of a fold's metrics.csv; none where it cannot be read: no result depends on it."""
    from bonepipe.training.tracking.history import read_rows

    try:
        return read_rows(folder / METRICS)
    except BonepipeError:
        return []


def of_fold(folder: Path) -> dict[str, float]:
    """Time and memory that a fold took, as far as it was measured."""
    noted, rows = read(folder), epoch_rows(folder)
    cost = {"cost/training_s": sum(row.get("seconds", 0.0) for row in rows)} if rows else {}
    if noted.get("seconds_an_image") is not None:
        cost["cost/inference_ms"] = 1e3 * noted["seconds_an_image"]
    if noted.get("peak_memory") is not None:
        cost["cost/peak_memory_gib"] = noted["peak_memory"] / 2**30
    return cost


def of_model(experiment: Experiment) -> dict[str, float]:
    """Parameters, and operations of a forward pass of one image at the size of training."""
    from bonepipe.models.costs import operations

    model = experiment.model(pretrained=False).to("meta")
    cost: dict[str, float] = {"cost/parameters": sum(parameter.numel() for parameter in model.parameters())}
    try:
        return {**cost, "cost/gflops": operations(model, experiment.data.shape) / 1e9}
    except RuntimeError as error:  # an operation that cannot be counted without arithmetic
        say(f"warning: the model's operations are not known ({error})")
        return cost


def of_all(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Time of all folds, mean time of an image, and the most memory, of the folds that know it."""
    ways: dict[str, Callable[[list[float]], Any]] = {
        "cost/training_s": sum,
        "cost/inference_ms": np.mean,
        "cost/peak_memory_gib": max,
    }
    known = {key: [row[key] for row in rows if key in row] for key in ways}
    return {key: float(ways[key](values)) for key, values in known.items() if values}
