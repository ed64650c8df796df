"""Memory: how much there is, how much was used, and what to lower where it ran out, instead of a traceback."""

import contextlib
import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bonepipe.errors import BonepipeError

GPU, MAIN, SHARED, LOADER = "GPU memory", "memory", "shared memory", "a loader process"
SIGNS = {  # of what ran out, in the words of torch, OpenCV and the C++ library; the first that fits counts
    GPU: r"(CUDA|HIP|MPS|XPU)\b.*out of memory|(CUBLAS|CUDNN)_STATUS_ALLOC_FAILED",
    SHARED: r"Bus error|shared memory|torch_\w+.*(No space left|Cannot allocate)",
    LOADER: r"DataLoader worker .*(killed by signal|exited unexpectedly)",
    MAIN: r"(can't|cannot|not enough|unable to) (allocate )?memory|insufficient memory|failed to allocate|bad_alloc"
    "|can't start new thread|could not create a (primitive|memory object)",  # the latter are oneDNN's
}
KILLED = frozenset((-9, 137))  # exit codes of a process that the kernel ended, as seen from Python and from a shell


@dataclass(frozen=True)
class Work:
    """What was being done when memory ran out.

    Attributes:
        name: in words.
        remedies: what to lower.
        workers: the setting of the number of loader processes.
    """

    name: str
    remedies: str
    workers: str = "trainer.workers"


TRAINING = Work(
    "training",
    "lower trainer.batch_size (trainer.accumulate makes up for it; trainer.batch_size=auto finds what fits, and anew "
    "where a run's batch_size.json is deleted) or data.size, or choose trainer.precision=bf16 or a smaller model. What "
    "is finished is kept: the same command goes on from the last epoch, and other settings need a name=... of their "
    "own once there is one",
)
PREDICTION = Work(
    "predicting",
    "lower prediction.batch_size, windows.batch_size or prediction.ahead, or predict in windows (windows=sliding) or "
    "with device=cpu. What is finished is kept: the same command goes on",
    "prediction.workers",
)
ANYTHING = Work("working", "close other programs, or run it where there is more")


def ran_out(error: BaseException) -> str | None:
    """What ran out, as an error says: GPU, MAIN or SHARED memory, or LOADER; None where it is about something else."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return MAIN
    if isinstance(error, OSError):
        return SHARED if error.errno == errno.ENOSPC and "/dev/shm" in str(error) else None
    if not isinstance(error, RuntimeError) and type(error).__module__ != "cv2":
        return None
    return next((what for what, sign in SIGNS.items() if re.search(sign, str(error), re.IGNORECASE)), None)


@contextlib.contextmanager
def explained(work: Work) -> Iterator[None]:
    """Raise BonepipeError, saying what to lower, where memory runs out; any other error passes."""
    try:
        yield
    except Exception as error:
        if (what := ran_out(error)) is None:
            raise
        raise BonepipeError(f"{_loss(what, work)} ({_first_sentence(error)}); {_remedies(what, work)}") from error


def _loss(what: str, work: Work) -> str:
    return f"{what} was killed while {work.name}" if what == LOADER else f"{what} ran out while {work.name}"


def _remedies(what: str, work: Work) -> str:
    if what == SHARED:
        return f"lower {work.workers} (0 needs none), or enlarge /dev/shm (docker run --shm-size=8g)"
    if what == LOADER:
        shared = "where a bus error is reported, enlarge /dev/shm (docker run --shm-size=8g)"
        return (
            f"that is mostly for lack of memory: lower {work.workers} (0 starts none); {shared}; else {work.remedies}"
        )
    return work.remedies


def _first_sentence(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return re.split(r"(?<=[a-z0-9])\. ", text)[0][:200]


def available(device: str) -> float:
    """Bytes that this process may come to use on a device (`cpu` or `cuda`), those that it has among them.

    Infinite where nobody can tell: whoever asks for too much then meets an error.
    """
    if device == "cuda":
        import torch

        return float(torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved())
    if device != "cpu":
        return float("inf")
    free = [_kilobytes("/proc/meminfo", "MemAvailable"), _left_in_container()]
    return _kilobytes("/proc/self/status", "VmRSS", 0) + min(free)


def described(device: str) -> str:
    """A device and, of a GPU, which one: what fits into one need not fit into another."""
    if device != "cuda":
        return device
    import torch

    of_gpu = torch.cuda.get_device_properties(torch.cuda.current_device())
    return f"{device} ({of_gpu.name}, {of_gpu.total_memory} bytes)"


def _kilobytes(path: str, key: str, default: float = float("inf")) -> float:
    """A line of a file of the kernel's, in bytes."""
    with contextlib.suppress(OSError):
        match = re.search(rf"^{key}:\s+(\d+) kB", Path(path).read_text(encoding="utf-8"), re.MULTILINE)
        return 1024.0 * int(match[1]) if match else default
    return default


def _left_in_container(folder: Path = Path("/sys/fs/cgroup")) -> float:
    """Bytes that the container's limit leaves; infinite where there is none."""
    try:
        limit, used = ((folder / name).read_text(encoding="ascii").strip() for name in ("memory.max", "memory.current"))
        return float("inf") if limit == "max" else float(limit) - float(used)
    except (OSError, ValueError):
        return float("inf")


def forget_peak(device: str) -> None:
    """Begin to measure anew, with what nothing refers to given back."""
    import gc

    gc.collect()
    if device == "cuda":
        import torch

        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # VmHWM, see proc(5)


def peak(device: str) -> float:
    """The most bytes that this process has used on a device since `forget_peak`; 0 where nobody can tell."""
    if device == "cuda":
        import torch

        return float(torch.cuda.max_memory_reserved())
    return _kilobytes("/proc/self/status", "VmHWM", 0) if device == "cpu" else 0.0
