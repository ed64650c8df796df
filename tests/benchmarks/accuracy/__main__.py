"""`make versus`: train what has no row yet, keep each row as soon as it is measured, write docs/accuracy.md.

Test Dice of this pipeline's default recipe, of a script that fits on a page, and of nnU-Net, at equal minutes of
training, on four sets. The whole of it takes most of a day on two cores; --sets, --systems and --minutes choose a part.
"""

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from ..measure import REPOSITORY
from .place import Job, Place
from .sets import all_sets
from .systems import RATES, pace, run
from .table import Rows, document

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
    result.add_argument("--recipe", default="experiment=demo", help="settings of the pipeline (%(default)s)")
    result.add_argument("--label", default="", help="of the recipe, in its rows; such rows stay out of the document")
    result.add_argument(
        "--jobs", type=int, default=1, help="trainings at once (%(default)s), each with its share of cores"
    )
    return result


def jobs(systems: Sequence[str], minutes: Sequence[float], seeds: Sequence[int] | None) -> list[Job]:
    """What is to be trained on each set, short budgets first."""
    todo = []
    for budget in sorted(minutes):
        for seed in seeds or SEEDS.get(int(budget), (0,)):
            for system in systems:
                names = [f"script, rate {rate:g}" for rate in RATES] if system == "script" else [system]
                nnunet = system.startswith("nnU-Net")
                todo += [Job(name, budget, seed) for name in names if not nnunet or budget == NNUNET_MINUTES]
    return todo


def main() -> int:
    """Measure what is missing, and write the document."""
    given = parser().parse_args()
    cache = given.cache.resolve()
    rows = Rows(Path(__file__).parent / "rows.csv")
    todo = jobs(given.systems, given.minutes, given.seeds)
    sets = [each for each in all_sets(cache / "sets", given.chest44) if each.name in given.sets]
    places = [Place(each, cache / (given.label or "default") / each.name, tuple(given.recipe.split())) for each in sets]
    missing = [(place, job) for job in todo for place in places if not rows.has(place.set.name, job, given.label)]
    for place, job in missing:  # paces are measured alone, before anything else runs
        if not job.system.startswith("nnU-Net"):
            pace(place, "script" if job.system.startswith("script") else "pipeline")
    with ThreadPoolExecutor(given.jobs) as pool:
        waiting = {pool.submit(lambda p=place, j=job: list(run(p, j))): (place, job) for place, job in missing}
        for number, future in enumerate(as_completed(waiting), 1):
            place, job = waiting[future]
            rows.add(place.set.name, job, given.label, future.result())
            print(f"{number} of {len(waiting)}: {rows.last}", file=sys.stderr, flush=True)
    if not given.label:
        document(rows, REPOSITORY / "docs" / "accuracy.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
