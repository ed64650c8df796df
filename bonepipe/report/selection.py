"""The choice of an ensemble's members, told: every run and pair, the greedy search, and what remains of the gain."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bonepipe.inference.ensemble import selection
from bonepipe.inference.ensemble.library import Counts
from bonepipe.inference.ensemble.selection import ClassChoice, EnsembleChoice, Library, Search, reduced
from bonepipe.labels.dice import SIZES

TABLE_ROWS = 15  # of pairs, and of classes


@dataclass(frozen=True)
class Result:
    """All that is reported.

    Attributes:
        names: of the runs.
        classes: their names.
        folds: that each image validates, `[N]`.
        stored: bytes of the runs' out-of-fold probabilities.
        library: what mixtures are scored with.
        search: its settings.
        choice: one mixture for all classes.
        per_class: a mixture a class, where that was asked for.
        path: the file that was written.
    """

    names: list[str]
    classes: Sequence[str]
    folds: NDArray[np.int64]
    stored: int
    library: Library
    search: Search
    choice: EnsembleChoice
    per_class: ClassChoice | None
    path: Path

    @property
    def chosen(self) -> list[Counts]:
        """One mixture a class."""
        return [self.choice.counts] * len(self.classes) if self.per_class is None else self.per_class.counts

    @property
    def command(self) -> str:
        """What uses the file."""
        return f"bonepipe ensemble {self.path} -o {self.path.parent}"

    def per_label(self, counts: Counts) -> NDArray[np.float64]:
        """Dice `[C]` of a mixture, mean over all images."""
        return self.library.dice(counts, range(len(self.classes))).mean(0)

    @property
    def singles(self) -> NDArray[np.float64]:
        """Dice `[M, C]` of each run alone."""
        runs = self.library.runs
        return np.stack([self.per_label(selection.single(run, runs)) for run in range(runs)])

    @property
    def kept(self) -> int:
        """Bytes of the pixels on which runs disagree."""
        return sum(pixels.nbytes for pixels in self.library.pixels)

    def dice(self, counts: Counts) -> float:
        """Dice of a mixture, mean over all images and classes."""
        return float(self.per_label(counts).mean())

    def greedy(self) -> list[Counts]:
        """The path of the search over all images."""
        return self.search.path(self.library, range(len(self.classes)), selection.ALL)

    def text(self, counts: Counts) -> str:
        """A mixture in words: `2 x wide + demo`."""
        terms = [(count, name) for count, name in zip(reduced(counts), self.names, strict=True) if count]
        return " + ".join(name if count == 1 else f"{count} x {name}" for count, name in terms)


def short_names(folders: Sequence[str]) -> list[str]:
    """The folders' last parts, or where these are not unique the folders."""
    names = [Path(folder).resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else list(folders)


def as_json(result: Result) -> dict[str, Any]:
    """Everything as plain values."""
    library, choice, names = result.library, result.choice, result.names
    mixtures, alone = selection.singles_and_pairs(library.runs), result.singles.tolist()
    facts: dict[str, Any] = {
        "runs": names,
        "images": library.images,
        "folds": len(np.unique(result.folds)),
        "stored_bytes": result.stored,
        "bytes": result.kept,
        "mixtures": {result.text(counts): result.dice(counts) for counts in mixtures},
        "path": [{"mixture": result.text(counts), "dice": result.dice(counts)} for counts in result.greedy()],
        "best_run": result.text(choice.best),
        "tried": result.text(choice.tried),
        "chosen": result.text(choice.counts),
        "counts": dict(zip(names, reduced(choice.counts), strict=True)),
        "optimistic_gain": choice.promised,
        "cross_fitted_gain": choice.gain,
        "standard_error": choice.error,
        "cross_fitted_dice": float(choice.dice.mean()),
        "runs_per_class": dict(zip(names, (dict(zip(result.classes, row, strict=True)) for row in alone), strict=True)),
        "runs_by_size": dict(zip(names, selection.by_size(library), strict=True)),
        "file": str(result.path),
        "command": result.command,
    }
    if result.per_class is not None:
        by_class = result.per_class
        columns = by_class.differs, by_class.gain, by_class.error
        rows = zip(by_class.counts, *(column.tolist() for column in columns), strict=True)
        facts["cross_fitted_dice"] = float(by_class.dice.mean())
        facts["per_class"] = {
            name: {"mixture": result.text(counts), "own": kept, "cross_fitted_gain": gain, "standard_error": error}
            for name, (counts, kept, gain, error) in zip(result.classes, rows, strict=True)
        }
    return facts


def report(result: Result) -> str:
    """Lay the result out for people."""
    library = result.library
    head = (
        f"{library.runs} runs, {library.images} images in {len(np.unique(result.folds))} folds, {len(result.classes)} "
        f"classes; {result.stored / 1e6:.1f} MB of probabilities, {result.kept / 1e6:.1f} MB of pixels on which runs "
        "disagree"
    )
    blocks = [[head], _runs(result), _best_runs(result), _pairs(result), _path(result), [verdict(result)]]
    if result.per_class is not None:
        blocks.append(_per_class(result, result.per_class))
    blocks.append([f"wrote {result.path}; to use it:", f"  {result.command}"])
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _runs(result: Result) -> list[str]:
    sizes, runs = selection.by_size(result.library), result.library.runs
    width = max(map(len, ("run", *result.names)))
    head = " ".join([f"{'run alone':<{width + 4}} {'OOF Dice':>9}", *(f"{size:>8}" for size in SIZES)])
    rows = []
    for run, name in enumerate(result.names):
        thirds = " ".join(f"{sizes[run][size]:8.4f}" if size in sizes[run] else f"{'-':>8}" for size in SIZES)
        rows.append(f"{name:<{width + 4}} {result.dice(selection.single(run, runs)):9.4f} {thirds}")
    return [head, *rows, "  (small, medium, large: thirds of the true masks by their pixels)"]


def _best_runs(result: Result) -> list[str]:
    """The classes where another run than the best one is best, and by how much."""
    alone, best = result.singles, result.choice.best.index(1)
    lead = alone.max(0) - alone[best]
    order = [int(label) for label in np.argsort(-lead) if lead[label] > 0]
    if not order:
        return [f"{result.names[best]} is the best single run in every class"]
    rows = [
        f"  {result.classes[label]:<24} {alone[:, label].max():8.4f} {lead[label]:+8.4f}  "
        f"{result.names[int(alone[:, label].argmax())]}"
        for label in order[:TABLE_ROWS]
    ]
    title = f"{result.names[best]} is the best single run; in {len(order)} of {len(alone[0])} classes another is better"
    return [f"{title}:", *rows, *_more(len(order))]


def _more(count: int) -> list[str]:
    return [f"  and {count - TABLE_ROWS} more (--json has all)"] if count > TABLE_ROWS else []


def _pairs(result: Result) -> list[str]:
    mixtures = selection.singles_and_pairs(result.library.runs)
    pairs = [counts for counts in mixtures if selection.complexity(counts)[0] == 2]
    pairs.sort(key=result.dice, reverse=True)
    rows = [f"  {result.dice(counts):.4f}  {result.text(counts)}" for counts in pairs[:TABLE_ROWS]]
    return ["pairs:", *rows, *_more(len(pairs))]


def _path(result: Result) -> list[str]:
    path = result.greedy()
    rows = [f"  {result.dice(counts):.4f}  {result.text(counts)}" for counts in path]
    stopped = "no run improves it further" if sum(path[-1]) < result.search.steps else "as many steps as allowed"
    return ["greedy search, Dice on the images that it is chosen on:", *rows, f"  ({stopped})"]


def verdict(result: Result) -> str:
    """What came out, in plain words."""
    choice, alone = result.choice, result.text(result.choice.best)
    if len(np.unique(result.folds)) == 1:
        return f"There is one fold only, so no gain can be verified on another: {alone}, the best single run, is taken."
    margin = f"{result.search.margin:g} standard errors"
    if choice.counts != choice.best:
        return (
            f"{result.text(choice.counts)} gains {choice.gain:+.4f} +- {choice.error:.4f} over the best single run on "
            f"folds that had no say in the choice ({choice.promised:+.4f} on its own images): it is taken."
        )
    if choice.tried == choice.best:
        return f"One run alone is as good: no mixture beats {alone} by more than {margin}."
    return (
        f"One run alone is as good: {result.text(choice.tried)} promises {choice.promised:+.4f} over {alone}, but on "
        f"folds that had no say in the choice the gain is {choice.gain:+.4f} +- {choice.error:.4f}, not above {margin}."
    )


def _per_class(result: Result, choice: ClassChoice) -> list[str]:
    kept = np.flatnonzero(choice.differs)
    rows = [
        f"  {result.classes[label]:<24} {choice.gain[label]:+8.4f} +- {choice.error[label]:.4f}  "
        f"{result.text(choice.counts[label])}"
        for label in kept[np.argsort(-choice.gain[kept])]
    ]
    dice = f"cross-fitted Dice {result.choice.dice.mean():.4f} -> {choice.dice.mean():.4f}"
    if not rows:
        return ["No class gains more than noise from a mixture of its own."]
    return [f"{len(rows)} of {len(choice.differs)} classes get a mixture of their own, {dice}:", *rows]
