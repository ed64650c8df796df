"""Loaders: which processes read ahead, and from where a GPU fetches its batches."""

from collections.abc import Iterator
from math import isqrt
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from bonepipe.errors import BonepipeError
from bonepipe.parallel import cores, end_with_starter


def reading_processes(images: int, wanted: int | None = None) -> int:
    """Processes to decode so many images, each once, to be predicted: as many as are wanted, else as many as pay.

    To start a process takes about as long as to decode a radiograph of 2048 pixels, so that W of them have N images
    read after W + N / W such times: least at the root of N. Without a GPU none pays: the forward passes use all cores.
    """
    if wanted is not None:
        return wanted
    return min(cores(), isqrt(images)) if torch.cuda.is_available() else 0


def make_loader(dataset: Dataset[Any], batch_size: int, workers: int = 0, **arguments: Any) -> DataLoader[Any]:
    """A loader whose batches lie in pinned memory where there is a GPU.

    Args:
        batch_size: images a batch.
        workers: processes, each with one thread; 0 for none beside this one.
        arguments: further ones of the `DataLoader`.
    """
    return DataLoader(
        dataset,
        batch_size=batch_size,  # by its name, for Lightning may make the loader anew
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_begin,
        **arguments,
    )


def batches(dataset: Dataset[Any], batch_size: int, workers: int = 0) -> Iterator[dict[str, Any]]:
    """All batches of a dataset in order.

    Raises:
        BonepipeError: as the dataset does, without the traceback that torch puts before what a process says.
    """
    try:
        yield from make_loader(dataset, batch_size, workers)
    except BonepipeError as error:
        kind = type(error)
        raise kind(str(error).rpartition(f"{kind.__module__}.{kind.__qualname__}: ")[2].strip()) from error


def _begin(worker: int) -> None:
    """Workers are as many as cores; OpenCV's own threads in each would only get in each other's way."""
    cv2.setNumThreads(0)  # torch sees to its own
    end_with_starter()
