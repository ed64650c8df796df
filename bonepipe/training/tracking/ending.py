"""The end of a run: uploads are waited for as long as somebody takes them."""

import contextlib
import subprocess
import threading
import time
from typing import Any

from bonepipe.training.tracking.log import log_of, require_whole
from bonepipe.training.tracking.telling import let_go

PATIENCE = 900.0  # seconds that uploads may take at the end
BRIEF = 8.0  # where somebody asked to stop, who may kill soon
FAILED, KILLED = 1, 255  # exit codes; with the latter W&B itself ends a run after Ctrl-C
SILENCE = 30.0  # seconds without an answer of the server after which nothing more is waited for
UNSENT = "unsent"  # an empty file beside the log of an online run that was not uploaded to its end


def end(run: Any, exit_code: int) -> None:
    """Finish a run of W&B.

    Raises:
        OSError: an offline run was not written down to its end.
        RuntimeError: an online one was not uploaded to its end; what is left can be uploaded from the disk.
    """
    if run.offline:
        run.finish(exit_code=exit_code)
        return require_whole(log_of(run))
    folder = log_of(run).parent
    try:
        _end_online(run, exit_code)
    except Exception as error:  # of any kind: no answer, too little time
        _stop_service()
        (folder / UNSENT).touch()
        raise RuntimeError(f"{error}; `bonepipe sync {folder.parents[1]}` uploads what is left") from error


def _end_online(run: Any, exit_code: int) -> None:
    """Finish an online run; raises what W&B does, and TimeoutError where the server no longer answers."""
    errors = []

    def finish() -> None:
        try:
            run.finish(exit_code=exit_code)
        except Exception as error:  # raised below, in the thread that asked
            errors.append(error)

    thread = threading.Thread(target=finish, daemon=True)
    thread.start()
    heard = time.monotonic()
    while True:
        thread.join(BRIEF if exit_code == KILLED else SILENCE / 6)
        if not thread.is_alive():
            break
        if exit_code == KILLED:
            raise TimeoutError("interrupted")
        if _answers():
            heard = time.monotonic()
        elif time.monotonic() > heard + SILENCE:
            raise TimeoutError(f"no answer for {SILENCE:.0f} s")
    if errors:
        raise errors[0]


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
