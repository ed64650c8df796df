#!/usr/bin/env python3
"""Refuse a lock that names a version known as malicious or vulnerable, or anything without a hash, before installing.

Usage: python3 .ci/audit.py [requirements.lock]. It needs no network and no package. What it knows stands in
advisories.csv beside it, each line with its source; of anything else it knows nothing, and says so. Lines with the
verdict `known` are versions that stay, with the reason; they are told each time.
"""

import csv
import re
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import NamedTuple

LIST = Path(__file__).with_name("advisories.csv")
PINNED = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[\w,. -]+\])?==(?P<version>[^\s;*]+)(?P<rest>(?:[\s;].*)?)"
)
VERSION = re.compile(r"(?P<release>\d+(?:\.\d+)*)(?P<pre>(?:a|b|rc|\.dev)\d+)?(?:\.post\d+)?(?:\+[\w.]+)?")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
TESTS = {"==": lambda a, b: a == b, "<": lambda a, b: a < b, ">=": lambda a, b: a >= b}


class Entry(NamedTuple):
    """A package of the lock; the marker after its version is passed over: on some machine it holds."""

    name: str
    version: str


class Advisory(NamedTuple):
    """A line of advisories.csv.

    Attributes:
        noted: the day, as YYYY-MM-DD.
        affected: conditions that all hold for affected versions: `==2.6.2`, `<1.3.7,>=1.3.4`.
        verdict: `malicious` or `vulnerable`, which are refused, or `known`.
    """

    noted: str
    package: str
    affected: str
    verdict: str
    id: str
    what: str
    source: str


def key(version: str) -> tuple[tuple[int, ...], bool]:
    """What versions are ordered by, trailing zeros left out. Raises ValueError for what is none (PEP 440, in part)."""
    match = VERSION.fullmatch(version)
    if match is None:
        raise ValueError(f"version {version!r} cannot be compared")
    numbers = [int(part) for part in match["release"].split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers), match["pre"] is None


def is_affected(version: str, conditions: str) -> bool:
    """Whether all conditions hold for a version."""
    pairs = [re.fullmatch(r"(==|<|>=)(.+)", condition) for condition in conditions.split(",")]
    return all(pair and TESTS[pair[1]](key(version), key(pair[2])) for pair in pairs)


def normalised(name: str) -> str:
    """A package's name as all that mean it write it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(text: str) -> list[str]:
    """The logical lines of a lock: continued ones joined, comments left out."""
    lines = (re.sub(r"(^|\s)#.*", "", line).rstrip() for line in text.replace("\r", "").split("\n"))
    joined = "\n".join(lines).replace("\\\n", " ")
    return [" ".join(line.split()) for line in joined.split("\n") if line.strip()]


def read_lock(text: str) -> tuple[list[Entry], list[str]]:
    """The packages of a lock, and what is wrong with its lines."""
    entries, faults = [], []
    for line in requirements(text):
        match, shown = PINNED.fullmatch(line), line[:80]
        if line.startswith("-"):
            faults.append(f"{shown}: an option; a lock names packages alone")
        elif " @ " in line or "://" in line.partition(" --hash")[0]:
            faults.append(f"{shown}: from an address or a repository; take a release of the index")
        elif match is None:
            faults.append(f"{shown}: is not pinned to one version (==)")
        else:
            entries.append(Entry(normalised(match["name"]), match["version"]))
            words = [word for word in match["rest"].split() if word.startswith("--")]
            if not words or not all(map(HASH.fullmatch, words)):
                faults.append(f"{match['name']}=={match['version']}: lacks a SHA-256 of each of its files")
    return entries, faults if entries else [*faults, "names no package"]


def read_list(path: Path) -> list[Advisory]:
    """What is known."""
    with path.open(newline="", encoding="utf-8") as file:
        return [Advisory(**row) for row in csv.DictReader(file)]


def findings(entries: list[Entry], known: list[Advisory]) -> Iterator[tuple[Entry, Advisory]]:
    """Each package of the lock with each advisory that is about its version."""
    for entry in entries:
        for advisory in known:
            if entry.name == normalised(advisory.package) and is_affected(entry.version, advisory.affected):
                yield entry, advisory


def audit(lock: Path) -> tuple[list[str], str]:
    """The faults of a lock; and, where there are none, what was found in one line."""
    entries, faults = read_lock(lock.read_text(encoding="utf-8"))
    known, kept = read_list(LIST), []
    for entry, advisory in findings(entries, known):
        line = f"{entry.name} {entry.version}: {advisory.id}: {advisory.what}"
        if advisory.verdict == "known":
            kept.append(f"{line} ({advisory.source})")
        else:
            faults.append(f"{line}: {advisory.verdict}, see {advisory.source}; `make lock` takes a newer one")
    newest = max(advisory.noted for advisory in known)
    told = (
        f"{len(entries)} packages, all pinned with hashes; none of the {len(known) - len(kept)} kinds of versions that "
        f"were listed as malicious or vulnerable up to {newest} ({(date.today() - date.fromisoformat(newest)).days} "
        "days ago). No database of advisories was asked: what is newer, or nobody listed, is not known"
    )
    return faults, told + "".join(f"; stays: {line}" for line in kept)


def main() -> int:
    """Exit code 1 where the lock is refused."""
    lock = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1] / "requirements.lock")
    try:
        faults, told = audit(lock)
    except (OSError, ValueError) as error:
        faults, told = [str(error)], ""
    for fault in faults:
        print(f"audit: {lock.name}: {fault}", file=sys.stderr)
    if not faults:
        print(f"audit: {lock.name}: {told}")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
