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
from .trials import Trial, spread

ALL = tuple(COMMANDS)
MOST = 1000  # operations of a command
Make = Callable[[Place, int, int], Iterator[Trial]]  # of a place, a number of trials to choose from and a seed


def each(count: int, ways: int) -> int:
    """How often each of so many ways is taken, so that there are enough trials to choose from."""
    return max(1, -(-count // ways))


KINDS: dict[str, Make] = {
    "placed": lambda place, *_: kills.placed(place, ALL, MOST),
    "random": lambda place, count, seed: kills.trees(place, each(count, len(kills.TREES)), seed),
    "sync": lambda place, count, seed: syncs.trials(place, count, seed),
    "signals": lambda place, count, seed: stops.trials(place, ALL, each(count, len(ALL) * len(stops.SIGNALS)), seed),
    "full": lambda place, count, seed: disks.full(place, ALL, each(count, len(ALL)), seed),
    "limit": lambda place, *_: disks.limited(place, ALL, MOST),
    "readonly": lambda place, *_: disks.locked(place, ALL),
    "damaged": lambda place, *_: damage.trials(place),
    "pairs": lambda place, count, _: pairs.trials(place, each(count, len(pairs.PAIRS))),
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser("python -m tests.torture", description=__doc__)
    result.add_argument("--only", nargs="+", choices=list(KINDS), metavar="KIND", help=f"of {', '.join(KINDS)}")
    result.add_argument("--trials", type=int, default=120, metavar="N", help="at most, of each kind (%(default)s)")
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
        trials = spread([*KINDS[kind](place, flags.trials, flags.seed)], flags.trials)
        for trial in tqdm(trials, kind, unit="trial"):
            if trial in journal:
                continue
            outcome = trial.run()
            journal.add(trial, outcome)
            if outcome.fault:
                tqdm.write(f"{trial.kind}: {trial.title}: {outcome.fault}", file=sys.stderr)
    print(table.render(journal.rows))
    if flags.only is None:
        note = f"At most {flags.trials} trials of a kind, seed {flags.seed}; {table.machine()}."
        table.write(flags.document, journal.rows, note)
    return int(any(table.faults(journal.rows)))


if __name__ == "__main__":
    sys.exit(main())
