"""Weights & Biases: one run a fold, one for the cross-validation, one for the submission, all in one group.

Tracking never costs a result: whatever W&B throws, the work goes on, and one line on stderr names the cause.
"""

import contextlib
import hashlib
import importlib
import netrc
import os
import re
import secrets
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlparse

import numpy as np

from bonepipe.files import read_csv, replacing

REPLACED = "replaced"  # folder in wandb/ of offline parts that later ones tell whole
PATIENCE = 900.0  # seconds that the end of a run waits for uploads; what is left stays on the disk for `wandb sync`
# What W&B's own variable may say, older words of its among them.
WANDB_MODES = {
    "": "", "online": "online", "offline": "offline", "disabled": "disabled", "shared": "shared",
    "run": "online", "dryrun": "offline",
}  # fmt: skip


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
                _say(f"goes on although W&B does not take everything ({_cause(error)})")
            self._complained = True
            if isinstance(error, ConnectionError):  # its service has died
                self.run = None
                _let_go(run)


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
        artifact.add_file(str(path))
    run.log_artifact(artifact)


def _say(text: str) -> None:
    print(f"tracking: {text}", file=sys.stderr, flush=True)


def _cause(error: Exception) -> str:
    """An error in a line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def _let_go(run: Any = None) -> None:
    """End W&B's service, dead or alive, so that the next run starts a new one and nothing complains at the exit."""
    with contextlib.suppress(Exception):
        if run is not None:
            run.finish(exit_code=1)
    with contextlib.suppress(Exception, SystemExit):  # it exits with the code of its service
        import wandb

        wandb.teardown()


class Tracking:
    """Starts runs in the place that the config names.

    Args:
        project: on the dashboard.
        mode: `online`, `offline`, `disabled` for no tracking at all, or `auto`: online where a key is at hand.
    """

    def __init__(self, *, project: str = "bonepipe", mode: str = "auto") -> None:
        if mode not in ("auto", "online", "offline", "disabled"):
            raise ValueError(f"mode={mode!r} is not auto, online, offline or disabled")
        if not re.fullmatch(r"[^/\\#?%:\r\n]{1,128}", project):
            raise ValueError(f"project={project!r}: W&B takes 1 to 128 characters, none of / \\ # ? % :")
        if mode == "auto" and (named := os.environ.get("WANDB_MODE", "")) not in WANDB_MODES:
            raise ValueError(f"the variable WANDB_MODE={named!r} is not {', '.join(filter(None, WANDB_MODES))}")
        self.project, self.mode = project, mode

    def start(self, experiment: str, kind: str, name: str, config: Mapping[str, Any], folder: Path) -> Run:
        """Start a run; one of the same experiment and name goes on where it was interrupted.

        Where W&B cannot be had the run is tracked offline, and where that fails too, not at all.

        Args:
            experiment: the group.
            kind: job type: `fold`, `ensemble` or `submission`.
            folder: of the experiment; the run's own files go to `wandb/` in it.
        """
        if self.mode == "disabled":
            return Run()
        mode, causes = self._mode(), []
        for attempt in dict.fromkeys((mode, "offline")):
            try:
                run = self._start(attempt, folder, name, group=experiment, job_type=kind, config=dict(config))
            except Exception as error:  # of any kind: no network, no permission, a bad key
                causes.append(_cause(error))
                _let_go()
            else:
                if causes:
                    _say(f"{name} is tracked offline in {folder / 'wandb'} ({causes[0]})")
                return Run(run)
        _say(f"{name} is not tracked ({causes[-1]})")
        return Run()

    def _mode(self) -> str:
        if self.mode != "auto":
            return self.mode
        named = WANDB_MODES[os.environ.get("WANDB_MODE", "")]
        return named or ("online" if _has_key() else "offline")

    def _start(self, mode: str, folder: Path, name: str, **about: Any) -> Any:
        import wandb

        identity, replaced = _identity(folder / "wandb", name, offline=mode == "offline")
        run = wandb.init(
            project=self.project,
            name=name,
            id=identity,
            resume="allow" if mode == "online" else None,
            dir=str(folder.resolve()),  # W&B's service may have been started in another folder
            mode=mode,  # type: ignore[arg-type]
            settings=wandb.Settings(silent=True, finish_timeout=PATIENCE, finish_timeout_raises=True),
            **about,
        )
        for part in replaced:
            with contextlib.suppress(OSError):  # at worst it stays
                (folder / "wandb" / REPLACED).mkdir(exist_ok=True)
                part.rename(folder / "wandb" / REPLACED / part.name)
        return run


def _has_key() -> bool:
    """Whether an API key is known, in the environment or in ~/.netrc, so that nothing ever asks for a login."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _identity(folder: Path, name: str, *, offline: bool) -> tuple[str, list[Path]]:
    """A run's id, and the folders of earlier parts of it that the new part takes the place of.

    The id lasts as long as the experiment's folder, so that resuming goes on in the same run. A part is told whole
    again, so an offline one that was never synced can go: two of them would be appended to each other. What W&B's
    server knows already cannot be continued offline without a gap or a repetition, so that then a new id begins.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.id"
    identity = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    known = re.fullmatch(r"[\w-]{1,64}", identity, re.ASCII)
    parts = sorted(folder.glob(f"*run-*-{identity}*")) if known else []  # of one second: the later one gets a number
    unsent = [part for part in parts if part.name.startswith("offline-") and not any(part.glob("*.wandb.synced"))]
    if not known or (offline and unsent != parts):
        if identity and not known:
            _say(f"{path}: holds no id of a run, so a new run begins")
        identity = f"{name}-{secrets.token_hex(4)}"
        with replacing(path) as part:
            part.write_text(identity, encoding="utf-8")
    return identity, unsent
