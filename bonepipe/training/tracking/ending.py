"""The end of a run: uploads are waited for as long as somebody takes them."""

import contextlib
import subprocess
import threading
import time
from typing import Any

from bonepipe.training.tracking.telling import let_go

PATIENCE = 900.0  # seconds that uploads may take at the end
SILENCE = 30.0  # seconds without an answer of the server after which nothing more is waited for


def end(run: Any, exit_code: int) -> None:
    """Finish a run of W&B.

    Raises:
        TimeoutError: the server no longer answers, or takes too long; what is left can be uploaded from the disk.
    """
    folder, errors = run.settings.sync_dir, []

    def finish() -> None:
        try:
            run.finish(exit_code=exit_code)
        except Exception as error:  # raised below, in the thread that asked
            errors.append(error)

    if run.offline:
        return run.finish(exit_code=exit_code)
    thread = threading.Thread(target=finish, daemon=True)
    thread.start()
    heard = time.monotonic()
    while True:
        thread.join(SILENCE / 6)
        if not thread.is_alive():
            break
        if _answers():
            heard = time.monotonic()
        elif time.monotonic() > heard + SILENCE:
            _stop_service()
            raise TimeoutError(f"no answer for {SILENCE:.0f} s; `wandb sync {folder}` uploads what is left")
    if errors:
        raise errors[0]
    return None


def _answers() -> bool:
    """Whether the server takes what the session sends it."""
    try:
        from wandb.sdk import wandb_setup
        from wandb.sdk.lib import wbauth

        login = wbauth.session_credentials(host=wandb_setup.singleton().settings.base_url)
        if login is not None:
            login.verify()
    except Exception:
        return False
    return login is not None


def _stop_service() -> None:
    """Stop W&B's own process, which would try again for a quarter of an hour; its log is on the disk."""
    with contextlib.suppress(Exception):  # W&B has no function for it
        from wandb.sdk import wandb_setup

        process = wandb_setup.singleton().assert_service()._proc._process  # type: ignore[union-attr]
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
    let_go()
