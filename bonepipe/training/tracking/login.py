"""Whether runs are tracked online, offline or not at all, as W&B's own settings and credentials have it."""

import os
from typing import Any

from bonepipe.training.tracking.telling import cause

# What W&B's variable and its settings files may say, older words among them.
WANDB_MODES = {
    "": "", "online": "online", "offline": "offline", "disabled": "disabled", "shared": "online",
    "run": "online", "dryrun": "offline",
}  # fmt: skip


def place(mode: str) -> tuple[str, str]:
    """Where a run is to be tracked: `online`, `offline` or `disabled`; and why not online, where that is news.

    Variables, settings files (`wandb offline`), `.netrc` (`wandb login`) and identity tokens are read by W&B's own
    functions, and nothing asks for a login.

    Args:
        mode: as `Tracking` has it.
    """
    if mode in ("offline", "disabled"):
        return mode, ""
    try:
        from wandb.sdk import wandb_setup

        settings = wandb_setup.singleton().settings
        named = "disabled" if _is_switched_off() else WANDB_MODES[settings.mode]
        if mode == "auto" and named != "online":
            return named, ""
        host, login = find_login()
    except Exception as error:  # of any kind: a malformed key, a damaged settings file
        return "offline", cause(error)
    if login is None:
        return "offline", "" if mode == "auto" else f"no login for {host}: `wandb login` or WANDB_API_KEY give one"
    return "online", ""


def find_login() -> tuple[str, Any]:
    """W&B's host, and the credentials for it that W&B's own functions find, or None. Raises whatever they raise."""
    from wandb.sdk import wandb_setup
    from wandb.sdk.lib import wbauth

    settings = wandb_setup.singleton().settings
    host = wbauth.HostUrl(settings.base_url, app_url=settings.app_url)
    return str(host), wbauth.authenticate_session(host=host, source="bonepipe", prompt=False, update_session=False)


def _is_switched_off() -> bool:
    """The variable that earlier versions of W&B, and other libraries, know."""
    return os.environ.get("WANDB_DISABLED", "").lower() in ("1", "true", "yes", "on")
