"""Cores to work on, and work on the CPU beside work on the device."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """Processor cores that this process may use; in a container these can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
