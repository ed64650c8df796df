"""Places that cannot be written, through the command line: one line with the path, the cause and the way out."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bonepipe.cli import main
from bonepipe.data.phantom.dataset import write_dataset

WORDS = ["experiment=debug", "data.root=data", "folds.count=2", "device=cpu"]
LONG = "x" * 300


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a dataset, two CSVs, and a file where folders are expected."""
    folder = tmp_path_factory.mktemp("place")
    write_dataset(folder / "data", 4, 2, 128, seed=0, workers=0)
    (folder / "file").write_text("in the way")
    (folder / "a.csv").write_text("image_name,class,rle\nx.png,Ulna,1 2\n")
    return folder


@pytest.fixture
def assert_refused(place, monkeypatch, capsys):
    """A function: a command must fail with one message that has these parts, and no traceback."""
    monkeypatch.chdir(place)
    monkeypatch.delenv("BONEPIPE_TRACEBACK", raising=False)

    def run(words, *parts):
        before = sorted(Path().rglob("*"))
        assert main(words) in (1, 2)
        told = capsys.readouterr().err
        (message,) = [line for line in told.splitlines() if line.startswith("bonepipe ")]
        for part in parts:
            assert part in message
        assert "Traceback" not in told
        assert sorted(path for path in Path().rglob("*") if ".store" not in path.parts) == before

    return run


COMMANDS = {
    "split": ["split", *WORDS, "folds.file=OUT.csv"],
    "phantom": ["phantom", "OUT", "--patients", "1", "--test-patients", "1", "--size", "64"],
    "vote": ["vote", "a.csv", "a.csv", "-o", "OUT.csv"],
    "convert": ["convert", "data", "-o", "OUT.json", "--to", "coco"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_where_a_folder_is_needed(assert_refused, command):
    words = [word.replace("OUT", "file/out") for word in COMMANDS[command]]
    assert_refused(words, "file", "a file is in the way where a folder is needed: move it away")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_name_of_300_letters(assert_refused, command):
    words = [word.replace("OUT", LONG) for word in COMMANDS[command]]
    assert_refused(words, LONG, "File name too long; choose a shorter name")


@pytest.mark.parametrize("runs", ["file", "file/runs", LONG])
def test_runs_that_cannot_be_a_folder(assert_refused, runs):
    words = ["folds.file=folds.csv", f"runs={runs}"]
    assert main(["split", *WORDS, "folds.file=folds.csv"]) == 0
    assert_refused(["train", "fold=0", *WORDS, *words], runs)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_results_that_cannot_be_printed_are_told_with_the_way_out(place):
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "bonepipe", "--help"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "No space left on device; free some space on this disk" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_pipe_among_the_outputs_is_not_replaced(assert_refused, place):
    os.mkfifo(place / "pipe.csv")
    try:
        assert_refused(["vote", "a.csv", "a.csv", "-o", "pipe.csv"], "pipe.csv: ", "a pipe, a socket or a device")
        assert (place / "pipe.csv").is_fifo()
    finally:
        (place / "pipe.csv").unlink()
