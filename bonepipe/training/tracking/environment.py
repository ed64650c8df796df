"""W&B's variables that mean one run, in a program that starts several."""

import contextlib
import os
from collections.abc import Iterator, Mapping

# What `wandb agent` tells the process of a trial.
TRIAL = ("WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH")
# What would make all runs one, or ask for a login.
ONE_RUN = (*TRIAL, "WANDB_RESUME", "WANDB_RESUME_FROM", "WANDB_FORK_FROM", "WANDB_RELOGIN", "WANDB_FORCE")
# W&B prints nothing of its own and reports its errors to nobody, which would cost ten seconds without a network.
QUIET = {"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}
# The runs that have a sweep's objective: the one whose process the agent has started is the trial.
SCORED = ("fold", "cross-validation")


def trial_of(kind: str) -> str | None:
    """The id of a sweep's trial, where a run of this kind is it."""
    return os.environ.get("WANDB_RUN_ID") if kind in SCORED and os.environ.get("WANDB_SWEEP_ID") else None


def outside_trial(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables of a process that is started within a trial and is not the trial itself."""
    return {name: value for name, value in variables.items() if name not in TRIAL}


@contextlib.contextmanager
def of_run(trial: str | None) -> Iterator[None]:
    """Variables as W&B shall read them for a run.

    Args:
        trial: the id of the sweep's trial that the run is; None for any other run.
    """
    hidden = [name for name in ONE_RUN if not (trial and name in TRIAL)]
    kept = {name: os.environ.pop(name) for name in (*hidden, *QUIET) if name in os.environ}
    os.environ.pop("WANDB_SERVICE", None)  # of a process that may have ended; this one has a service of its own
    os.environ.update(QUIET)
    try:
        _read_anew()
        yield
    finally:
        for name in QUIET:
            os.environ.pop(name)
        os.environ.update(kept)


def _read_anew() -> None:
    """Have W&B read variables that have changed since it was asked first, unless a run goes on."""
    with contextlib.suppress(Exception):  # which whoever starts the run meets again
        import wandb
        from wandb.sdk import wandb_setup

        if wandb.run is None and wandb_setup.singleton().did_environment_change():
            wandb.teardown()
