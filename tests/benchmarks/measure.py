"""Measuring: two ways in turn, and commands in processes of their own."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import torch

from bonepipe.parallel import WAITING, let_threads_sleep

REPOSITORY = Path(__file__).parents[2]
MB = 1 << 20


@dataclass(frozen=True)
class Pair:
    """Medians in seconds, and the median of the ratios of neighbouring measurements."""

    baseline: float
    ours: float
    ratio: float


@dataclass(frozen=True)
class Child:
    """A finished process: wall time with its start, largest resident set in bytes, what its function returned."""

    seconds: float
    peak: int
    result: Any


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch and OpenCV use so many threads."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


Clock = Callable[[], float]


def seconds(call: Callable[[], Any], calls: int = 1, clock: Clock = time.perf_counter) -> float:
    """Mean time of a call: wall time, or that of another clock."""
    start = clock()
    for _ in range(calls):
        call()
    return (clock() - start) / calls


def alternate(
    baseline: Callable[[], Any],
    ours: Callable[[], Any],
    repeats: int,
    calls: int = 1,
    clock: Clock = time.perf_counter,
) -> Pair:
    """Time both ways in turn, A B A B, after one call of each; `calls` of ours are averaged in each turn.

    `time.process_time` is the clock for one core's work: it does not count what other processes take.
    """
    baseline()
    ours()
    turns = [(seconds(baseline, clock=clock), seconds(ours, calls, clock)) for _ in range(repeats)]
    ratio = statistics.median(a / b for a, b in turns)
    return Pair(statistics.median(a for a, _ in turns), statistics.median(b for _, b in turns), ratio)


def median_seconds(call: Callable[[], Any], repeats: int) -> float:
    """Median wall time, after one call."""
    call()
    return statistics.median(seconds(call) for _ in range(repeats))


def run_child(*words: object, thread_count: int = 1, waiting: Mapping[str, str] | None = None) -> Child:
    """Run `child.py` with these words in the repository's folder; raises RuntimeError with its output if it fails.

    Args:
        waiting: variables that say how OpenMP's threads wait for each other; None for those of the commands.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(thread_count))
        environment = {**os.environ, **limits, "BENCH_REPORT": str(report)}
        if waiting is None:
            let_threads_sleep(environment)
        else:
            environment = {name: value for name, value in environment.items() if name not in WAITING} | dict(waiting)
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # a command that compiles its modules anew is no user's
        command = [sys.executable, "-m", "tests.benchmarks.child", *map(str, words)]
        start = time.perf_counter()
        done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
        elapsed = time.perf_counter() - start
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr[-3000:]}")
        facts = json.loads(report.read_text())
    return Child(elapsed, facts["peak"], facts["result"])
