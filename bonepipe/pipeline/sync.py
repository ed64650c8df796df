"""Upload runs that were tracked offline, with W&B's own client (`wandb sync`)."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bonepipe.children import Children
from bonepipe.errors import BonepipeError
from bonepipe.pipeline.run_folder import locked
from bonepipe.pipeline.unsent import unsent
from bonepipe.training.tracking.ending import UNSENT
from bonepipe.training.tracking.log_format import read_messages
from bonepipe.training.tracking.staging import keep_in
from bonepipe.training.tracking.telling import cause

# The client's own retries go on for hours, and it knows no total time; these end after about a minute.
RETRIES = {"WANDB__GRAPHQL_RETRY_MAX": "3", "WANDB__FILE_STREAM_RETRY_MAX": "4", "WANDB__FILE_TRANSFER_RETRY_MAX": "4"}
# `wandb`, which ends with the process that calls it: what it had not sent is sent by the next call.
CLIENT = "from bonepipe.interruption import end_with_parent; end_with_parent(); from wandb.cli.cli import cli; cli()"
LEFTOVERS = ("data", "cache", "logs")  # in wandb/: W&B's copies of small files, and its logs


@dataclass(frozen=True)
class Part:
    """A run that is to be uploaded, as W&B wrote it down.

    Attributes:
        folder: `offline-run-<time>-<id>`; `run-<time>-<id>` of an online run.
    """

    folder: Path

    @property
    def log(self) -> Path:
        """The file with all that was told; it names the id."""
        return next(self.folder.glob("run-*.wandb"))

    @property
    def marker(self) -> Path:
        """The file that `wandb sync` leaves when it is through."""
        return marker_of(self.log)


def marker_of(log: Path) -> Path:
    """The file that `wandb sync` leaves beside a log when it is through."""
    return log.with_name(f"{log.name}.synced")


def find_trackings(paths: Sequence[Path]) -> list[Path]:
    """The folders with a `wandb/` among these and directly below them, each once.

    Raises:
        BonepipeError: a path is no folder, or nothing in it was tracked.
    """
    trackings: dict[Path, Path] = {}
    for path in paths:
        if not path.is_dir():
            raise BonepipeError(f"{path}: no such folder; name runs (runs/NAME) or a folder of runs (runs/)")
        runs = [run for run in (path, *sorted(path.iterdir())) if (run / "wandb").is_dir() and run.name != "wandb"]
        if not runs:
            raise BonepipeError(f"{path}: nothing was tracked here (no wandb/); name a run, runs/NAME")
        trackings |= {run.resolve(): run for run in runs}
    return list(trackings.values())


def find_parts(run: Path) -> list[Part]:
    """A run's parts that were not uploaded to their end and that no later one of the same id tells again, oldest first.

    A resumed run tells its whole history, so that of one id only the last part counts, be it an online one.
    """
    folders = [log.parent for log in (run / "wandb").glob("*run-*/run-*.wandb") if not log.parent.is_symlink()]
    folders.sort(key=lambda folder: folder.name.removeprefix("offline-"))
    last = {next(folder.glob("run-*.wandb")).name: folder for folder in folders}
    return [Part(path) for path in last.values() if path.name.startswith("offline-") or (path / UNSENT).is_file()]


def check_login() -> None:
    """Raise BonepipeError where W&B's own functions know no key."""
    from bonepipe.training.tracking.login import find_login

    try:
        host, login = find_login()
    except Exception as error:  # of any kind: a malformed key, a damaged file
        raise BonepipeError(f"the key of W&B cannot be used ({error}); `wandb login` takes another") from error
    if login is None:
        raise BonepipeError(f"no key for {host}; `wandb login` or the variable WANDB_API_KEY give one")


def upload(part: Part) -> str:
    """Upload a part and return the link of its run.

    Raises:
        BonepipeError: not everything was uploaded; the part counts as not uploaded.
    """
    if next(read_messages(part.log), None) is None:
        part.marker.touch()
        return "was stopped before it told anything"
    try:
        with unsent(part.log) as log:
            link = _send(log, part.folder.parent)
    except Exception as error:  # of any kind: no network, a key that is refused
        part.marker.unlink(missing_ok=True)
        fault = str(error) if isinstance(error, BonepipeError) else cause(error)
        raise BonepipeError(f"{part.folder}: not uploaded ({fault[:300]})") from error
    part.marker.touch()
    return link


def _send(log: Path, wandb: Path) -> str:
    """Have W&B's client upload a log, and return the link of its run.

    The client ends with 0 and sets its marker whatever could not be uploaded, so its own log decides.

    Args:
        log: beside the files of its run.
        wandb: the folder for what the client keeps.
    """
    places = {"WANDB_DIR": wandb.parent, "WANDB_DATA_DIR": wandb / "data", "WANDB_CACHE_DIR": wandb / "cache"}
    environment = {**RETRIES, **os.environ, **{name: str(path.resolve()) for name, path in places.items()}}
    environment.pop("WANDB_SERVICE", None)  # of a process that has settings of its own
    earlier = set(wandb.glob("logs/debug-sync*.log"))
    command = [sys.executable, "-c", CLIENT, "sync", "--no-skip-online", str(log.resolve())]
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with Children() as children, children.started(command, environment, text=True, **streams) as client:
        told, _ = client.communicate()
    logs = [path.read_text("utf-8", errors="replace") for path in set(wandb.glob("logs/debug-sync*.log")) - earlier]
    faults = [*re.findall(r"^wandb: ERROR (.*)", told, re.MULTILINE), *_faults("\n".join(logs))]
    link = re.search(r"View run .* at (https?://\S+)", told)
    if client.returncode or faults or link is None or not marker_of(log).is_file():
        raise BonepipeError((faults or told.strip().splitlines() or ["W&B's client said nothing"])[-1])
    return link[1]


def _faults(log: str) -> list[str]:
    """What a log of the client, JSON lines, says of uploads that it gave up."""
    lines = [line for line in log.splitlines() if '"level":"ERROR' in line and "featurechecker" not in line]
    lost = [line for line in lines if re.search("giving up|failed to|fatal error", line)]
    return [match[1] for line in lost if (match := re.search(r'"msg":"((?:[^"\\]|\\.)*)"', line))]


@contextlib.contextmanager
def alone(run: Path) -> Iterator[None]:
    """Work in a run's folder and those of its folds alone, so that no part is uploaded while it grows."""
    with contextlib.ExitStack() as stack:
        for folder in (run, *sorted(run.glob("fold-*"))):
            stack.enter_context(locked(folder))
        yield


def sync(run: Path, say: Callable[[str], None]) -> int:
    """Upload what a run's `wandb/` holds and W&B's server has not; returns how many parts it had already.

    Args:
        run: a run, an ensemble or a cascade.
        say: told a line with its link for each uploaded run.

    Raises:
        BonepipeError: somebody works in the folder, or uploads failed; what was uploaded is not uploaded again.
    """
    from tqdm import tqdm

    with alone(run):
        keep_in(run / "wandb")
        parts = find_parts(run)
        waiting = [part for part in parts if not part.marker.is_file()]
        faults = []
        for part in tqdm(waiting, desc=run.name, unit="run", disable=None, leave=False):
            try:
                say(f"{run.name}: {part.log.stem.removeprefix('run-')}: {upload(part)}")
            except BonepipeError as error:
                faults.append(error)
        if faults:
            raise BonepipeError(f"{faults[0]}; {len(faults)} left, run the same command again to go on")
        for name in LEFTOVERS:
            shutil.rmtree(run / "wandb" / name, ignore_errors=True)
        for part in parts:
            shutil.rmtree(part.folder / "staging", ignore_errors=True)
    return len(parts) - len(waiting)
