"""A tiny dataset, states of a run that commands begin with, and what commands leave when nobody disturbs them."""

import hashlib
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bonepipe import leftovers
from bonepipe.data.phantom.dataset import write_dataset

from . import processes, trap
from .processes import Ended

WORDS = (
    "experiment=debug", "data.root=data", "data.size=64", "folds.count=2", "folds.file=folds.csv", "device=cpu",
    "model=unet", "model.width=4", "trainer.epochs=3", "trainer.keep_epochs=1",
)  # fmt: skip
MEMBERS = "members: [{run: runs/debug}, {run: runs/debug, weight: 2, overrides: [windows.size=80]}]\n"
FOLD = ("weights.safetensors", "oof.csv", "oof_dice.csv", "histograms.npz", "probabilities.npz", "epoch-3.safetensors")
DECISIONS = ("thresholds.json", "scores.json")


@dataclass(frozen=True)
class Command:
    """A command that writes.

    Attributes:
        title: of its own, as one command may be there in several ways.
        words: of its command line.
        state: that it begins with.
        results: patterns of the files that must not differ; what only tells of times is none.
        once: whether it refuses to replace what it has made.
    """

    title: str
    words: tuple[str, ...]
    state: str
    results: tuple[str, ...]
    once: bool = False


def _of_run(*names: str) -> tuple[str, ...]:
    return tuple(f"runs/debug/{name}" for name in names)


FOLD_0 = _of_run(*(f"fold-0/{name}" for name in FOLD))
TRACKED = ("tracking=wandb", "tracking.mode=offline")
COMMANDS = {
    command.title: command
    for command in (
        Command("phantom", ("phantom", "new", "--patients", "2", "--test-patients", "1", "--size", "64"), "data",
                ("new/**/*",), once=True),
        Command("split", ("split", *WORDS), "data", ("folds.csv",)),
        Command("convert", ("convert", "data", "-o", "coco.json", "--to", "coco"), "data", ("coco.json",), once=True),
        Command("train", ("train", "fold=0", *WORDS), "split", FOLD_0),
        Command("train, loader processes", ("train", "fold=0", *WORDS, "trainer.workers=2"), "split", FOLD_0),
        Command("train, tracked offline", ("train", "fold=0", *WORDS, *TRACKED), "split", FOLD_0),
        Command("train-all", ("train-all", *WORDS), "trained", _of_run(*DECISIONS)),
        Command("submit", ("submit", *WORDS), "chosen", _of_run("submission.csv", *DECISIONS)),
        Command("autoaugment", ("autoaugment", "fold=0", *WORDS, "search.trials=4", "search.top=2"), "chosen",
                _of_run("policy.yaml")),
        Command("ensemble", ("ensemble", "members.yaml", "-o", "runs/both"), "finished",
                tuple(f"runs/both/{name}" for name in ("ensemble.yaml", "submission.csv", "oof.csv", *DECISIONS))),
        Command("pseudo", ("pseudo", "--run", "runs/debug", "--raw"), "finished", _of_run("pseudo.csv", "pseudo.json")),
        Command("label-errors", ("label-errors", "--run", "runs/debug"), "finished",
                _of_run("label_errors.csv", "corrections*.csv", "label_errors/*")),
        Command("predict", ("predict", "data/test", "-o", "out", "--run", "runs/debug"), "finished",
                ("out/predictions.csv", "out/masks/**/*", "out/overlays/*", "out/polygons/*")),
        Command("export", ("export", "runs/debug", "-o", "model.pt2", "--fold", "0"), "finished", ("model.pt2",)),
        Command("leaderboard", ("leaderboard", "runs/debug", "--public", "0.9"), "finished", _of_run("scores.json")),
        Command("vote", ("vote", *["runs/debug/submission.csv"] * 2, "-o", "vote.csv"), "finished", ("vote.csv",)),
        Command("clean", ("clean", *WORDS), "finished", _of_run("**/*")),
    )
}  # fmt: skip
# Each state: the one before, and what leads from there.
STEPS = {
    "split": ("data", [COMMANDS["split"].words]),
    "trained": ("split", [("train", f"fold={fold}", *WORDS) for fold in (0, 1)]),
    "chosen": ("trained", [COMMANDS["train-all"].words]),
    "finished": ("chosen", [COMMANDS["submit"].words]),
}


@dataclass(frozen=True)
class Undisturbed:
    """A command that nobody disturbed.

    Attributes:
        seconds: that it took.
        operations: on files, in order.
        results: digests by the paths of the results.
        sizes: in bytes, of all files that it wrote.
    """

    seconds: float
    operations: tuple[str, ...]
    results: dict[str, str]
    sizes: tuple[int, ...]


class Place:
    """A folder with the states, each a folder; and what the commands leave.

    Args:
        cache: the folder; states that are there already are taken as they are.
    """

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self._known: dict[str, Undisturbed] = {}
        self.uploaded: dict[str, tuple[dict[str, Any], float]] = {}  # what a server was told, and seconds
        self.launched: dict[str, float] = {}  # seconds of commands, their start included

    def state(self, name: str) -> Path:
        """The folder of a state, made from the one before where it is missing."""
        folder = self.cache / "states" / name
        if folder.is_dir():
            return folder
        part = folder.with_name(f"{name}.part")
        shutil.rmtree(part, ignore_errors=True)
        if name == "data":
            part.mkdir(parents=True)
            write_dataset(part / "data", 4, 2, 128, seed=0, workers=0)
            (part / "members.yaml").write_text(MEMBERS)
        else:
            before, commands = STEPS[name]
            shutil.copytree(self.state(before), part, symlinks=True)
            for words in commands:
                require(processes.run(part, words))
        return part.rename(folder)

    def copy(self, state: str, name: str) -> Path:
        """A copy of a state to work in, in place of an earlier one."""
        folder = self.cache / "work" / name
        shutil.rmtree(folder, ignore_errors=True)
        return Path(shutil.copytree(self.state(state), folder, symlinks=True))

    def undisturbed(self, command: Command) -> Undisturbed:
        """What a command does and leaves."""
        if command.title not in self._known:
            folder = self.copy(command.state, "undisturbed")
            before, journal = sizes(folder), folder.with_name("operations.txt")
            start = time.monotonic()
            require(processes.run(folder, command.words, partial(trap.note, folder, journal)))
            seconds = time.monotonic() - start
            written = tuple(size for path, size in sizes(folder).items() if before.get(path) != size)
            operations = tuple(journal.read_text().splitlines())
            self._known[command.title] = Undisturbed(seconds, operations, results(command, folder), written)
        return self._known[command.title]

    def recovered(self, command: Command, folder: Path, *before: processes.Step) -> str:
        """Give a command again where it was disturbed; what is wrong with its end or its results, if anything."""
        ended = processes.run(folder, command.words, *before)
        if fault := misspoken(command, ended, [0, 1, 2] if command.once else [0]):
            return f"again: {fault}"
        return self.difference(command, folder)

    def difference(self, command: Command, folder: Path) -> str:
        """In what the results differ from undisturbed ones, or what is left half-written."""
        expected, there = self.undisturbed(command).results, results(command, folder)
        if there != expected:
            names = sorted(path for path in {*there, *expected} if there.get(path) != expected.get(path))
            return f"{names[0]} differs or is missing ({len(names)} in all)"
        left = [path for path in folder.rglob(".*") if leftovers._NAME.fullmatch(path.name)]
        return f"{left[0].relative_to(folder)} is left half-written" if left else ""


def require(ended: Ended) -> None:
    """Raise RuntimeError where a command that nobody disturbed fails."""
    if ended.code:
        raise RuntimeError(f"exit code {ended.code}: {ended.told[-3000:]}")


def misspoken(command: Command, ended: Ended, codes: Sequence[int], *, about: str = "") -> str:
    """What is wrong with the end of a command: a traceback, another exit code, no line with cause and way out.

    Args:
        codes: that are right.
        about: that the line must have.
    """
    if "Traceback (most recent call last)" in ended.told:
        return f"a traceback: {ended.told.strip().splitlines()[-1][:200]}"
    if ended.code not in codes:
        return f"exit code {ended.code}: {ended.last[:300]}"
    if ended.code > 0 and (not ended.last.startswith(f"bonepipe {command.words[0]}: ") or about not in ended.last):
        return f"exit code {ended.code} without a line that says why: {ended.told.strip()[-300:]}"
    return ""


def results(command: Command, folder: Path) -> dict[str, str]:
    """Path -> digest of the results that are there."""
    paths = {path for pattern in command.results for path in folder.glob(pattern) if path.is_file()}
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(paths)}


def sizes(folder: Path) -> dict[str, int]:
    """Path -> bytes of all files."""
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
