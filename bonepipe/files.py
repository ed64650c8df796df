"""Files that appear whole or not at all, whatever interrupts the writing."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a name beside `path` to write to; it becomes `path` when the block ends well, and is removed otherwise.

    The suffix stays, as some writers choose the format by it. Two processes that write at once do not meet.
    """
    part = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")  # the same folder: across devices is no move
    try:
        yield part
        part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def write_json(path: Path, content: Any, indent: int | None = 2) -> None:
    """Write JSON, whole; without an indent it is one line."""
    with replacing(path) as part:
        part.write_text(json.dumps(content, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")


def epoch_file(epoch: int | str) -> str:
    """Name of the file in a fold's folder with the weights of an epoch, counted from 1."""
    return f"epoch-{epoch}.safetensors"
