"""Uploads to Weights & Biases that are killed: the next call brings what is missing, each row once."""

import shutil
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from . import processes
from .place import COMMANDS, Command, Place, misspoken, require
from .trials import Outcome, Trial, chance

CUT = "upload killed at any moment"
SYNC = Command("sync", ("sync", "runs/debug"), "split", ())
CLOCKS = ("_runtime", "_timestamp")


def trials(place: Place, count: int, seed: int) -> Iterator[Trial]:
    """`count` uploads of a fold that was tracked offline."""
    for number in range(count):
        yield Trial(CUT, f"sync: {number}", partial(cut, place, number, seed))


def cut(place: Place, number: int, seed: int) -> Outcome:
    """Kill an upload, with W&B's client or without it, and give it again."""
    from tests.wandb_server import WandbServer

    expected, seconds = _undisturbed(place)
    server, folder = WandbServer(), tracked(place)
    try:
        running = processes.launch(folder, SYNC.words, **_login(server))
        time.sleep(chance(seed, number).uniform(0.3, seconds))
        running.send(signal.SIGKILL, everybody=number % 2 == 0)
        struck = running.wait().code == -signal.SIGKILL
        again = processes.launch(folder, SYNC.words, **_login(server)).wait()
        fault = misspoken(SYNC, again, [0]) or processes.outlived(running.pid)
        if not fault and (there := told(server)) != expected:
            fault = f"the server has {_rows(there)} rows instead of {_rows(expected)}, or other ones"
        return Outcome(struck, fault)
    finally:
        server.close()


def tracked(place: Place) -> Path:
    """A folder with a fold that was tracked offline, always where it was trained: W&B notes the paths of its files."""
    folder, kept = place.cache / "work" / "sync", place.cache / "states" / "tracked"
    if not kept.is_dir():
        place.copy(SYNC.state, "sync")
        require(processes.run(folder, COMMANDS["train, tracked offline"].words))
        part = kept.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(folder, part, symlinks=True).rename(kept)
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    return Path(shutil.copytree(kept, folder, symlinks=True))


def _undisturbed(place: Place) -> tuple[dict[str, Any], float]:
    """What the server has after an upload that nobody disturbed, and how long it took; done once."""
    from tests.wandb_server import WandbServer

    if "sync" not in place.uploaded:
        server, folder = WandbServer(), tracked(place)
        start = time.monotonic()
        require(processes.launch(folder, SYNC.words, **_login(server)).wait())
        place.uploaded["sync"] = told(server), time.monotonic() - start
        server.close()
    return place.uploaded["sync"]


def _login(server: Any) -> dict[str, str]:
    from tests.wandb_server import KEY

    return {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}


def told(server: Any) -> dict[str, Any]:
    """Of each run: its rows without times, how it ended, and its files."""
    return {
        name: (
            [{key: value for key, value in row.items() if key not in CLOCKS} for row in run.history],
            run.exit_code,
            sorted(run.files),
        )
        for name, run in server.runs.items()
    }


def _rows(runs: dict[str, Any]) -> int:
    return sum(len(rows) for rows, _, _ in runs.values())
