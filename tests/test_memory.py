import errno
import os
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from bonepipe import memory
from bonepipe.errors import BonepipeError


class Killing(Dataset):
    """A loader process ends by a signal, as the kernel sends it where memory, or shared memory, runs out."""

    def __init__(self, number):
        self.number = number

    def __len__(self):
        return 2

    def __getitem__(self, index):
        os.kill(os.getpid(), self.number)


def raised(do):
    with pytest.raises(Exception) as caught:
        do()
    return caught.value


@pytest.mark.parametrize(
    ("do", "what"),
    [
        (lambda: torch.empty(2**50), memory.MAIN),
        (lambda: np.empty(2**50), memory.MAIN),
        (lambda: next(iter(DataLoader(Killing(signal.SIGKILL), num_workers=1))), memory.LOADER),
        (lambda: next(iter(DataLoader(Killing(signal.SIGBUS), num_workers=1))), memory.LOADER),
        (lambda: torch.zeros(2) @ torch.zeros(3), None),
        (lambda: cv2.imdecode(np.zeros(0, np.uint8), 0), None),
    ],
)
def test_the_libraries_own_errors_are_told_apart(do, what):
    assert memory.ran_out(raised(do)) == what


def test_what_needs_a_gpu_or_a_full_disk_is_known_by_its_words():
    assert memory.ran_out(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")) == memory.GPU
    assert memory.ran_out(OSError(errno.ENOMEM, "Cannot allocate memory")) == memory.MAIN
    assert memory.ran_out(OSError(errno.ENOSPC, "No space left on device", "/dev/shm/x")) == memory.SHARED
    assert memory.ran_out(OSError(errno.ENOSPC, "No space left on device", "/data/x")) is None


def test_it_is_said_what_to_lower_and_other_errors_pass():
    message = r"^memory ran out while training \(.*\); lower trainer\.batch_size"
    with pytest.raises(BonepipeError, match=message), memory.explained(memory.TRAINING):
        torch.empty(2**50)
    message = r"a loader process was killed .*trainer\.workers .*--shm-size"
    with pytest.raises(BonepipeError, match=message), memory.explained(memory.TRAINING):
        next(iter(DataLoader(Killing(signal.SIGBUS), num_workers=1)))
    with pytest.raises(ZeroDivisionError), memory.explained(memory.TRAINING):
        1 / 0  # noqa: B018


def test_a_peak_is_measured_and_forgotten():
    code = (
        "import numpy as np; from bonepipe import memory as m\n"
        "m.forget_peak('cpu'); a = m.peak('cpu'); np.ones(2**25); b = m.peak('cpu')\n"
        "m.forget_peak('cpu'); print(b - a, m.peak('cpu') - a, m.available('cpu'))"
    )
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    more, after, available = map(float, result.stdout.split())
    assert more > 2**27
    assert after < 2**26
    assert 2**28 < available < 2**50
