from pathlib import Path

import cv2
import pytest
import torch
from torch.utils.data import Dataset

import bonepipe
from bonepipe.data.loading import batches, make_loader, reading_processes
from bonepipe.errors import BonepipeError, UsageError


class Threads(Dataset):
    """How many threads the process that reads may use, of torch and of OpenCV."""

    def __getitem__(self, index):
        return torch.tensor([torch.get_num_threads(), cv2.getNumThreads()])

    def __len__(self):
        return 4


class Broken(Dataset):
    """One file is fine, the next is not."""

    def __init__(self, error):
        self.error = error

    def __getitem__(self, index):
        if index:
            try:
                raise ValueError("the cause")
            except ValueError as cause:
                raise self.error from cause
        return index

    def __len__(self):
        return 2


@pytest.fixture
def two_threads():
    """Two for this process, of torch and of OpenCV."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(2)
    cv2.setNumThreads(2)
    yield
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


@pytest.mark.usefixtures("two_threads")
def test_a_process_that_reads_has_one_thread():
    seen = torch.cat(list(batches(Threads(), 2, workers=2)))
    assert seen.tolist() == [[1, 1]] * 4
    assert torch.cat(list(batches(Threads(), 2))).tolist() == [[2, 2]] * 4  # none but this one


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("kind", [BonepipeError, UsageError])
def test_what_is_wrong_is_said_alike_by_this_process_and_another(kind, workers):
    message = "a.png: is no image: BonepipeError; delete it\nor mend it"
    loaded = batches(Broken(kind(message)), 1, workers)
    assert next(loaded).tolist() == [0]
    with pytest.raises(kind) as told:
        next(loaded)
    assert str(told.value) == message


def test_another_error_shows_where_it_arose():
    with pytest.raises(KeyError, match="Traceback"):
        list(batches(Broken(KeyError("x")), 1, workers=1))


def test_processes_that_decode_images(monkeypatch):
    monkeypatch.setattr("bonepipe.data.loading.cores", lambda: 16)
    assert reading_processes(1000) == 0  # the forward passes have all cores
    assert [reading_processes(1000, wanted) for wanted in (0, 3)] == [0, 3]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [reading_processes(images) for images in (1, 8, 96, 300, 10_000)] == [1, 2, 9, 16, 16]
    assert reading_processes(1000, 0) == 0


@pytest.mark.parametrize("gpu", [False, True])
def test_batches_for_a_gpu_are_pinned(monkeypatch, gpu):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert make_loader(Threads(), 2).pin_memory is gpu


def test_all_loaders_are_made_in_one_place():
    folder = Path(bonepipe.__file__).parent
    makers = {path.name for path in folder.rglob("*.py") if "DataLoader(" in path.read_text(encoding="utf-8")}
    assert makers == {"loading.py"}
