"""What a server does not have yet of an offline run; the client would append to the history what is there already.

Nor would it find an artifact's files once the run's folder has moved: the log has absolute paths.
"""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from bonepipe.training.tracking.log_format import HEADER, pack, read_messages
from bonepipe.training.tracking.login import find_login

COUNT = """query RunResumeStatus($project: String, $entity: String, $name: String!) {
  model(name: $project, entityName: $entity) { bucket(name: $name, missingOk: true) { historyLineCount } }
}"""
RETRIES, PATIENCE = 3, 60.0  # seconds for an answer; W&B itself would try for hours


@contextlib.contextmanager
def unsent(log: Path) -> Iterator[Path]:
    """A log without those rows of the history that W&B's server has, and with the paths of files as they are now.

    It is the log itself where there is nothing to change. A run counts its rows in steps, so that their number says
    which they are. Another log lies beside the first, where the client looks for the run's files, and is deleted in the
    end.

    Args:
        log: `run-<id>.wandb` of an offline run.

    Raises:
        Exception: of any kind: the server does not answer, or not so that it can be understood.
    """
    told = [message for _, message in read_messages(log)]
    messages = [_found_again(message, log.parent.parent) for message in told]
    if rows := rows_sent(messages):
        messages = list(_without_rows(messages, rows))
    rest = log.with_name(f"rest-{log.name}")
    try:
        _delete(rest)  # of a call that was killed
        if messages != told:
            rest.write_bytes(pack(log.read_bytes()[:HEADER], messages))
        yield rest if messages != told else log
    finally:
        _delete(rest)


def rows_sent(messages: Iterable[bytes]) -> int:
    """How many rows of the history W&B's server has of the run that a log tells of; 0 where it knows no such run."""
    from wandb.apis.public.service_api import ServiceApi
    from wandb.sdk import wandb_setup
    from wandb.sdk.lib import wbauth

    settings = wandb_setup.singleton().settings.model_copy()
    settings.x_graphql_retry_max = RETRIES if settings.x_graphql_retry_max is None else settings.x_graphql_retry_max
    wbauth.set_auth_settings(settings, find_login()[1])
    run = next((record.run for record in map(_record, messages) if record.HasField("run")), None)
    if run is None:
        return 0
    name = {"project": run.project, "entity": run.entity or settings.entity, "name": run.run_id}
    answer: dict[str, Any] = ServiceApi(settings, timeout=PATIENCE).execute_graphql(COUNT, name)
    return ((answer.get("model") or {}).get("bucket") or {}).get("historyLineCount") or 0


def _without_rows(messages: Iterable[bytes], rows: int) -> Iterator[bytes]:
    """The messages but for the rows that are there; the log of a resumed run begins with a later one."""
    for message in messages:
        record = _record(message)
        if not (record.HasField("history") and record.history.step.num < rows):
            yield message


def _found_again(message: bytes, wandb: Path) -> bytes:
    """A message whose artifact's files lie where they lay, or else at the same place below the run's `wandb/`."""
    record = _record(message)
    if not record.HasField("artifact"):
        return message
    moved = False
    for entry in record.artifact.manifest.contents:
        if entry.local_path and not Path(entry.local_path).is_file():
            parts = Path(entry.local_path).parts
            places = [wandb.joinpath(*parts[at + 1 :]) for at, part in enumerate(parts) if part == wandb.name]
            if place := next((place for place in places if place.is_file()), None):
                entry.local_path, moved = str(place.resolve()), True
    return record.SerializeToString() if moved else message


def _record(message: bytes) -> Any:
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

    return Record.FromString(message)


def _delete(log: Path) -> None:
    """Delete a log and what the client has put beside it."""
    for path in log.parent.glob(f"{log.name}*"):
        path.unlink()
