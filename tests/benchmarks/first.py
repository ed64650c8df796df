"""A command up to the first step of its training, in a process of its own that imports nothing else."""

import os
import time
from pathlib import Path
from unittest import mock

from bonepipe import cli


class _Reached(Exception):
    """The first step is done."""


def first_step(*words: str) -> dict[str, float]:
    """Run a command until a training's first step is done; seconds since this process began, and those of the CPU."""
    from bonepipe.training.speed import StepClock

    with mock.patch.object(StepClock, "on_train_batch_end", side_effect=_Reached):
        try:
            code = cli.main(words)
        except _Reached:
            return {"wall": _age(), "cpu": time.process_time()}
    raise RuntimeError(f"exit code {code} before a step was made")


def _age() -> float:
    """Seconds since this process began, see proc(5)."""
    ticks = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(ticks) / os.sysconf("SC_CLK_TCK")
