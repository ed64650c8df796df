"""Files of a finished run that vanish or are damaged: noticed, named, mended, and never taken for whole."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from . import processes
from .place import COMMANDS, Command, Place, misspoken
from .trials import Outcome, Trial

GONE, DAMAGED = "file gone", "file damaged"
# What reads a finished run: whether all is done, and with what to predict.
READERS = (
    Command("submit", COMMANDS["submit"].words, "finished", COMMANDS["submit"].results),
    COMMANDS["predict"],
)  # fmt: skip
TELLS_NOTHING = (".lock", ".owner")  # who works in a folder


def empty(path: Path) -> None:
    """As after a crash of the machine before the content was on the disk."""
    path.write_bytes(b"")


def halve(path: Path) -> None:
    """As after a copy that was interrupted."""
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    """Four bytes in the middle, to their complement."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    for place in range(middle, min(middle + 4, len(content))):
        content[place] ^= 255
    path.write_bytes(content)


def miscopy(path: Path) -> None:
    """The first digit after the middle becomes another one: nothing is wrong with the file's form."""
    content = bytearray(path.read_bytes())
    digits = [place for place in range(len(content) // 2, len(content)) if 48 <= content[place] <= 57]
    for place in digits[:1]:
        content[place] = 48 + (content[place] - 47) % 10
    path.write_bytes(content)


WAYS = {"gone": Path.unlink, "empty": empty, "half": halve, "flipped": flip, "digit": miscopy}


def trials(place: Place, pattern: str = "**/*") -> Iterator[Trial]:
    """Each file of the run and of its store, in each way, for each reader."""
    state = place.state("finished")
    files = [path for path in sorted((state / "runs").glob(pattern)) if path.is_file() and path.stat().st_size]
    for path in [state / "folds.csv", *files] if pattern == "**/*" else files:
        name = str(path.relative_to(state))
        for way in WAYS if not name.endswith(TELLS_NOTHING) else ():
            for command in READERS:
                kind = GONE if way == "gone" else DAMAGED
                yield Trial(kind, f"{command.title}: {name} {way}", partial(spoil, place, command, name, way))


def spoil(place: Place, command: Command, name: str, way: str) -> Outcome:
    """Spoil a file: the command mends it or refuses; refused, it succeeds once the file is put back."""
    folder = place.copy(command.state, "damaged")
    good = (folder / name).read_bytes()
    WAYS[way](folder / name)
    ended = processes.run(folder, command.words)
    if fault := misspoken(command, ended, [0, 1]):
        return Outcome(struck=True, fault=fault)
    if ended.code == 0:
        return Outcome(struck=True, fault=place.difference(command, folder))
    (folder / name).write_bytes(good)
    return Outcome(struck=True, fault=place.recovered(command, folder))
