"""What a server does not have yet of an offline run; the client would append to the history what is there already."""

import contextlib
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from bonepipe.training.tracking.login import find_login

# A log is LevelDB's log format (github.com/google/leveldb, doc/log_format.md) after a header of W&B's own.
HEADER, BLOCK, HEAD = 7, 32768, struct.Struct("<IHB")
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4

COUNT = """query RunResumeStatus($project: String, $entity: String, $name: String!) {
  model(name: $project, entityName: $entity) { bucket(name: $name, missingOk: true) { historyLineCount } }
}"""
RETRIES, PATIENCE = 3, 60.0  # seconds for an answer; W&B itself would try for hours


@contextlib.contextmanager
def unsent(log: Path) -> Iterator[Path]:
    """A log without those rows of the history that W&B's server has; the log itself where it has none.

    A run tells the same rows in the same order each time, so that their count says which they are. The other log lies
    beside the first, where the client looks for the run's files, and is deleted in the end.

    Args:
        log: `run-<id>.wandb` of an offline run.

    Raises:
        Exception: of any kind: the server does not answer, or not so that it can be understood.
    """
    messages = read_messages(log)
    rows = rows_sent(messages)
    rest = log.with_name(f"rest-{log.name}")
    try:
        _delete(rest)  # of a call that was killed
        if rows:
            rest.write_bytes(pack(log.read_bytes()[:HEADER], _without_rows(messages, rows)))
        yield rest if rows else log
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
    """The messages but for the first rows of the history."""
    for message in messages:
        if rows and _record(message).HasField("history"):
            rows -= 1
        else:
            yield message


def _record(message: bytes) -> Any:
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

    return Record.FromString(message)


def _delete(log: Path) -> None:
    """Delete a log and what the client has put beside it."""
    for path in log.parent.glob(f"{log.name}*"):
        path.unlink()


def read_messages(log: Path) -> list[bytes]:
    """The messages of a log, each a `Record` of W&B's protocol buffers, as far as they were written down."""
    content, position, message, messages = log.read_bytes(), HEADER, b"", []
    while position + HEAD.size <= len(content):
        if (room := BLOCK - position % BLOCK) < HEAD.size:
            position += room
            continue
        _, length, kind = HEAD.unpack_from(content, position)
        position += HEAD.size + length
        if position > len(content):
            break  # torn: the process was killed
        message += content[position - length : position]
        if kind in (WHOLE, LAST):
            messages.append(message)
            message = b""
    return messages


def pack(header: bytes, messages: Iterable[bytes]) -> bytes:
    """A log with these messages, as W&B's client reads it."""
    log = bytearray(header)
    for message in messages:
        rest: bytes = message
        kinds: tuple[int, ...] = (FIRST, WHOLE)  # of a chunk that others follow, and of the last
        while kinds:
            if (room := BLOCK - len(log) % BLOCK - HEAD.size) < 0:
                log += bytes(room + HEAD.size)
                continue
            chunk, rest = rest[:room], rest[room:]
            kind = kinds[not rest]
            log += HEAD.pack(zlib.crc32(chunk, zlib.crc32(bytes([kind]))), len(chunk), kind) + chunk
            kinds = (MIDDLE, LAST) if rest else ()
    return bytes(log)
