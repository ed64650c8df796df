"""What the pipeline tells about one run of Weights & Biases while it lasts."""

import hashlib
import importlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from bonepipe.interruption import is_stopping
from bonepipe.training.tracking.ending import FAILED, KILLED, end
from bonepipe.training.tracking.history import AXES, STEPS, Row, extremes, read_rows, told_rows
from bonepipe.training.tracking.log import Growth, cut, fault_of, log_of
from bonepipe.training.tracking.staging import add_file
from bonepipe.training.tracking.telling import cause, let_go, say
from bonepipe.training.tracking.upload import Upload

WAY_OUT = "free some for later runs; a fold's metrics.csv and steps.csv keep its numbers"


class Run:
    """What the pipeline tells about a run of Weights & Biases while it lasts; None tells nobody.

    As a context it ends the run, as failed where an exception leaves the block.

    Args:
        run: of W&B.
        upload: what may be sent; of the rest nothing is written either.
    """

    def __init__(self, run: Any = None, upload: Upload = Upload.NUMBERS) -> None:
        self.run, self.upload = run, upload
        self._told = 0  # rows of the history
        self._complained = False
        self._growth = Growth(log_of(run)) if run is not None and run.offline else None

    @property
    def active(self) -> bool:
        """Whether anybody is told."""
        return self.run is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        else:
            self.finish(KILLED if issubclass(kind, KeyboardInterrupt) or is_stopping() else FAILED)

    def epochs(self, rows: Sequence[Row], steps: Sequence[Row] = ()) -> None:
        """All epochs of a training so far, as in metrics.csv, and the steps in them, as in steps.csv.

        A training tells the same rows in the same order each time, after an interruption too, and W&B counts them:
        those that it has are passed over. Nobody else knows which of them it had written down.
        """
        self._tell(lambda run: self._epochs(run, rows, steps))

    def _epochs(self, run: Any, rows: Sequence[Row], steps: Sequence[Row]) -> None:
        if not self._told:
            for name, about in AXES.items():
                run.define_metric(name, **about)
        self._told = max(self._told, run.starting_step)  # the latter counts the rows that an online run has already
        for row in islice(told_rows(rows, steps), self._told, None):
            if self._growth:
                self._growth.check()
            run.log(row)
            self._told += 1
        if run.starting_step:
            run.summary.update(extremes(rows))

    def earlier_epochs(self, path: Path, *, complete: bool) -> None:
        """The epochs in the metrics.csv of an interrupted run; the last of an incomplete one may be repeated."""
        self._tell(
            lambda run: self._epochs(run, read_rows(path)[: None if complete else -1], read_rows(path.with_name(STEPS)))
        )

    def summarise(self, values: Mapping[str, Any]) -> None:
        """Final values, for the table of runs."""
        self._tell(lambda run: run.summary.update(self.upload.values(values)))

    def table(self, name: str, columns: list[str], rows: list[list[Any]]) -> None:
        """A table on the run's page; None is an empty cell."""
        self._show(name, lambda wandb: wandb.Table(columns=[*columns], data=[*rows]))

    def bars(self, name: str, title: str, values: Mapping[str, float]) -> None:
        """A bar a key."""
        rows = [[key, value] for key, value in values.items()]

        def chart(wandb: Any) -> Any:
            return wandb.plot.bar(wandb.Table(columns=["name", "value"], data=rows), "name", "value", title)

        self._show(name, chart)

    def lines(self, name: str, title: str, across: tuple[str, Sequence[float]], up: Mapping[str, list[float]]) -> None:
        """A line a key, over the values `across` whose name comes before them."""
        axis, xs = across
        self._show(name, lambda wandb: wandb.plot.line_series([*xs], [*up.values()], [*up], title, axis))

    def figure(self, name: str, path: Path) -> None:
        """A drawing of numbers, from a file: nothing in it is of an image."""
        self._show(name, lambda wandb: wandb.Image(str(path)))

    @property
    def shows_pictures(self) -> bool:
        """Whether there is anybody to show radiographs to."""
        return self.active and self.upload >= Upload.PICTURES

    def overlay(self, name: str, image: np.ndarray, layers: Mapping[str, np.ndarray], classes: Sequence[str]) -> None:
        """A radiograph uint8 `[H, W]` with label maps `[H, W]` (0 background, 1 + class) to switch on and off."""
        if not self.shows_pictures:
            return
        masks = {key: {"mask_data": layer, "class_labels": _labels(layer, classes)} for key, layer in layers.items()}
        self._show(name, lambda wandb: wandb.Image(image, masks=masks))

    def _show(self, name: str, make: Callable[[Any], Any]) -> None:
        """What a function makes of the module wandb, on the run's page."""
        self._tell(lambda run: self._log(run, name, make(importlib.import_module("wandb"))))

    def _log(self, run: Any, name: str, shown: Any) -> None:
        if self.upload is not Upload.ALL:
            keep_as_file(run, name, shown)
        run.log({name: shown})

    def artifact(self, name: str, kind: str, files: list[Path]) -> None:
        """Files to keep with the run, under a name that W&B takes."""
        if self.upload >= Upload.ALL:
            self._tell(lambda run: _log_artifact(run, artifact_name(name), kind, files))

    def finish(self, code: int = 0) -> None:
        """Flush and end the run, 0 for a success; how that went is said whatever was said before."""
        self._complained = False
        self._tell(lambda run: end(run, code))
        self.run = None

    def _tell(self, call: Callable[[Any], object]) -> None:
        """Call a function of the run, if there is one; what W&B throws is said once."""
        if (run := self.run) is None:
            return
        try:
            call(run)
        except Exception as error:  # of any kind: of W&B's service, its files, the network
            if fault := run.offline and fault_of(error):
                say(f"goes on untracked: no room in {log_of(run).parents[1]} ({fault}); {WAY_OUT}")
            elif not self._complained:
                say(f"goes on although W&B does not take everything ({cause(error)})")
            self._complained = True
            if fault or isinstance(error, ConnectionError):  # nothing more is written down, or its service has died
                self.run = None
                let_go(run)
            if fault:
                cut(log_of(run))


def keep_as_file(run: Any, name: str, shown: Any) -> None:
    """Have a table, or that of a chart, be a file of the run alone.

    W&B would also make an artifact of it, whose manifest names the path of the file on this machine; it makes none of a
    table that belongs to the run already.
    """
    import wandb

    if isinstance(shown, wandb.plot.CustomChart):
        shown.set_key(name)
        name, shown = shown.spec.table_key, shown.table
    if isinstance(shown, wandb.Table):
        shown.bind_to_run(run, name, run.step)


def artifact_name(name: str) -> str:
    """A name as W&B takes it, at most 128 ASCII letters, digits, `_`, `-` and `.`; different for different names."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:100]
    return name if plain == name else f"{plain}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:10]}"


def _labels(layer: np.ndarray, classes: Sequence[str]) -> dict[int, str]:
    """The names of the labels in a map: W&B lists all that it is given."""
    return {0: "background"} | {label: classes[label - 1] for label in np.unique(layer).tolist() if label}


def _log_artifact(run: Any, name: str, kind: str, files: list[Path]) -> None:
    import wandb

    artifact = wandb.Artifact(name, kind)
    for path in files:
        add_file(artifact, path, Path(run.dir).parent)
    run.log_artifact(artifact)
