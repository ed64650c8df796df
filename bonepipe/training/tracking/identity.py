"""Which run of Weights & Biases a run of the pipeline is: its id, and what earlier parts of it lie about."""

import re
import secrets
from pathlib import Path

from bonepipe.files import replacing
from bonepipe.training.tracking.telling import say

REPLACED = "replaced"  # folder in wandb/ of offline parts that later ones tell whole


def identify(folder: Path, name: str, *, offline: bool) -> tuple[str, list[Path]]:
    """A run's id, and the folders of earlier parts of it that the new part takes the place of.

    The id lasts as long as the experiment's folder, so that resuming goes on in the same run. A part is told whole
    again, so an offline one that was never synced can go: two of them would be appended to each other. What W&B's
    server knows already cannot be continued offline without a gap or a repetition, so that then a new id begins.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.id"
    identity = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    known = re.fullmatch(r"[\w-]{1,64}", identity, re.ASCII)
    parts = sorted(folder.glob(f"*run-*-{identity}*")) if known else []  # of one second: the later one gets a number
    unsent = [part for part in parts if part.name.startswith("offline-") and not any(part.glob("*.wandb.synced"))]
    if not known or (offline and unsent != parts):
        if identity and not known:
            say(f"{path}: holds no id of a run, so a new run begins")
        identity = f"{name}-{secrets.token_hex(4)}"
        with replacing(path) as part:
            part.write_text(identity, encoding="utf-8")
    return identity, unsent
