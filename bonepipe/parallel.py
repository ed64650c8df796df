"""Cores to work on, threads that wait, and work on the CPU beside work on the device."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


CORES = "BONEPIPE_CORES"  # at most so many; folds that run at once get a share each
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")  # how threads of GNU's and LLVM's OpenMP wait


def cores() -> int:
    """Processor cores that this process may use; in a container these can be fewer than the machine has."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = os.environ.get(CORES, "")
    return min(here, max(1, int(share))) if share.isdecimal() else here


def let_threads_sleep(environment: MutableMapping[str, str]) -> None:
    """Have OpenMP's threads sleep while they wait for each other, unless the user has said how they wait.

    They spin otherwise: beside other processes, even at nice 19, a spinning thread keeps the one that it waits for from
    its core, and a training step takes several times as long. Read when torch is imported, inherited by processes.
    """
    if not any(name in environment for name in WAITING):
        environment["OMP_WAIT_POLICY"] = "PASSIVE"


def overlapped(work: Callable[[Item], Result], items: Iterable[Item], ahead: int) -> Iterator[Result]:
    """Yield `work(item)` in order; a thread works while the caller's next item is being made.

    Args:
        work: releases the interpreter for most of its time, as NumPy, OpenCV and a wait for a GPU do.
        items: made in the caller's thread, one after the other.
        ahead: items that may wait for their work, which bounds the memory; 0 works on each before the next is made.

    An error of `items` is raised after the results of the items before it.
    """
    waiting: deque[Future[Result]] = deque()
    source, fault = iter(items), None
    with ThreadPoolExecutor(1) as pool:
        while fault is None:
            try:
                waiting.append(pool.submit(work, next(source)))
            except StopIteration:
                break
            except Exception as error:
                fault = error
            while len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    if fault is not None:
        raise fault
