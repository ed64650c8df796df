"""Weights & Biases: one run a fold, one for the cross-validation, one for the submission, all in one group."""

import netrc
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np


class Run:
    """What the pipeline tells about a run of Weights & Biases while it lasts; None tells nobody."""

    def __init__(self, run: Any = None) -> None:
        self.run = run

    def lightning_logger(self) -> Any:
        """A logger for the Trainer, or False for none."""
        if self.run is None:
            return False
        from pytorch_lightning.loggers import WandbLogger

        return WandbLogger(experiment=self.run, save_dir=self.run.dir)

    def log(self, values: Mapping[str, Any]) -> None:
        """Values at this point of the run."""
        if self.run is not None:
            self.run.log(dict(values))

    def summarise(self, values: Mapping[str, Any]) -> None:
        """Final values, for the table of runs."""
        if self.run is not None:
            self.run.summary.update(dict(values))

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
        if self.run is not None:
            import wandb

            self.log({name: make(wandb)})

    def artifact(self, name: str, kind: str, files: list[Path]) -> None:
        """Files to keep with the run."""
        if self.run is not None:
            import wandb

            artifact = wandb.Artifact(name, kind)
            for path in files:
                artifact.add_file(str(path))
            self.run.log_artifact(artifact)

    def finish(self) -> None:
        """Flush and end the run."""
        if self.run is not None:
            self.run.finish()


class Tracking:
    """Starts runs in the place that the config names.

    Args:
        mode: `online`, `offline`, `disabled` for no tracking at all, or `auto`: online where a key is at hand.
    """

    def __init__(self, *, project: str = "bonepipe", mode: str = "auto") -> None:
        if mode not in ("auto", "online", "offline", "disabled"):
            raise ValueError(f"mode={mode!r} is not auto, online, offline or disabled")
        self.project, self.mode = project, mode

    def start(self, experiment: str, kind: str, name: str, config: Mapping[str, Any], folder: Path) -> Run:
        """Start a run; one of the same experiment and name goes on where it was interrupted.

        Args:
            experiment: the group.
            kind: job type: `fold`, `ensemble` or `submission`.
            folder: of the experiment; the run's own files go to `wandb/` in it.
        """
        if self.mode == "disabled":
            return Run()
        import wandb

        mode = self.mode
        if mode == "auto":
            mode = os.environ.get("WANDB_MODE") or ("online" if _has_key() else "offline")
        run = wandb.init(
            project=self.project,
            group=experiment,
            job_type=kind,
            name=name,
            id=_run_id(folder, name),
            resume="allow" if mode == "online" else None,
            config=dict(config),
            dir=str(folder),
            mode=mode,  # type: ignore[arg-type]
            settings=wandb.Settings(silent=True),
        )
        return Run(run)


def _has_key() -> bool:
    """Whether an API key is known, in the environment or in ~/.netrc, so that nothing ever asks for a login."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _run_id(folder: Path, name: str) -> str:
    """A run id that lasts as long as the experiment's folder, so that resuming goes on in the same run."""
    import secrets

    path = folder / "wandb" / f"{name}.id"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}-{secrets.token_hex(4)}", encoding="utf-8")
    return path.read_text(encoding="utf-8")
