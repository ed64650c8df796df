"""A machine that others use too: a training step beside busy processes. And how long it takes to get to the first."""

import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bonepipe.parallel import cores, let_threads_sleep

from .material import Material
from .measure import Pair, run_child
from .steps_model import bare_steps, parts
from .table import Row, duration, faster

HERE = "tests.benchmarks.steps_busy"
IDLE = 19  # the niceness of work that shall disturb nobody
BUSY = f"import os; os.nice({IDLE} - os.nice(0))\nwhile True: sum(range(10 ** 6))"


@contextmanager
def beside(count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """So many processes that compute without end, at the lowest priority of sessions of their own.

    Linux shares cores out among sessions first, and looks at niceness only within one: another user's work at nice 19
    takes as much as ours.
    """
    rivals = [subprocess.Popen([sys.executable, "-S", "-c", BUSY], start_new_session=True) for _ in range(count)]
    try:
        yield rivals
    finally:
        for rival in rivals:
            rival.kill()
            rival.wait()


def step_seconds(folder: str, original: str, size: str, batch_size: str, steps: str) -> float:
    """Mean time of the demo's training step, without the first two."""
    module, data = parts(Material(Path(folder), int(original)), int(size), int(batch_size), int(steps))
    return statistics.fmean(bare_steps(module, data).seconds[1:])


def spin_and_sleep(material: Material, turns: int, steps: int, size: int = 160, batch_size: int = 4) -> Pair:
    """A step with threads that wait as OpenMP has it, and as the commands have it, in turn; the ratio is that."""
    words = f"{HERE}:step_seconds", material.folder, material.size, size, batch_size, steps
    ours: dict[str, str] = {}
    let_threads_sleep(ours)
    pairs = []
    for _ in range(turns):
        both = [run_child(*words, thread_count=cores(), waiting=waiting).result for waiting in ({}, ours)]
        pairs.append((both[0], both[1]))
    spins, sleeps = (statistics.median(column) for column in zip(*pairs, strict=True))
    return Pair(spins, sleeps, statistics.median(a / b for a, b in pairs))


def busy(material: Material, turns: int, steps: int) -> list[Row]:
    """Threads that spin or sleep while they wait, alone and beside one process more than there are cores."""
    alone = spin_and_sleep(material, turns, steps)
    with beside(cores() + 1):
        crowded = spin_and_sleep(material, turns, steps)
    step = f"training step, batch 4 at 160, {cores()} threads that spin (baseline) or sleep while they wait"
    slower = 1 / alone.ratio
    limit = {"target": "ours at most 1.03x baseline", "met": slower <= 1.03}
    return [
        faster(f"{step}, beside {cores() + 1} sessions busy at nice {IDLE}", crowded, 1.5, ""),
        Row("... alone", duration(alone.baseline), duration(alone.ours), f"{slower:.3f}", **limit),
    ]


def start(material: Material, turns: int, size: int = 160) -> list[Row]:
    """From the command to the end of the first step, with a store that is there."""
    runs = material.folder / "start"
    words = [
        *("train", "fold=0", "experiment=demo", "data.name=bench", f"data.root={material.root}", f"data.size={size}"),
        *("tracking=none", "device=cpu", f"runs={runs}", f"folds.file={runs / 'folds.csv'}", "folds.count=2"),
    ]
    results = []
    for turn in range(turns + 1):  # the first makes the store, and Python's byte code
        shutil.rmtree(runs / f"turn-{turn}", ignore_errors=True)  # of another version
        child = run_child("tests.benchmarks.first:first_step", *words, f"name=turn-{turn}", thread_count=cores())
        results.append(child.result)
    wall, cpu = (statistics.median(result[key] for result in results[1:]) for key in ("wall", "cpu"))
    step = f"`train` to the end of its first step, the demo's, {cores()} threads"
    return [Row(step, ours=f"{duration(wall)}, {duration(cpu)} of the CPU", target="under 10 s", met=wall < 10)]
