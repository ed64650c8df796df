"""`python -m tests.benchmarks`: measure, print the table, write docs/benchmarks.md."""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from . import growth, steps_busy, steps_data, steps_files, steps_labels, steps_loss, steps_model
from .material import Material
from .measure import REPOSITORY, threads
from .table import Row, machine, render, write

Step = Callable[[Material], list[Row]]

FULL: dict[str, Step] = {
    "cold": lambda m: steps_data.cold(m, 7),
    "store": lambda m: steps_data.from_store(m, 7),
    "out-of-fold": lambda m: steps_labels.out_of_fold(m, 5),
    "validation": lambda m: steps_labels.validation(m, 5),
    "encoding": lambda m: steps_labels.encoding(m, 7),
    "vote": lambda m: steps_files.vote(m, 3),
    "score": lambda m: steps_files.score(m, 3),
    "thresholds": lambda m: steps_labels.threshold_choice(m, 5),
    "ensemble": lambda m: steps_model.ensemble(m, 8),
    "loss": lambda _: steps_loss.lean(5),
    "training": lambda m: steps_model.training_step(m, 3, 16),
    "busy": lambda m: steps_busy.busy(m, 3, 6),
    "start": lambda m: steps_busy.start(m, 3),
    "epoch": lambda m: steps_model.epoch(m, 200),
    "phantom": lambda m: steps_data.phantom(m, 5),
    "submit": lambda m: steps_model.submit(m, (24, 48, 96), 12),
    "crowd": lambda m: steps_model.crowd(m, 24),
    "store-growth": lambda m: growth.store(m, (16, 32, 64)),
    "threshold-growth": lambda m: growth.thresholds(m, (200, 400, 800)),
}
QUICK: dict[str, Step] = {
    "cold": lambda m: steps_data.cold(m, 1),
    "store": lambda m: steps_data.from_store(m, 1),
    "out-of-fold": lambda m: steps_labels.out_of_fold(m, 1, classes=2),
    "validation": lambda m: steps_labels.validation(m, 1, 16),
    "encoding": lambda m: steps_labels.encoding(m, 1),
    "vote": lambda m: steps_files.vote(m, 1, 8),
    "score": lambda m: steps_files.score(m, 1, 8),
    "thresholds": lambda m: steps_labels.threshold_choice(m, 1, 100),
    "ensemble": lambda m: steps_model.ensemble(m, 3),
    "loss": lambda _: steps_loss.lean(1, (1, 29, 512, 512)),
    "training": lambda m: steps_model.training_step(m, 1, 10),
    "start": lambda m: steps_busy.start(m, 1),
    "phantom": lambda m: steps_data.phantom(m, 1),
    "crowd": lambda m: steps_model.crowd(m, 2, 128),
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser("python -m tests.benchmarks", description=__doc__)
    result.add_argument("--quick", action="store_true", help="fewer repeats, no growth; under a minute, not written")
    result.add_argument("--only", nargs="+", choices=list(FULL), metavar="STEP", help=f"of {', '.join(FULL)}")
    result.add_argument("--write", action="store_true", help="write docs/benchmarks.md even if quick or partial")
    result.add_argument("--cache", type=Path, default=Path("runs/.bench"), help="folder of the phantom (%(default)s)")
    return result


def measure(steps: dict[str, Step], material: Material) -> list[Row]:
    """Run the steps one after another, a line on the screen each."""
    rows = []
    for name, step in steps.items():
        start = time.perf_counter()
        with threads(1):
            found = step(material)
        rows += found
        for row in found:
            print("  ".join(cell for cell in row.cells[:6] if cell), file=sys.stderr, flush=True)
        print(f"({name}: {time.perf_counter() - start:.1f} s)", file=sys.stderr, flush=True)
    return rows


def main() -> int:
    """Exit code 1 where a target is missed; results that differ raise AssertionError."""
    flags = parser().parse_args()
    flags.cache.mkdir(parents=True, exist_ok=True)
    material = Material(flags.cache.resolve(), 2048)
    start = time.perf_counter()
    steps = {name: step for name, step in (QUICK if flags.quick else FULL).items() if name in (flags.only or FULL)}
    note = f"Measured on {machine()}"
    rows = measure(steps, material)
    if flags.quick:
        note += " **Quick: few repeats, small counts.**"
    print(f"{note}\n\n{render(rows)}\n\n{len(rows)} rows in {time.perf_counter() - start:.0f} s")
    if flags.write or not (flags.quick or flags.only):
        write(REPOSITORY / "docs" / "benchmarks.md", rows, note)
    return int(any(row.met is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
