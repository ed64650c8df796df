"""What a disk refuses: the file, the cause and the way out, whatever library met it."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bonepipe import disk
from bonepipe.data import store
from bonepipe.disk import cause, disk_fault, naming, require_file, told
from bonepipe.errors import BonepipeError
from bonepipe.files import read_csv, replacing, write_json

# Every writer of large files against a limit on their size, which stands in for a disk that becomes full.
WRITERS = """
import resource
from pathlib import Path
import numpy as np, torch
from bonepipe.data import store
from bonepipe.disk import told
from bonepipe.files import append_csv, write_csv, write_json
from bonepipe.inference.oof import byte_maps
from bonepipe.report import overlay
from bonepipe.training.checkpoint import AtomicCheckpointIO
from bonepipe.training.fit import save_weights

noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
model, rows = torch.nn.Linear(300, 300), [["x" * 90]] * 2000
packed = [(np.zeros((1, 4), np.int32), noise.tobytes())]
writers = {
    "weights.safetensors": lambda path: save_weights(model, path, {}),
    "last.ckpt": lambda path: AtomicCheckpointIO().save_checkpoint(model.state_dict(), path),
    "oof.csv": lambda path: write_csv(path, ["rle"], rows),
    "journal.csv": lambda path: append_csv(path, rows),
    "scores.json": lambda path: write_json(path, rows),
    "probabilities.npz": lambda path: byte_maps.write(path, ["a"], ["b"], [(1, 1)], packed),
    "overlay.jpg": lambda path: overlay.save(path, noise),
    "mask.png": lambda path: overlay.save(path, noise[..., 0]),
    "images.npy": lambda path: store._make_map(path, (1, 400, 400)),
}
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
for name, write in writers.items():
    try:
        write(Path(name))
        print(f"{name}: written")
    except OSError as error:
        print(told(error))
print(*sorted(path.name for path in Path().iterdir()))
"""


def test_every_writer_names_its_file_and_the_limit_and_leaves_nothing_half_written(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WRITERS], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True
    )
    *lines, left = done.stdout.splitlines()
    names = [
        "weights.safetensors", "last.ckpt", "oof.csv", "journal.csv", "scores.json", "probabilities.npz", "overlay.jpg",
        "mask.png", "images.npy",
    ]  # fmt: skip
    assert [line.partition(": ")[0] for line in lines] == names
    assert all("File too large; a limit on the size of files is reached" in line for line in lines)
    assert left.split() == ["images.npy", "journal.csv"]  # of a store's folder and of a journal, which is appended to


def test_a_map_is_reserved_before_anybody_writes_to_it(tmp_path):
    made = store._make_map(tmp_path / "images.npy", (4, 512, 512))
    assert (tmp_path / "images.npy").stat().st_blocks * 512 >= made.nbytes


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="no posix_fallocate here")
def test_a_disk_that_cannot_hold_a_map_is_an_error_and_no_signal(tmp_path):
    """The file stands for a full disk: nothing on the machine has room for so many bytes."""
    path = tmp_path / "images.npy"
    with path.open("wb") as file:
        file.truncate(1 << 43)  # sparse
    with pytest.raises(OSError, match="images") as told_of:
        disk.reserve(path)
    assert told_of.value.errno in (errno.ENOSPC, errno.EFBIG)


@pytest.mark.parametrize(
    ("number", "way_out"),
    [
        (errno.ENOSPC, "free some space on this disk"),
        (errno.EDQUOT, "your share of this disk is used up"),
        (errno.EROFS, "this disk can only be read"),
        (errno.EACCES, "you may not: change its owner or mode"),
        (errno.ENAMETOOLONG, "choose a shorter name"),
        (errno.ENOTDIR, "a file is in the way where a folder is needed"),
        (errno.EISDIR, "a folder, where a file is needed: name a file"),
    ],
)
def test_each_cause_has_its_way_out(number, way_out):
    error = OSError(number, os.strerror(number), "runs/x/oof.csv")
    assert told(error).startswith(f"runs/x/oof.csv: {os.strerror(number)}; {way_out}")
    assert cause(error) == told(error).removeprefix("runs/x/oof.csv: ")


def test_the_fault_behind_what_a_library_made_of_it_is_found():
    full = OSError(errno.ENOSPC, "No space left on device")
    wrapped = RuntimeError("unexpected pos 640 vs 598")
    wrapped.__context__ = full
    assert disk_fault(wrapped) is full
    fault = disk_fault(ValueError("Error while serializing: I/O error: No space left on device (os error 28)"))
    assert fault is not None and fault.errno == errno.ENOSPC
    assert disk_fault(ValueError("a bug")) is None
    assert disk_fault(BrokenPipeError(errno.EPIPE, "Broken pipe")) is None


def test_an_error_is_named_once_and_others_pass(tmp_path):
    with pytest.raises(OSError, match="No space") as told_of, naming(tmp_path / "x.csv"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert told_of.value.filename == str(tmp_path / "x.csv")
    with pytest.raises(OSError, match="elsewhere"), naming(tmp_path / "x.csv"):
        raise OSError(errno.ENOSPC, "No space left on device", "elsewhere")
    with pytest.raises(BonepipeError, match="bad data"), naming(tmp_path / "x.csv"):
        raise BonepipeError("bad data")
    with pytest.raises(FileNotFoundError) as told_of:
        write_json(tmp_path / "nowhere" / "x.json", {})
    assert told_of.value.filename == str(tmp_path / "nowhere" / "x.json")


def test_a_pipe_is_neither_read_nor_replaced(tmp_path):
    pipe = tmp_path / "table.csv"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="a pipe, a socket or a device"):
        require_file(pipe)
    with pytest.raises(BonepipeError, match=r"table\.csv: cannot be read \(a pipe"):
        read_csv(pipe, ["a"])
    with pytest.raises(OSError, match="a pipe"), replacing(pipe) as part:
        part.write_text("a\n")
    assert pipe.is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


def test_a_folder_in_the_way_of_a_file_is_named(tmp_path):
    (tmp_path / "scores.json").mkdir()
    with pytest.raises(OSError, match="scores") as told_of:
        write_json(tmp_path / "scores.json", {})
    assert Path(told_of.value.filename).name == "scores.json"
    assert [path.name for path in tmp_path.iterdir()] == ["scores.json"]
