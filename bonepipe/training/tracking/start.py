"""Where a run of Weights & Biases is tracked: online, offline, or nowhere when neither can be had."""

import contextlib
import netrc
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from bonepipe.training.tracking.identity import REPLACED, identify
from bonepipe.training.tracking.run import Run
from bonepipe.training.tracking.staging import keep_in
from bonepipe.training.tracking.telling import cause, let_go, say

PATIENCE = 900.0  # seconds that the end of a run waits for uploads; what is left stays on the disk for `wandb sync`
# What W&B's own variable may say, older words of its among them.
WANDB_MODES = {
    "": "", "online": "online", "offline": "offline", "disabled": "disabled", "shared": "shared",
    "run": "online", "dryrun": "offline",
}  # fmt: skip


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
                causes.append(cause(error))
                let_go()
            else:
                if causes:
                    say(f"{name} is tracked offline in {folder / 'wandb'} ({causes[0]})")
                return Run(run)
        say(f"{name} is not tracked ({causes[-1]})")
        return Run()

    def _mode(self) -> str:
        if self.mode != "auto":
            return self.mode
        named = WANDB_MODES[os.environ.get("WANDB_MODE", "")]
        return named or ("online" if _has_key() else "offline")

    def _start(self, mode: str, folder: Path, name: str, **about: Any) -> Any:
        import wandb

        identity, replaced = identify(folder / "wandb", name, offline=mode == "offline")
        keep_in(folder / "wandb")
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
