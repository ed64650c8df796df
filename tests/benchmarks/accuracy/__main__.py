"""`make versus`: train what has no row yet, keep each row as soon as it is measured, write docs/accuracy.md.

Test Dice of this pipeline's default recipe, of a script that fits on a page, and of nnU-Net, at equal minutes of
training, on four sets. The whole of it takes most of a day on two cores; --sets, --systems and --minutes choose a part.
--change tries other settings of the pipeline (`--systems pipeline --change averaging=ema`).
"""

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

from ..measure import REPOSITORY
from . import systems
from .place import RATES, Job, Place, slug
from .sets import all_sets
from .table import Rows, Speeds, document

SYSTEMS = ("pipeline", "script", "five folds", "nnU-Net", "nnU-Net mirrored")
NAMES = ("phantom", "chest44", "pairs", "odd")
SEEDS = {3: (0, 1, 2)}  # of a budget in minutes; one seed where it names none
NNUNET_MINUTES = 10


def parser() -> argparse.ArgumentParser:
    """The command line."""
    shown = argparse.RawDescriptionHelpFormatter
    result = argparse.ArgumentParser("python -m tests.benchmarks.accuracy", description=__doc__, formatter_class=shown)
    result.add_argument("--sets", nargs="+", choices=NAMES, default=NAMES, help="of all (default: all)")
    result.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS[:3], help="default: %(default)s")
    result.add_argument("--minutes", nargs="+", type=float, default=(3, 10), help="of training (default: %(default)s)")
    result.add_argument("--seeds", nargs="+", type=int, help="default: 0 1 2 at three minutes, else 0")
    result.add_argument("--chest44", type=Path, help="folder of the real set; without it, it is left out")
    result.add_argument("--cache", type=Path, default=Path("runs/.versus"), help="of sets and runs (%(default)s)")
    result.add_argument("--change", default="", help="settings to try, compared with the default recipe seed by seed")
    result.add_argument("--same-pace", action="store_true", help="the change costs no time: as many images as without")
    result.add_argument(
        "--jobs", type=int, default=1, help="trainings at once (%(default)s), each with its share of cores"
    )
    return result


def jobs(systems: Sequence[str], minutes: Sequence[float], seeds: Sequence[int] | None) -> list[list[Job]]:
    """What is to be trained on each set, in rounds of one budget and seed, short budgets first."""
    rounds = []
    for budget in sorted(minutes):
        for seed in seeds or SEEDS.get(int(budget), (0,)):
            names = [name for system in systems for name in _names(system, budget)]
            rounds.append([Job(name, budget, seed) for name in names])
    return rounds


def _names(system: str, minutes: float) -> list[str]:
    """A system's jobs at a budget: the script has one for each rate."""
    if system.startswith("nnU-Net") and minutes != NNUNET_MINUTES:
        return []
    return [f"{system}, rate {rate:g}" for rate in RATES] if system == "script" else [system]


def paced(place: Place, speeds: Speeds, change: str, same_pace: bool, names: Sequence[str]) -> Place:
    """A place that knows how fast the systems are there: measured alone, before anything else runs, where unknown."""
    paces = {}
    for system in sorted({"pipeline" if name == "five folds" else name for name in names}):
        recipe = "" if same_pace or system != "pipeline" else change
        if speeds.pace(place.set.name, recipe, system) is None:
            speeds.add(place.set.name, recipe, systems.speeds(place, system))
        paces[system] = speeds.pace(place.set.name, recipe, system) or 0.0
    return replace(place, paces=paces)


def measure(missing: Sequence[tuple[Place, Job]], rows: Rows, change: str, at_once: int) -> None:
    """Run jobs, so many at once, and keep the rows of each as soon as it is done."""
    with ThreadPoolExecutor(at_once) as pool:
        waiting = {pool.submit(lambda p=place, j=job: list(systems.run(p, j))): (place, job) for place, job in missing}
        for number, future in enumerate(as_completed(waiting), 1):
            place, job = waiting[future]
            rows.add(place.set.name, job, change, future.result())
            print(f"{number} of {len(waiting)}: {rows.last}", file=sys.stderr, flush=True)


def main() -> int:
    """Measure what is missing, and write the document."""
    given = parser().parse_args()
    cache = given.cache.resolve()
    rows = Rows(Path(__file__).parent / "rows.csv")
    sets = [each for each in all_sets(cache / "sets", given.chest44) if each.name in given.sets]
    recipe = ("experiment=demo", *given.change.split())
    places = [Place(each, cache / slug(given.change) / each.name, recipe) for each in sets]
    speeds = Speeds(rows.path.with_name("speeds.csv"))
    places = [paced(place, speeds, given.change, given.same_pace, given.systems) for place in places]
    for todo in jobs(given.systems, given.minutes, given.seeds):
        pairs = [(place, job) for job in todo for place in places]
        missing = [pair for pair in pairs if rows.lacks(pair[0].set.name, pair[1], given.change)]
        measure(missing, rows, given.change, given.jobs)
    document(rows, speeds, REPOSITORY / "docs" / "accuracy.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
