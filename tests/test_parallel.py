import contextlib
import importlib
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bonepipe import parallel
from bonepipe.parallel import WAITING, Overlap, cores, let_threads_sleep, overlapped


@pytest.mark.parametrize("ahead", [0, 1, 3, 100])
def test_results_come_in_order_whatever_waits(ahead):
    assert list(overlapped(lambda item: item * item, range(7), ahead)) == [0, 1, 4, 9, 16, 25, 36]


def test_an_item_is_worked_on_while_the_next_is_made():
    made, worked = threading.Event(), threading.Event()

    def items():
        yield 0
        made.set()
        assert worked.wait(10)  # the first item's work ends while this one is being made
        yield 1

    def work(item):
        assert made.wait(10)
        worked.set()
        return item

    assert list(overlapped(work, items(), 1)) == [0, 1]


@pytest.mark.parametrize("ahead", [0, 2])
def test_no_more_items_are_made_than_may_wait(ahead):
    made = []
    stream = overlapped(str, (made.append(item) or item for item in range(9)), ahead)
    for number in range(5):
        assert next(stream) == str(number)
        assert len(made) == number + 1 + ahead


def test_an_error_of_the_items_comes_after_the_results_before_it():
    def items():
        yield 1
        yield 2
        raise RuntimeError("no third")

    stream = overlapped(str, items(), 5)
    assert [next(stream), next(stream)] == ["1", "2"]
    with pytest.raises(RuntimeError, match="no third"):
        next(stream)


def test_an_error_of_the_work_is_raised_and_ends_the_thread():
    before = threading.active_count()
    stream = overlapped(lambda item: 1 // item, [1, 0, 1], 2)
    assert next(stream) == 1
    with pytest.raises(ZeroDivisionError):
        next(stream)
    assert threading.active_count() == before


def test_leaving_early_ends_the_thread():
    before = threading.active_count()
    stream = overlapped(str, range(100), 3)
    next(stream)
    stream.close()
    assert threading.active_count() == before


def test_items_are_worked_on_side_by_side():
    """Each waits for the other."""
    meeting = threading.Barrier(2, timeout=10)
    with Overlap(lambda item: (meeting.wait(), item)[1], ahead=2, workers=2) as overlap:
        assert overlap.put(1) + overlap.put(2) + overlap.rest() == [1, 2]


def test_results_that_are_ready_come_when_more_are_handed_in():
    with Overlap(str, ahead=2, workers=4) as overlap:
        assert [overlap.put(item) for item in range(4)] == [[], [], ["0"], ["1"]]
        assert overlap.rest() == ["2", "3"]
        assert overlap.rest() == []


def test_cores_are_those_of_the_process_or_fewer_if_asked_for(monkeypatch):
    monkeypatch.setattr(parallel.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for share, expected in (("", 8), ("3", 3), ("0", 1), ("99", 8), ("few", 8)):
        monkeypatch.setenv("BONEPIPE_CORES", share)
        assert cores() == expected


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("kind", ["pool", "fork", "forkserver", "spawn"])
def test_processes_end_when_the_one_that_started_them_is_killed(tmp_path, kind):
    command = [sys.executable, Path(__file__).parent / "orphans.py", kind, tmp_path]
    with subprocess.Popen(command, env={**os.environ, "BONEPIPE_CORES": "2"}, stderr=subprocess.DEVNULL) as starter:
        try:
            assert comes_true(lambda: len(list(tmp_path.iterdir())) >= 2, 60)
        finally:
            starter.kill()
    workers = [path.name for path in tmp_path.iterdir()]
    assert comes_true(lambda: not any(runs(number) for number in workers), 15)


def comes_true(condition, seconds):
    end = time.monotonic() + seconds
    while not (done := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return done


def runs(number):
    """Whether a process is there and no zombie, which nobody here may be told of."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path("/proc", number, "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.parametrize("name", [*WAITING])
def test_threads_wait_as_the_user_has_said(name):
    environment = {name: "7"}
    let_threads_sleep(environment)
    assert environment == {name: "7"}


PROGRAM = """
import sys
from bonepipe.cli import main
sys.argv = ["bonepipe", "--version"]
assert main() == 0 and "torch" not in sys.modules
"""
LOADS = {"torch": "import torch", "its library alone": "import ctypes; ctypes.CDLL({library!r})"}


def openmp_of_torch():
    """The file that `import torch` loads."""
    importlib.import_module("torch")
    return next(line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libgomp" in line)


@pytest.mark.skipif(sys.platform != "linux", reason="GNU's OpenMP, which tells its settings, comes with Linux wheels")
@pytest.mark.parametrize(
    ("said", "policy", "spins", "load"),
    [
        ({}, "PASSIVE", 10000, "torch"),
        ({}, "PASSIVE", 10000, "its library alone"),  # which takes no seconds
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE", None, "its library alone"),
        ({"GOMP_SPINCOUNT": "123"}, "PASSIVE", 123, "its library alone"),
    ],
)
def test_the_openmp_that_torch_loads_lets_threads_sleep_unless_told_otherwise(said, policy, spins, load):
    kept = {key: value for key, value in os.environ.items() if key not in WAITING}
    environment = {**kept, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_DISPLAY_ENV": "VERBOSE", **said}
    code = PROGRAM + LOADS[load].format(library=openmp_of_torch())
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert re.search(rf"OMP_WAIT_POLICY = '{policy}'", done.stderr)
    counts = {int(count) for count in re.findall(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr)}
    assert counts == {spins} if spins is not None else min(counts) > 1_000_000
