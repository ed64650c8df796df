"""Small damages: of bytes, of words, of rows and of trees of values. Each function makes one and leaves its input."""

import re
from collections.abc import Callable
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")
WORDS = (
    "", " ", "0", "-1", "1", "2", "+3", "-0", "1.0", "1e9", "1e309", "nan", "inf", "0x1F", "1_0", "007",
    str(1 << 40), str((1 << 63) - 1),
    str(1 << 63), str(1 << 64), "9" * 30, "9" * 5000, "\0", "\x1c", "\x85", "\u2028", "\u00a0", "\ufeff",
    "\u0661", "１", "²", "뼈", "é", "e\u0301",
    '"', '""', "'", ",", ";", "\t", "\r", "\n", "\\", "#", "x" * 300, "True", "null", "None", "../../x",
    "/etc/passwd", "${name}",
    "${oc.env:HOME}", "=1+1", "%s", "{}", "[]",
)  # fmt: skip
BYTES = (
    b"\0",
    b"\xff",
    b"\xfe\xff",
    b"\xed\xa0\x80",
    b"\x80",
    b"\xc3",
    b"\r",
    b"\n",
    b'"',
    b"\xef\xbb\xbf",
    b"\0" * 64,
)


def deep(levels: int, wrap: Callable[[Any], Any]) -> Any:
    """A value in so many others."""
    value: Any = 1
    for _ in range(levels):
        value = wrap(value)
    return value


VALUES = (
    None, True, False, 0, -1, 1, 2, 7, 0.5, -0.0, 1.5, 1 << 31, 1 << 63, -(1 << 63), 1 << 64, 10**30, 10**400, 1e308,
    float("nan"), float("inf"), "", " ", "x", "\0", "\ud800", "뼈", "9" * 5000, "x" * 3000, [], {}, [[]], [{}],
    [None], {"": 1}, {"x": {}},
    [1, 2, 3], [[1, 2], [3, 4]], [1] * 500, {str(k): k for k in range(300)}, deep(60, lambda v: [v]),
    deep(300, lambda v: {"x": v}),
    deep(400, lambda v: [v]),
)  # fmt: skip


def blob(rng: Random, data: bytes) -> bytes:
    """Other bytes: a bit flipped, a slice taken out, doubled or moved, something put in, the end cut off."""
    kind, at = rng.randrange(8), rng.randrange(len(data) + 1)
    end = min(len(data), at + 1 + int(rng.expovariate(1 / 8)))
    part = data[at:end]
    if kind <= 1 and part:
        return data[:at] + bytes([part[0] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
    if kind == 2:
        return data[:at] + data[end:]
    if kind == 3:
        return data[:at] + part * rng.choice((2, 3, 50)) + data[end:]
    if kind == 4:
        return data[:at]
    if kind == 5:
        return data[:at] + rng.choice(WORDS).encode() + data[end:]
    if kind == 6:
        to = rng.randrange(len(data) + 1)
        return data[:to] + part + data[to:]
    return data[:at] + rng.choice(BYTES) + data[at:]


def flips(rng: Random, data: bytes) -> bytes:
    """One to four bits, anywhere."""
    result = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        result[rng.randrange(len(result))] ^= 1 << rng.randrange(8)
    return bytes(result)


def words(rng: Random, items: list[str]) -> list[str]:
    """Other words in a list: one replaced, taken out, doubled, moved, or counted up or down."""
    at, kind = rng.randrange(len(items) + 1), rng.randrange(6)
    rest = items[at + 1 :]
    if at == len(items) or kind == 0:
        return [*items[:at], rng.choice(WORDS), *items[at:]]
    if kind == 1:
        return [*items[:at], *rest]
    if kind == 2:
        return [*items[:at], items[at], items[at], *rest]
    if kind == 3:
        return [*items[:at], *rest[:1], items[at], *rest[1:]]
    if kind == 4 and re.fullmatch("-?[0-9]{1,18}", items[at]):
        return [*items[:at], str(int(items[at]) + rng.choice((-1, 1, -int(items[at]), 1 << 20))), *rest]
    return [*items[:at], rng.choice(WORDS), *rest]


def rows(rng: Random, table: list[list[str]]) -> list[list[str]]:
    """Another table: a row taken out, doubled, moved or blank, a column renamed or gone, a field or its words other."""
    if not table:
        return [[rng.choice(WORDS)]]
    at, kind = rng.randrange(len(table)), rng.randrange(9)
    row, rest = table[at], table[at + 1 :]
    if kind == 0:
        return [*table[:at], *rest]
    if kind == 1:
        return [*table[:at], row, *table[at:]]
    if kind == 2:
        return [*table[:at], *rest[:1], row, *rest[1:]]
    if kind == 3 and row:
        column = rng.randrange(len(row))
        return [[*line[:column], *line[column + 1 :]] for line in table]
    if kind <= 6 and row:
        column = rng.randrange(len(row))
        if kind == 4:
            field = rng.choice([*WORDS, *(line[column] for line in table if column < len(line))])
        else:
            field = " ".join(words(rng, row[column].split(" ")))
        return [*table[:at], [*row[:column], field, *row[column + 1 :]], *rest]
    return [*table[:at], words(rng, row), *rest]


def tree(rng: Random, value: Any) -> Any:
    """Another tree: somewhere in it a value replaced, taken out, doubled, or given another key."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.1:
        return rng.choice(VALUES)
    kind = rng.randrange(8)
    if isinstance(value, list):
        at = rng.randrange(len(value))
        if kind == 0:
            return [*value[:at], *value[at + 1 :]]
        if kind == 1:
            return [*value[:at], value[at], *value[at:]]
        return [*value[:at], tree(rng, value[at]), *value[at + 1 :]]
    key = rng.choice(list(value))
    if kind == 0:
        return {name: inner for name, inner in value.items() if name != key}
    if kind == 1:
        return {rng.choice(WORDS) if name == key else name: inner for name, inner in value.items()}
    return {name: tree(rng, inner) if name == key else inner for name, inner in value.items()}


def text(snippets: tuple[str, ...]) -> Callable[[Random, str], str]:
    """A function that makes another text: a word becomes a snippet, a line goes, is doubled, moved or indented."""

    def change(rng: Random, content: str) -> str:
        kind = rng.randrange(6)
        if kind <= 2 and (places := list(re.finditer(r"[^\s:,\[\]{}]+", content))):
            place = rng.choice(places)
            return content[: place.start()] + rng.choice((*snippets, *WORDS)) + content[place.end() :]
        lines = content.split("\n")
        at = rng.randrange(len(lines))
        line, rest = lines[at], lines[at + 1 :]
        new = {
            3: [*lines[:at], *rest],
            4: [*lines[:at], line, *lines[at:]],
            5: [*lines[:at], rng.choice(("  ", "\t", "- ", "? ", "")) + line.lstrip(), *rest],
        }
        return "\n".join(new.get(kind, [*lines[:at], *rest[:1], line, *rest[1:]]))

    return change
