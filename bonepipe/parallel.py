"""Cores to work on, threads that wait, and work on the CPU beside work on the device."""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Generic, TypeVar

from tqdm import tqdm

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

Item = TypeVar("Item")
Result = TypeVar("Result")


CORES = "BONEPIPE_CORES"  # at most so many; folds that run at once get a share each
SHARERS = "BONEPIPE_SHARERS"  # processes that train on one device at once
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")  # how threads of GNU's and LLVM's OpenMP wait


def cores() -> int:
    """Processor cores that this process may use; in a container these can be fewer than the machine has."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = os.environ.get(CORES, "")
    return min(here, max(1, int(share))) if share.isdecimal() else here


def sharers() -> int:
    """How many processes, this one among them, share the memory of its device."""
    told = os.environ.get(SHARERS, "")
    return max(1, int(told)) if told.isdecimal() else 1


def let_threads_sleep(environment: MutableMapping[str, str]) -> None:
    """Have OpenMP's threads soon sleep while they wait for each other, unless the user has said how they wait.

    They spin for milliseconds otherwise: beside other processes, even at nice 19, a spinning thread keeps the one that
    it waits for from its core, and a training step takes several times as long. To sleep at once costs 15% alone, to
    spin for some tens of microseconds nothing, for a few of them 12% on a slow virtual machine. Read when torch is
    imported, inherited by processes.
    """
    if not any(name in environment for name in WAITING):
        environment["GOMP_SPINCOUNT"] = "10000"


def in_processes(
    work: Callable[[Item], Result], items: Sequence[Item], title: str, *, unit: str = "image", least: int = 24
) -> list[Result]:
    """`work` of each item, in their order, a process a core, under a bar.

    Args:
        work: can be pickled, as the items and the results can; it may hold the interpreter.
        items: fewer than `least` are worked on here, which takes less time than starting processes.
        title, unit: of the bar.
    """
    count = min(cores(), len(items))
    if count < 2 or len(items) < least:
        return list(tqdm(map(work, items), title, len(items), unit=unit))
    context = multiprocessing.get_context("spawn")  # a fork would copy locks that threads hold
    with ProcessPoolExecutor(count, context, initializer=alone) as pool:
        return list(tqdm(pool.map(work, items, chunksize=2), title, len(items), unit=unit))


def alone() -> None:
    """Have a process of several keep to its core, and end with the one that started it."""
    import cv2

    cv2.setNumThreads(1)
    end_with_starter()


def end_with_starter() -> None:
    """End this process of multiprocessing as soon as the one that started it is gone, killed for example.

    The others would wait for work for ever: in a pool each holds both ends of the pipe that it waits at, and torch's
    loaders look at the parent, which is a server (`forkserver`) that in turn waits for them.
    """
    if starter := multiprocessing.parent_process():
        threading.Thread(target=_end_after, args=(starter,), daemon=True).start()


def _end_after(starter: "BaseProcess") -> None:
    starter.join()
    os._exit(1)


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
