"""What the pipeline tells about one run of Weights & Biases while it lasts."""

import hashlib
import importlib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from bonepipe.files import read_csv
from bonepipe.training.tracking.staging import add_file
from bonepipe.training.tracking.telling import cause, let_go, say


class Run:
    """What the pipeline tells about a run of Weights & Biases while it lasts; None tells nobody.

    As a context it ends the run, as failed where an exception leaves the block.
    """

    def __init__(self, run: Any = None) -> None:
        self.run = run
        self._next_epoch = 0
        self._complained = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.finish(failed=kind is not None)

    def epochs(self, rows: Iterable[Mapping[str, float]]) -> None:
        """Metrics of epochs, as in metrics.csv, each under the number of its epoch; those told before are passed over.

        An interrupted run tells all its epochs again: nobody knows which of them W&B had written down.
        """
        self._tell(lambda run: self._epochs(run, rows))

    def _epochs(self, run: Any, rows: Iterable[Mapping[str, float]]) -> None:
        for row in rows:
            epoch = int(row["epoch"])
            if epoch >= max(self._next_epoch, run.starting_step):  # the latter counts what an online run has already
                run.log({**row, "trainer/global_step": row["step"]}, step=epoch, commit=True)
                self._next_epoch = epoch + 1

    def earlier_epochs(self, path: Path, *, complete: bool) -> None:
        """The epochs in the metrics.csv of an interrupted run; the last of an incomplete one may be repeated."""
        self._tell(lambda run: self._epochs(run, _rows(path)[: None if complete else -1]))

    def summarise(self, values: Mapping[str, Any]) -> None:
        """Final values, for the table of runs."""
        self._tell(lambda run: run.summary.update(dict(values)))

    def table(self, name: str, columns: list[str], rows: list[list[Any]]) -> None:
        """A table on the run's page."""
        self._show(name, lambda wandb: wandb.Table(columns=[*columns], data=[*rows]))

    def overlay(self, name: str, image: np.ndarray, layers: Mapping[str, np.ndarray], classes: list[str]) -> None:
        """An image uint8 `[H, W]` with label maps `[H, W]` (0 background, 1 + class) to switch on and off."""
        labels = dict(enumerate(["background", *classes]))
        masks = {key: {"mask_data": layer, "class_labels": labels} for key, layer in layers.items()}
        self._show(name, lambda wandb: wandb.Image(image, masks=masks))

    def picture(self, name: str, path: Path) -> None:
        """A picture from a file."""
        self._show(name, lambda wandb: wandb.Image(str(path)))

    def _show(self, name: str, make: Callable[[Any], Any]) -> None:
        """What a function makes of the module wandb, on the run's page."""
        self._tell(lambda run: run.log({name: make(importlib.import_module("wandb"))}))

    def artifact(self, name: str, kind: str, files: list[Path]) -> None:
        """Files to keep with the run, under a name that W&B takes."""
        self._tell(lambda run: _log_artifact(run, artifact_name(name), kind, files))

    def finish(self, *, failed: bool = False) -> None:
        """Flush and end the run."""
        self._tell(lambda run: run.finish(exit_code=int(failed)))
        self.run = None

    def _tell(self, call: Callable[[Any], object]) -> None:
        """Call a function of the run, if there is one; what W&B throws is said once."""
        if (run := self.run) is None:
            return
        try:
            call(run)
        except Exception as error:  # of any kind: of W&B's service, its files, the network
            if not self._complained:
                say(f"goes on although W&B does not take everything ({cause(error)})")
            self._complained = True
            if isinstance(error, ConnectionError):  # its service has died
                self.run = None
                let_go(run)


def artifact_name(name: str) -> str:
    """A name as W&B takes it, at most 128 ASCII letters, digits, `_`, `-` and `.`; different for different names."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:100]
    return name if plain == name else f"{plain}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:10]}"


def _rows(path: Path) -> list[dict[str, float]]:
    """The rows of a metrics.csv, without what was not measured."""
    return [{key: float(value) for key, value in row.items() if value} for _, row in read_csv(path, ("epoch", "step"))]


def _log_artifact(run: Any, name: str, kind: str, files: list[Path]) -> None:
    import wandb

    artifact = wandb.Artifact(name, kind)
    for path in files:
        add_file(artifact, path, Path(run.dir).parent)
    run.log_artifact(artifact)
