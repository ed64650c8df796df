"""Which run of Weights & Biases a run of the pipeline is: its id, and what earlier parts of it lie about."""

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from typing_extensions import TypedDict

from bonepipe.errors import BonepipeError
from bonepipe.files import write_json
from bonepipe.forms import read_json
from bonepipe.training.tracking.telling import say

REPLACED = "replaced"  # folder in wandb/ of offline parts that later ones tell whole
ID = "wandb.json"  # in the folder of a fold


class Known(TypedDict):
    """What is kept of a run: its id, where that was noted, and of what."""

    id: str
    path: str
    made_from: str


class Source(NamedTuple):
    """What a run tells of, so that another training is another run.

    Attributes:
        path: the file that keeps the run's id. It lies with the results, so that both are deleted together.
        made_from: digest of all that the results depend on.
    """

    path: Path
    made_from: str = ""

    @classmethod
    def of(cls, path: Path, inputs: Mapping[str, Any] | None) -> "Source":
        """From what the results depend on, as a fingerprint has it; None where that may change within a run."""
        text = "" if inputs is None else json.dumps(inputs, sort_keys=True, default=str)
        return cls(path, hashlib.sha256(text.encode()).hexdigest()[:16] if text else "")


def identify(
    folder: Path, name: str, source: Source, *, offline: bool, given: str | None = None
) -> tuple[str, list[Path]]:
    """A run's id, and the folders of earlier parts of it that the new part takes the place of.

    The id lasts as long as the results that it lies with, so that resuming goes on in the same run. In results that
    were copied, or are made from something else by now, a new one begins. A part is told whole again, so an offline one
    that was never synced can go: two of them would be appended to each other. What W&B's server knows already cannot be
    continued offline without a gap or a repetition, so that then a new id begins, too.

    Args:
        folder: `wandb/` of the experiment, with the parts.
        name: of the run, which new ids begin with.
        source: the results.
        offline: whether the new part will be.
        given: an id that somebody else chose, such as the agent of a sweep.
    """
    folder.mkdir(parents=True, exist_ok=True)
    known = _read(source.path)
    identity, copied = known.get("id", ""), _is_copy(source.path, known)
    parts = sorted(folder.glob(f"*run-*-{identity}*")) if identity else []  # of one second: the later has a number
    unsent = [part for part in parts if part.name.startswith("offline-") and not any(part.glob("*.wandb.synced"))]
    goes_on = identity and not copied and known["made_from"] == source.made_from
    if not goes_on and not copied:
        unsent = []  # another training's
    if given or not goes_on or (offline and unsent != parts):
        identity = given or f"{name}-{secrets.token_hex(4)}"
    write_json(source.path, {"id": identity, "path": str(source.path.resolve()), "made_from": source.made_from})
    return identity, unsent


def _read(path: Path) -> dict[str, str]:
    """What is known of a run; empty where nothing is."""
    try:
        known = read_json(path, Known, "a new run begins")
    except FileNotFoundError:
        return {}
    except BonepipeError as error:
        say(str(error))
        return {}
    if not re.fullmatch(r"[\w-]{1,64}", known["id"], re.ASCII):
        say(f"{path}: id: is no id of a run; a new run begins")
        return {}
    return {"id": known["id"], "path": known["path"], "made_from": known["made_from"]}


def _is_copy(path: Path, known: Mapping[str, str]) -> bool:
    """Whether the results were copied here from others that are still there; those that were moved are the same."""
    origin = Path(known.get("path", path))
    try:
        if not known or origin == path.resolve() or origin.samefile(path):
            return False
        return read_json(origin, Known, "it is no origin")["id"] == known["id"]
    except (OSError, ValueError, BonepipeError):  # ValueError: a path that no file can have
        return False
