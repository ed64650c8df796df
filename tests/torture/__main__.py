"""`make torture`: disturb every command that writes, give it again, and compare with an undisturbed run's results.

Kinds: commands killed at each of their operations on files and at any moment, signals, full disks, limits on files,
folders that can only be read, files that vanish or are damaged, two commands at once. Each trial must end with results
equal to the byte, and what was printed must be a line with cause and way out. What was interrupted goes on; a change of
the code begins anew.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tqdm import tqdm

from . import damage, disks, kills, pairs, stops, syncs, table
from .place import COMMANDS, Place
from .processes import REPOSITORY
from .trials import Trial

ALL = tuple(COMMANDS)
Make = Callable[[Place, int, int], Iterator[Trial]]  # of a place, a number of trials and a seed
KINDS: dict[str, Make] = {
    "placed": lambda place, count, _: kills.placed(place, ALL, 6 * count),
    "random": lambda place, count, seed: kills.trees(place, 2 * count, seed),
    "sync": lambda place, count, seed: syncs.trials(place, 2 * count, seed),
    "signals": lambda place, count, seed: stops.trials(place, ALL, max(1, count // 3), seed),
    "full": lambda place, count, seed: disks.full(place, ALL, count, seed),
    "limit": lambda place, count, _: disks.limited(place, ALL, count),
    "readonly": lambda place, *_: disks.locked(place, ALL),
    "damaged": lambda place, *_: damage.trials(place),
    "pairs": lambda place, count, _: pairs.trials(place, max(1, count // 2)),
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser("python -m tests.torture", description=__doc__)
    result.add_argument("--only", nargs="+", choices=list(KINDS), metavar="KIND", help=f"of {', '.join(KINDS)}")
    result.add_argument("--trials", type=int, default=6, metavar="N", help="scale of all numbers (%(default)s)")
    result.add_argument("--seed", type=int, default=0, help="of the moments (%(default)s)")
    result.add_argument("--cache", type=Path, default=Path("runs/.torture"), help="working folder (%(default)s)")
    result.add_argument("--document", type=Path, default=REPOSITORY / "docs" / "reliability.md", help="%(default)s")
    return result


def main() -> int:
    """Exit code 1 where a trial went wrong."""
    flags = parser().parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # of all commands, which are forked from a server that inherits it
    cache = flags.cache.resolve() / table.version()
    place, journal = Place(cache), table.Journal(cache / f"trials-{flags.seed}.csv")
    for kind in flags.only or KINDS:
        trials = list(KINDS[kind](place, flags.trials, flags.seed))
        for trial in tqdm(trials, kind, unit="trial"):
            if trial in journal:
                continue
            outcome = trial.run()
            journal.add(trial, outcome)
            if outcome.fault:
                tqdm.write(f"{trial.kind}: {trial.title}: {outcome.fault}", file=sys.stderr)
    print(table.render(journal.rows))
    if flags.only is None:
        note = f"`make torture` with {flags.trials} as its scale and seed {flags.seed}; {table.machine()}."
        table.write(flags.document, journal.rows, note)
    return int(any(table.faults(journal.rows)))


if __name__ == "__main__":
    sys.exit(main())
