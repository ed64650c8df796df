"""The form of W&B's log of a run: LevelDB's log (github.com/google/leveldb, doc/log_format.md) after a header."""

import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

HEADER, BLOCK, HEAD = 7, 32768, struct.Struct("<IHB")
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def read_messages(log: Path) -> Iterator[tuple[int, bytes]]:
    """The whole messages of a log, each with its end in bytes; a message is a `Record` of W&B's protocol buffers."""
    content, position, message = log.read_bytes(), HEADER, b""
    while position + HEAD.size <= len(content):
        if (room := BLOCK - position % BLOCK) < HEAD.size:
            position += room
            continue
        _, length, kind = HEAD.unpack_from(content, position)
        position += HEAD.size + length
        if position > len(content):
            return  # torn
        message += content[position - length : position]
        if kind in (WHOLE, LAST):
            yield position, message
            message = b""


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
