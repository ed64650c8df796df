"""What a fold costs: time and memory, measured while it is trained and predicted, kept beside its results.

Equal trainings write equal weights; what differs from time to time therefore has a file of its own, costs.json.
"""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bonepipe.files import write_json

if TYPE_CHECKING:
    import torch

    from bonepipe.inference.oof.predict import Predict

COSTS = "costs.json"  # of a fold


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


def peak_memory(device: str) -> int | None:
    """The most bytes that this process has held: on the GPU what torch allocated, else its main memory."""
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def note(folder: Path, **costs: float | str | None) -> None:
    """Add costs to those that a fold's folder knows."""
    write_json(folder / COSTS, {**read(folder), **costs})


def read(folder: Path) -> dict[str, Any]:
    """The costs that were noted; none where the file is missing or damaged: nothing depends on them."""
    try:
        content = json.loads((folder / COSTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
