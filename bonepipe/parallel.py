"""Cores to work on, and work on the CPU beside work on the device."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """Processor cores that this process may use; in a container these can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Overlap(Generic[Item, Result]):
    """Work that goes on beside the caller's, its results in the order of the items.

    Args:
        work: releases the interpreter for most of its time, as NumPy, OpenCV and a wait for a GPU do.
        ahead: items that may wait for their work, which bounds the memory; 0 works on each before the next.
        workers: threads; more than may wait are of no use.
    """

    def __init__(self, work: Callable[[Item], Result], ahead: int, workers: int = 1) -> None:
        self.work, self.ahead = work, ahead
        self._pool = ThreadPoolExecutor(max(1, min(workers, ahead)))
        self._waiting: deque[Future[Result]] = deque()

    def put(self, item: Item) -> list[Result]:
        """Hand in an item; the oldest results come back, as many as more than `ahead` would wait otherwise."""
        self._waiting.append(self._pool.submit(self.work, item))
        return self._results(self.ahead)

    def rest(self) -> list[Result]:
        """All results that are still to come; raises what the work raises, as `put` does."""
        return self._results(0)

    def _results(self, ahead: int) -> list[Result]:
        return [self._waiting.popleft().result() for _ in range(len(self._waiting) - ahead)]

    def __enter__(self) -> "Overlap[Item, Result]":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)


def overlapped(work: Callable[[Item], Result], items: Iterable[Item], ahead: int, workers: int = 1) -> Iterator[Result]:
    """Yield `work(item)` in order; threads work while the caller's next item is being made.

    Args:
        items: made in the caller's thread, one after the other.
        work, ahead, workers: of `Overlap`.

    An error of `items` is raised after the results of the items before it.
    """
    source, fault = iter(items), None
    with Overlap(work, ahead, workers) as overlap:
        while fault is None:
            try:
                item = next(source)
            except StopIteration:
                break
            except Exception as error:
                fault = error
            else:
                yield from overlap.put(item)
        yield from overlap.rest()
    if fault is not None:
        raise fault
