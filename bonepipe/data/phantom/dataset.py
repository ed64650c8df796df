"""A whole phantom dataset on disk: radiographs, annotations, metadata and the answers kept beside them."""

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
from tqdm import tqdm

from bonepipe.data.phantom import PLANTED_SHARE
from bonepipe.data.phantom.metadata import metadata_table, write_metadata
from bonepipe.data.phantom.plan import Plan, make_plan
from bonepipe.data.phantom.sample import Outcome, Task, write_sample
from bonepipe.data.submission import ANSWER
from bonepipe.data.synthetic import write_mark
from bonepipe.errors import BonepipeError
from bonepipe.files import appearing, write_csv
from bonepipe.parallel import alone, cores

SMALLEST_SIZE = 64  # pixels; below this the carpal bones vanish
POOL_FROM = 40e6  # pixels in all: starting processes takes longer than drawing fewer


def write_dataset(
    out: Path,
    patients: int,
    test_patients: int,
    size: int = 2048,
    seed: int = 0,
    workers: int | None = None,
    planted: float = PLANTED_SHARE,
) -> None:
    """Write a dataset of `patients` train and `test_patients` test patients, two hands each, to the new folder `out`.

    Args:
        out: folder to make; it appears only when it is complete.
        patients: number of train patients, at least 1.
        test_patients: number of test patients.
        size: side of the square images in pixels.
        seed: same seed, same bytes, whatever the number of workers.
        workers: processes; None takes one a CPU when the work is worth it, 0 and 1 work in this process.
        planted: share of the train images whose annotation is wrong on purpose, at most one image of a patient.

    Raises:
        BonepipeError: when `out` exists or a number makes no sense.
    """
    out = Path(out)
    _check(out, patients, test_patients, size)
    plan = make_plan(patients, test_patients, seed, planted)
    with appearing(out) as root:
        tasks = [Task(root, visit, hand, size, seed) for visit in plan.visits for hand in (0, 1)]
        outcomes = _work(tasks, _worker_count(workers, len(tasks), size))
        _write_tables(root, plan, outcomes, seed)
        write_mark(root)


def _check(out: Path, patients: int, test_patients: int, size: int) -> None:
    if out.exists():
        raise BonepipeError(f"{out} exists already and is left as it is; name another folder or remove it first")
    if patients < 1 or test_patients < 0:
        raise BonepipeError(f"--patients {patients} --test-patients {test_patients}: ask for at least 1 and 0")
    if size < SMALLEST_SIZE:
        raise BonepipeError(f"images of {size} pixels are too small; --size must be at least {SMALLEST_SIZE}")


def _worker_count(workers: int | None, images: int, size: int) -> int:
    """Count the processes to use; 0 means none beside this one."""
    if workers is not None:
        return workers if workers > 1 else 0
    available = min(cores(), images)
    return available if available > 1 and images * size**2 >= POOL_FROM else 0


def _work(tasks: Sequence[Task], workers: int) -> list[Outcome]:
    """Write all samples; the outcomes come in the order of the tasks."""
    bar = {"total": len(tasks), "desc": "phantom", "unit": "image", "disable": len(tasks) < 50 and not workers}
    if not workers:
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)
        try:
            return list(tqdm(map(write_sample, tasks), **bar))
        finally:
            cv2.setNumThreads(threads)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=alone) as pool:
        return list(tqdm(pool.map(write_sample, tasks, chunksize=2), **bar))


def _write_tables(root: Path, plan: Plan, outcomes: Sequence[Outcome], seed: int) -> None:
    """Write meta_data.xlsx, planted.csv, rotated.csv and answer.csv."""
    pairs = list(zip([visit for visit in plan.visits for _ in (0, 1)], outcomes, strict=True))
    numbers = sorted([*(visit.number for visit in plan.visits), *plan.absent])
    write_metadata(root / "meta_data.xlsx", metadata_table(numbers, seed))
    write_csv(root / "rotated.csv", ("patient",), ((visit.patient,) for visit in plan.visits if visit.rotated))
    planted = ((o.image_name, v.patient, o.planted[0], " ".join(o.planted[1])) for v, o in pairs if o.planted)
    write_csv(root / "planted.csv", ("image_name", "patient", "kind", "classes"), planted)
    answers = ((o.image_name, label, rle, v.usage) for v, o in pairs for label, rle in o.answer)
    write_csv(root / ANSWER, ("image_name", "class", "rle", "Usage"), answers)
